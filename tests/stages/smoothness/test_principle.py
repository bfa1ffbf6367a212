"""A trial's rows are about the model that it made; what is made is not made again."""

import json
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from own_answers import OwnAnswers
from tiny import TEXT

from quantcliff import models
from quantcliff.quantizers.healing import REPORT
from quantcliff.stages import healing
from quantcliff.stages.macro import document_losses
from quantcliff.stages.smoothness import principle
from quantcliff.stages.smoothness.principle import Trial
from quantcliff.study import Study
from quantcliff.tracing import Runner, score


@pytest.fixture
def study(tiny_llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Study:
    trials = sys.modules["quantcliff.stages.healing.trials"]
    monkeypatch.setattr(trials, "documents", lambda sequences: TEXT * 40)
    monkeypatch.setattr(principle, "running_text", lambda study: TEXT)
    found = OwnAnswers(tiny_llama, method="rtn", bits="2", group_size=16, n_facts=40, run=tmp_path / "run")
    monkeypatch.setattr(trials, "atlas", SimpleNamespace(NAME=found.parameters.model))  # it stands for the embedded one
    return found


def test_a_trial_is_asked_what_it_was_not_told(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    trial = Trial(0.1, "random", 1)
    found = principle.tried(study, trial, sequences=8)
    folder = healing.checkpoint(study, "rtn-2bit-g16", trial.arm(8))
    report = json.loads((folder / REPORT).read_text())
    assert report["recipe"]["smooth"] == 0.1 and report["recipe"]["along"] == "random" and report["recipe"]["seed"] == 1
    unseen = ~healing.healing_half(study.known)
    assert found["fact"].tolist() == np.flatnonzero(unseen).tolist() and 0 < len(found) < 40
    runner = Runner(models.load(folder))
    rank = score(runner, study.known)["rank"].to_numpy()
    assert (found["kept"] == (rank[unseen] == 1)).all()
    encoded = [study.base.tokenizer(text).input_ids for text in TEXT]
    losses, tokens = document_losses(runner, encoded), np.array([len(ids) - 1 for ids in encoded])
    first = found.iloc[0]
    assert first["validation"] == pytest.approx(losses[::2].sum() / tokens[::2].sum())
    assert first["test"] == pytest.approx(losses[1::2].sum() / tokens[1::2].sum())
    kept = [row for row in report["course"] if row["kept"]]
    assert len(kept) == 3 and first["reconstruction"] == pytest.approx(np.mean([row["normalised"] for row in kept]))
    assert first["gradient"] == pytest.approx(np.mean([row["gradient"] for row in kept]))
    one = principle.whole(found).iloc[0]
    assert (one["estimate"], one["n"]) == (found["kept"].mean(), len(found)) and one["low"] <= one["estimate"] <= one[
        "high"
    ]

    def never(*given: object) -> None:
        raise AssertionError("made again")

    monkeypatch.setattr(principle, "checkpoint", never)
    assert (principle.tried(study, trial, sequences=8)["kept"] == found["kept"]).all()
    with pytest.raises(AssertionError, match="made again"):
        principle.tried(study, Trial(0.2, "random", 1), sequences=8)


def test_all_trials_of_a_method(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Trial] = []
    real = principle.tried

    def noted(study: Study, trial: Trial, sequences: int):
        asked.append(trial)
        return real(study, Trial(0.0), 8).assign(weight=trial.weight, along=trial.along, seed=trial.seed,
                                                 validation=3 - trial.weight)  # fmt: skip

    monkeypatch.setattr(principle, "tried", noted)
    rows = principle.make(study, 8, seeds=2)
    assert [(one.weight, one.along, one.seed) for one in asked] == [
        (0.0, "gradient", 0), (0.01, "gradient", 0), (0.1, "gradient", 0), (1.0, "gradient", 0), (1.0, "random", 0),
        (0.0, "gradient", 1), (1.0, "gradient", 1), (1.0, "random", 1),
    ]  # fmt: skip
    assert len(principle.whole(rows)) == 8
