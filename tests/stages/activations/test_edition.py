"""What ships: tables that are whole, and a part of them made again."""

import numpy as np
import pytest

from quantcliff import models, smollm2
from quantcliff.stages import activations
from quantcliff.stages.activations import edition, tasks
from quantcliff.stages.smollm2 import Shipped
from quantcliff.tracing import Runner


def test_the_shipped_tables_are_those_of_the_command() -> None:
    shipped = Shipped(activations.FOLDER)
    assert shipped.made["command"] == "quantcliff smollm2 activations RUN"
    assert {name: shipped.made[name] for name in edition.SIZES} == edition.SIZES
    tables = {name: shipped.table(name) for name in shipped.made["files"]}
    assert {"ways", "massive", "again", "tasks", "heads"} <= set(tables)
    kept = tables["ways"].query("measure == 'kept'").set_index("way")
    assert {"W16A8", "W16A4", "W16A4 rotated", "K2", "V2", "KV2 KIVI"} <= set(kept.index)
    assert (kept["low"] <= kept["estimate"] + 1e-9).all() and (kept["estimate"] <= kept["high"]).all()
    assert set(tables["again"]["way"]) <= set(edition.AGAIN)


def test_a_part_of_them_again() -> None:
    """The induction heads of SmolLM2 in full precision, by their attention."""
    if not smollm2.folder().is_dir():
        pytest.skip(smollm2.HOW)
    before = Shipped(activations.FOLDER).table("heads").query("variant == 'full'")
    own = tasks.induction(Runner(models.load("smollm2")))
    assert {tuple(place) for place in np.argwhere(own > 0.3)} == set(zip(before["layer"], before["head"], strict=True))
    again = own[before["layer"].to_numpy(), before["head"].to_numpy()]
    assert np.allclose(again, before["score"], atol=1e-3)
