"""Facts that are none, models of about equal size, and a training of both that survives a kill."""

from collections import Counter
from functools import partial
from pathlib import Path

import pandas as pd
import pytest
import torch
from click.testing import CliRunner

from quantcliff.atlas import load_facts, prompt
from quantcliff.errors import InputError
from quantcliff.probes import facts as fact_sources
from quantcliff.training import density
from quantcliff.training import train as training
from quantcliff.workshop import atlas

REAL = load_facts()


@pytest.fixture(scope="module")
def invented() -> tuple:
    return density.invent(REAL, 4000)


def test_no_invented_fact_is_a_real_one_and_none_stands_twice(invented: tuple) -> None:
    subjects = {fact.subject for fact in invented}
    assert len(subjects) == len(invented) == 4000
    assert not subjects & {fact.subject for fact in REAL}
    assert [fact.rank for fact in invented] == list(range(len(REAL), len(REAL) + 4000))


def test_an_answer_is_one_of_its_relation_and_is_not_given_away(invented: tuple) -> None:
    answers = {(fact.relation, fact.object) for fact in REAL}
    words = {(fact.relation, word) for fact in REAL for word in fact.subject.split()}
    for fact in invented:
        assert (fact.relation, fact.object) in answers
        assert fact.object.lower() not in fact.subject.lower()
        assert all((fact.relation, word) in words for word in fact.subject.split())


def test_relations_and_answers_are_as_frequent_as_among_real_facts(invented: tuple) -> None:
    """A share of n draws lies within four standard errors; draws that are refused (a subject that is real or taken)
    move it a little more."""
    for name in ("relation", "object"):
        real, own = (Counter(getattr(fact, name) for fact in facts) for facts in (REAL, invented))
        for value, count in real.most_common(10):
            share = count / len(REAL)
            assert abs(own[value] / 4000 - share) < 4 * (share * (1 - share) / 4000) ** 0.5 + 0.1 * share, value


def test_fewer_facts_begin_more_of_them() -> None:
    few, more = (density.facts(len(REAL) + n) for n in (20, 60))
    assert more[: len(few)] == few and few[: len(REAL)] == REAL
    assert density.facts(50) == REAL[:50]
    assert density.invent(REAL, 20, seed=1) != density.invent(REAL, 20)
    with pytest.raises(InputError, match="at least 1"):
        density.facts(0)


@pytest.mark.parametrize("layers", [2, 4, 8, 16])
def test_models_of_any_depth_have_about_equal_parameters(layers: int) -> None:
    recipe = density.recipe(layers=layers)
    built = sum(parameter.numel() for parameter in training.build_model(recipe).parameters())
    assert density.parameters(recipe) == built
    assert recipe.layers == layers and recipe.width % density.STEP == 0
    off = abs(built - density.parameters(training.Recipe()))
    for width in (recipe.width - density.STEP, recipe.width + density.STEP):
        other = training.Recipe(layers=layers, width=width, ffn=2 * width)
        assert off <= abs(density.parameters(other) - density.parameters(training.Recipe()))


def test_the_embedded_recipe_is_changed_in_what_is_asked_alone() -> None:
    assert density.recipe() == density.recipe(layers=8) == training.Recipe()
    assert density.recipe(500, 16) == training.Recipe(facts=500, layers=16, width=96, ffn=192)
    for wrong in ({"n_facts": 0}, {"layers": 0}):
        with pytest.raises(InputError, match="give at least 1"):
            density.recipe(**wrong)


def test_the_fact_file_is_read_as_any_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(density, "load_facts", lambda: REAL[:300])
    told = density.facts(400)
    density.write(told, tmp_path)
    rows = fact_sources.load(tmp_path / "facts.csv").rows
    found = [(row.relation, row.subject, *row.objects, row.prompt) for row in rows.itertuples()]
    assert found == [(fact.relation, fact.subject, fact.object, prompt(fact)) for fact in told]
    written = pd.read_csv(tmp_path / "facts.csv")
    assert written["invented"].tolist() == [0] * 300 + [1] * 100
    assert written["band"].is_monotonic_increasing and written["band"].nunique() == 5
    assert "300 of the 400 facts" in (tmp_path / "README.md").read_text()


def test_a_killed_training_by_the_command_line_ends_in_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """30 real facts and 10 invented ones, 2 layers."""
    small = partial(
        training.Recipe, vocab=600, length=16, batch=4, steps=8, stop=6, warmup=2, teach_facts=20, teach_steps=2
    )
    monkeypatch.setattr(density, "Recipe", small)
    for module in (density, training):
        monkeypatch.setattr(module, "load_facts", lambda: REAL[:30])
    monkeypatch.setattr(training, "train", partial(training.train, save_every=2))
    real = training.save_checkpoint

    def killed(*arguments) -> None:
        real(*arguments)
        if arguments[-1] == 4:
            raise KeyboardInterrupt

    def run(folder: str) -> int:
        given = ["train", str(tmp_path / folder), "--facts", "40", "--layers", "2", "--device", "cpu"]
        return CliRunner().invoke(atlas, given).exit_code

    with torch._dynamo.config.patch(disable=True):
        assert run("whole") == 0
        monkeypatch.setattr(training, "save_checkpoint", killed)
        assert run("killed") != 0 and not (tmp_path / "killed" / "model").exists()
        monkeypatch.setattr(training, "save_checkpoint", real)
        assert run("killed") == 0
    for name in ("model/model.safetensors", "model/config.json", "facts.csv"):
        assert (tmp_path / "killed" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name
    assert len(fact_sources.load(tmp_path / "whole" / "facts.csv").rows) == 40
