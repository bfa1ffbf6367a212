"""Two texts, one model: what each keeps, and the difference in pairs."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from tiny import random_probes

from quantcliff.stages.smollm2 import compare
from quantcliff.study import Study


class Asked(Study):
    """A study of one variant whose known prompts have these ranks."""

    def __init__(self, text: str, ranks: list[int]):
        self.parameters = SimpleNamespace(calibration=text, seed=0)  # type: ignore[assignment]
        self.variants = {"gptq-2bit": SimpleNamespace(method="gptq", bits=2)}  # type: ignore[dict-item]
        self.ranks = ranks

    def known_scores(self, label: str) -> pd.DataFrame:
        return pd.DataFrame({"rank": self.ranks})


def test_what_each_text_keeps_and_how_it_differs_from_the_first() -> None:
    found = compare([Asked("one", [1, 1, 1, 9, 5, 7]), Asked("two", [1, 2, 1, 1, 3, 1])])
    value = found.set_index(["calibration", "measure"])["estimate"]
    assert value["one", "kept"] == 0.5 and value["two", "kept"] == pytest.approx(4 / 6)
    assert value["one", "lost_rank"] == 7 and value["two", "lost_rank"] == 2.5
    assert value["two", "difference"] == pytest.approx(1 / 6) and value["two", "same"] == 0.5
    assert ("one", "difference") not in value.index and (found["n"] > 0).all()


def test_a_text_that_loses_nothing_has_no_rank_of_the_lost() -> None:
    found = compare([Asked("one", [1] * 40)])
    assert found["measure"].tolist() == ["kept"]
    assert np.isclose(found["high"].iloc[0], 1) and found["low"].iloc[0] > 0.9


def test_real_studies_share_the_prompts_that_full_precision_knows(tiny_llama: Path, tmp_path: Path) -> None:
    words = tmp_path / "text.txt"
    words.write_text("\n".join(f"sentence {number} of a text" for number in range(20)))
    studies = []
    for text in ("atlas", str(words)):
        study = Study(tiny_llama, method="gptq", bits="2", group_size=16, calibration=text, run=tmp_path / "run")
        study.probes = random_probes(12)
        study.known = study.probes
        study.known_scores = study.scores  # type: ignore[method-assign]
        studies.append(study)
    found = compare(studies)
    assert found.query("measure == 'kept'")["calibration"].tolist() == ["atlas", str(words)]
    assert len({study.variant("gptq-2bit-g16").path for study in studies}) == 2
