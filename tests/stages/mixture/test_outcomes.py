"""Models are compared on the same rows."""

import numpy as np
import pandas as pd
import pytest

from quantcliff.stages.mixture import outcomes
from quantcliff.stages.mixture.losses import Losses


def losses(shift: float, right: list[int], copies: int = 4) -> Losses:
    return Losses(
        np.arange(6.0) + shift, np.array(right, dtype=bool), np.ones(6), np.arange(1.0, 4) * 10 + 30 * shift,
        np.array([10, 20, 30]), np.arange(float(copies)) + 2 * shift,
    )  # fmt: skip


ONE, OTHER = losses(0.0, [1, 1, 1, 0, 1, 1]), losses(0.5, [1, 0, 1, 0, 0, 1])


def test_means_are_those_of_the_losses() -> None:
    found = outcomes.means(outcomes.rows_of(OTHER))
    assert found == {"kept": 0.5, "facts": 3.0, "text": (60 + 45) / 60, "copies": 2.5}
    assert {name: found[name] for name in ("facts", "text", "copies")} == OTHER.total()


def test_differences_are_paired_and_text_is_weighed_by_tokens() -> None:
    found = outcomes.compared(outcomes.rows_of(OTHER), outcomes.rows_of(ONE)).set_index("measure")
    assert found["estimate"].to_dict() == pytest.approx({"kept": -2 / 6, "facts": 0.5, "text": 45 / 60, "copies": 1.0})
    assert found.loc["facts", "low"] == pytest.approx(0.5) == found.loc["facts", "high"], "all facts lose as much"
    assert found.loc["kept", "low"] < -2 / 6 < found.loc["kept", "high"] <= 0
    assert found["n"].tolist() == [6, 6, 3, 4]
    none = outcomes.compared(*[outcomes.rows_of(losses(0.0, [1] * 6, 0))] * 2)
    assert list(none["measure"]) == ["kept", "facts", "text"]
    assert isinstance(none, pd.DataFrame) and (none["estimate"] == 0).all()
