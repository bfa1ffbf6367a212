"""SmolLM2's tables are what they say they are; facts are parted by the text; an arm is rebuilt from its tensors."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from own_answers import OwnAnswers
from safetensors.torch import load_file, save_file
from tiny import TEXT

from quantcliff import smollm2 as model
from quantcliff import tables
from quantcliff.charts import healing as charts
from quantcliff.errors import InputError
from quantcliff.quantizers import Scheme, healing, quantize
from quantcliff.quantizers.healing import Recipe
from quantcliff.stages import verdict
from quantcliff.stages.healing import ATTENTION, Arm, add, checkpoint, gains, named, row
from quantcliff.stages.healing import smollm2 as edition
from quantcliff.stages.healing import trials as module
from quantcliff.stages.smollm2 import Shipped

SHIPPED = Shipped(edition.FOLDER)
needed = pytest.mark.skipif(not (edition.FOLDER / "made.json").is_file(), reason="no tables of SmolLM2 are shipped yet")


@needed
def test_every_shipped_table_is_whole() -> None:
    made = SHIPPED.made
    assert {"rates", "healing", "beside"} <= set(made["files"]) and len(made["commit"]) == 40
    assert sum(path.stat().st_size for path in edition.FOLDER.iterdir()) < 3e5, "small enough for git"
    found, judged, rates = (SHIPPED.table(name) for name in ("healing", "beside", "rates"))
    recipe = edition.chosen(rates)
    assert (recipe.lr_grid, recipe.lr_weight) == (made["lr_grid"], made["lr_weight"])
    assert len(rates) == len(edition.RATES) ** 2 * len(edition.TRIED) * (recipe.epochs + 1)
    assert edition.missing(found, recipe) == made["not_reached"]
    planned = [(m, arm.name, arm.sequences) for m in edition.METHODS for arm in edition.arms(m, recipe)]
    there = list(dict.fromkeys(found[["method", "arm", "sequences"]].itertuples(index=False, name=None)))
    assert there == [one for one in planned if one in there]
    assert len(there) + len(made["not_reached"]) == len(planned)
    kept = found[found["measure"] == "kept"]
    assert kept["n"].nunique() == 1 and (kept["low"] <= kept["estimate"]).all()
    assert (kept["estimate"] <= kept["high"]).all()
    for method in edition.METHODS:
        for arm, n in (("as it is", 0), ("healed", edition.EQUAL)):
            here = judged[judged["model"] == edition.model_of(method, arm, n)]
            (few,) = here[here["signal"] == "accuracy kept"]["value"]
            whole = row(found, arm, n, "all", method=method)
            assert whole["low"] - 0.02 < few < whole["high"] + 0.02 and ATTENTION in set(here["signal"])


@needed
def test_most_subjects_are_never_named_and_the_rebuilt_model_is_the_healed_one() -> None:
    found, told = SHIPPED.table("healing"), SHIPPED.table("named")
    kept = told[told["measure"] == "kept"].set_index("part")
    assert kept.loc["never named", "n"] + kept.loc["named", "n"] == kept.loc["all", "n"]
    assert kept.loc["told", "n"] <= kept.loc["named", "n"] < 0.1 * kept.loc["all", "n"]
    assert SHIPPED.made["later"]["named"]["machine"] != SHIPPED.made["machine"]
    held = edition.rules(found, told)
    assert len(held) == 7 and all(list(held.values())[-1:]), "its share of all facts lies in the interval"
    never = told.assign(estimate=told["estimate"].mask(told["part"] == "never named", 0.0))
    assert list(edition.rules(found, never).values())[-2:] == [False, True]


@needed
def test_the_rules_and_what_the_advice_expects_follow_from_the_tables() -> None:
    found = SHIPPED.table("healing")
    held = edition.rules(found)
    assert len(held) == 5
    bare, healed = (row(found, *one, "all", method="rtn") for one in (("as it is", 0), ("healed", edition.EQUAL)))
    assert held["Healing works (rtn): the interval of the share kept lies above that of the model as it is."] == (
        healed["low"] > bare["high"]
    )
    at = (found["arm"] == "wrong target") & (found["measure"] == "kept")
    changed = found.assign(estimate=found["estimate"].mask(at, healed["estimate"]))
    assert [words for words, held in edition.rules(changed).items() if not held] == [
        "It needs the right target: the wrong one brings back less than a tenth of what the right one does."
    ]
    known = gains().set_index(["model", "method"])
    assert known.loc[("smollm2", "rtn"), "after"] == healed["estimate"]
    judged = SHIPPED.table("beside")
    for method in edition.METHODS:
        here = judged[(judged["model"] == edition.model_of(method, "as it is", 0)) & (judged["signal"] != ATTENTION)]
        assert known.loc[("smollm2", method), "mode"] == verdict.decide(method, here).mode


@needed
def test_the_chart_says_what_it_shows() -> None:
    words = charts.smollm2(SHIPPED.table("healing")).to_dict()["description"]
    healed = row(SHIPPED.table("healing"), "healed", edition.EQUAL, "all", method="rtn")
    assert f"rounding, healed, 131,072 tokens: {healed['estimate']:.1%}" in words
    assert "GPTQ, healed, 0 tokens" not in words


def test_the_chosen_rates_have_the_least_mean_log_loss() -> None:
    rows = [
        {"lr_grid": grid, "lr_weight": 0.1, "layer": layer, "epoch": epoch, "normalised": loss, "kept": float(kept)}
        for grid, losses in ((0.1, (0.5, 0.5)), (0.2, (1.0, 0.2)))
        for layer, after in enumerate(losses)
        for epoch, loss, kept in ((0, 1.0, after == 1.0), (1, after if after < 1 else 2.0, after < 1))
    ]  # fmt: skip
    assert edition.chosen(pd.DataFrame(rows)).lr_grid == 0.2, "log .2 is below twice log .5"
    rows[-1]["normalised"] = 0.3
    assert edition.chosen(pd.DataFrame(rows)).lr_grid == 0.1


def test_what_lies_in_a_run_folder_is_collected(tmp_path: Path) -> None:
    recipe = Recipe()
    rates = pd.DataFrame({"lr_grid": recipe.lr_grid, "lr_weight": recipe.lr_weight, "layer": 0, "epoch": [0, 1],
                          "normalised": [1.0, 0.5], "kept": [0.0, 1.0]})  # fmt: skip
    tables.write(rates, tmp_path / "rates.parquet")
    with pytest.raises(InputError, match="holds no arm"):
        edition.collected(tmp_path)
    for number, (arm, n) in enumerate([("healed", 2048), ("as it is", 0)]):
        table = pd.DataFrame({"method": ["rtn"], "arm": [arm], "sequences": [n]})
        tables.write(table, tmp_path / "rtn" / "healing" / f"{number}.parquet")
    for folder in ("rtn-2bit-g64-0123", "rtn-2bit-g64-wrong-target-2048-4567"):
        for name in ("verdict", "attention"):
            tables.write(pd.DataFrame({"signal": [name]}), tmp_path / "rtn" / "beside" / folder / f"{name}.parquet")
    found = edition.collected(tmp_path)
    assert set(found) == {"rates", "healing", "beside"} and found["healing"]["sequences"].tolist() == [0, 2048]
    assert found["beside"]["model"].tolist() == 2 * ["rtn, as it is"] + 2 * ["rtn, wrong target 2048"]
    absent = edition.missing(found["healing"], recipe)
    assert "rtn, healed 8192" in absent and "gptq, as it is" in absent and "rtn, healed 2048" not in absent
    tables.ship(found, {"command": "c", "commit": "0" * 40}, tmp_path / "out")
    add("named", rates, {"machine": "m"}, tmp_path / "out")
    shipped = Shipped(tmp_path / "out")
    assert shipped.made["later"] == {"named": {"machine": "m"}} and shipped.table("named").equals(rates)
    tables.write(table, tmp_path / "rtn" / "healing" / "2.parquet")
    with pytest.raises(InputError, match="two versions of the arm rtn as it is 0"):
        edition.collected(tmp_path)


def test_facts_are_parted_by_what_the_text_names() -> None:
    facts = pd.DataFrame({
        "subject": ["Rome", "Swiss Civil Code", "Italy", "Manitoba Act, 1870", "Gaul"],
        "object": ["Italy", "Bern | Switzerland", "Rome", "Canada", "Roman"],
    })  # fmt: skip
    text = ["of ITALY, and Romeo", "The Swiss\nCivil Code is law in Switzerland.", "in Rome", "Gaul", "a Roman"]
    found = named.parts(facts, text)
    assert found["named"].tolist() == [True, True, True, False, True]
    assert found["told"].tolist() == [False, True, False, False, False]
    assert (found["never named"] == ~found["named"]).all()


def test_an_arm_is_rebuilt_from_its_packed_tensors(
    tiny_llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "own_documents", lambda model, sequences: TEXT * 40)
    monkeypatch.setattr(named, "own_documents", lambda model, sequences: TEXT * 40)
    arm = Arm("healed", 8, Recipe(epochs=1, batch=8))
    studies = [OwnAnswers(tiny_llama, method="rtn", bits="2", group_size=16, n_facts=40, run=tmp_path / name)
               for name in ("there", "here")]  # fmt: skip
    made = checkpoint(studies[0], "rtn-2bit-g16", arm)
    tensors = {name: tensor for name, tensor in load_file(made / "model.safetensors").items() if ".weight_" in name}
    files = [tmp_path / "1.safetensors", tmp_path / "2.safetensors"]
    for file, part in zip(files, (sorted(tensors)[::2], sorted(tensors)[1::2]), strict=True):
        save_file({name: tensors[name] for name in part}, file)
    with pytest.raises(InputError, match="are not the packed matrices of"):
        named.rebuild(studies[1], arm, files[:1])
    again = named.rebuild(studies[1], arm, files)
    assert again.name == made.name and checkpoint(studies[1], "rtn-2bit-g16", arm) == again
    first, second = (load_file(folder / "model.safetensors") for folder in (made, again))
    assert set(first) == set(second)
    assert all(np.array_equal(first[name].numpy(), second[name].numpy()) for name in first)
    found = named.measure(studies[1], arm)
    kept = found[found["measure"] == "kept"].set_index("part")
    parts = named.parts(studies[1].known.table, TEXT)
    for part in named.PARTS:
        assert part not in kept.index or kept.loc[part, "n"] == parts[part].sum()
    assert sum(kept["n"].get(part, 0) for part in ("never named", "named")) == kept.loc["all", "n"]


@needed
@pytest.mark.skipif(not model.folder().is_dir(), reason=f"SmolLM2 is not here: {model.HOW}")
def test_the_rate_that_was_chosen_lowers_the_loss_of_a_layer_here_too(tmp_path: Path) -> None:
    """The first layer of the sweep, on a few sequences of other text: as far off before as in the table, and nearer
    after."""
    rounded = quantize(model.NAME, Scheme("rtn", 2, 64, layers=(0,)), (), tmp_path)
    text = [fact.prompt for fact in pd.read_csv(model.FACTS).itertuples()]
    recipe = edition.chosen(SHIPPED.table("rates"))
    rows = pd.DataFrame(healing.tried(model.NAME, rounded, text, [recipe], [0], tokens=64, sequences=64))
    rates = SHIPPED.table("rates").query("layer == 0 and lr_grid == @recipe.lr_grid and lr_weight == @recipe.lr_weight")
    before, there = (table[table["epoch"] == 0]["normalised"].item() for table in (rows, rates))
    assert before == pytest.approx(there, rel=0.5)
    assert rows[rows["kept"] == 1]["normalised"].item() < 0.9 * before
