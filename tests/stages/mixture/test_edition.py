"""The shipped tables are whole, a part of them comes out again, and `quantcliff allocate` uses them."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from own_answers import OwnAnswers
from tiny import TEXT

from quantcliff import cli, models, smollm2
from quantcliff.models import config_of, linears
from quantcliff.quantizers.scheme import stored_bits
from quantcliff.stages import mixture
from quantcliff.stages.mixture import edition, findings, outcomes
from quantcliff.stages.mixture.rules import MAIN
from quantcliff.stages.smollm2 import Shipped


@pytest.fixture(scope="module")
def shipped() -> Shipped:
    return Shipped(mixture.FOLDER)


@pytest.fixture(scope="module")
def atlas(shipped: Shipped) -> dict[str, pd.DataFrame]:
    return findings.of_model({name: shipped.table(name) for name in mixture.TABLES}, "atlas")


def test_the_tables_are_whole(shipped: Shipped, atlas: dict[str, pd.DataFrame]) -> None:
    assert set(shipped.made["files"]) == set(mixture.TABLES) and "atlas" in shipped.made["models"]
    assert all(len(about["commit"]) == 40 for about in shipped.made["made"].values())
    assert sum(path.stat().st_size for path in mixture.FOLDER.iterdir()) < 8e5, "small enough for git"
    table = atlas["sensitivity"]
    assert table[table["unit"] != ""].groupby(["way", "bits"])["unit"].nunique().eq(56).all()
    arms = atlas["arms"]
    assert (
        set(arms["budget"].dropna()) == set(edition.TRIED_BUDGETS) and (arms["bits"] <= arms["budget"].fillna(9)).all()
    )
    assert (arms["budget"].fillna(3.5) - arms["bits"]).where(arms["arm"] == "both").max() < 0.05, "and it is spent"
    assert (arms["arm"] == "random").sum() == 20


def test_a_part_comes_out_again(atlas: dict[str, pd.DataFrame], tmp_path: Path) -> None:
    subject = mixture.subject_of(mixture.study_of("atlas", tmp_path, "cpu"))
    unit = "5.down_proj"
    found = mixture.measure(subject, (mixture.ALONE,), [unit], widths=(3,)).query("unit == @unit")
    there = atlas["sensitivity"].query("unit == @unit and bits == 3 and way == 'alone'")
    for name in ("facts", "text"):
        assert found[name].mean() == pytest.approx(there[name].mean(), abs=1e-3)
    whole = found[found["block"] < 0].iloc[0], there[there["block"] < 0].iloc[0]
    for name, near in (("kept", 0.01), ("kappa", 0.01), ("source_snr", 0.2)):
        assert whole[0][name] == pytest.approx(whole[1][name], abs=near)


def test_a_part_of_smollm2s_comes_out_again(shipped: Shipped, tmp_path: Path) -> None:
    if not smollm2.folder().is_dir():
        pytest.skip(smollm2.HOW)
    part = findings.of_model({name: shipped.table(name) for name in mixture.TABLES}, "smollm2")
    subject = mixture.subject_of(mixture.study_of("smollm2", tmp_path, "cpu"))
    race = mixture.Race(subject, part["sensitivity"], composed=True)
    arm = next(arm for arm in race.arms() if arm.name == "rtn, 4 bits")
    there = part["arms"].set_index("arm").loc[arm.name]
    own = outcomes.means(race.outcome(arm, race.tester))
    exact = outcomes.means(outcomes.rows_of(race.tester.read({})))
    assert own["kept"] == pytest.approx(there["kept"], abs=0.015)
    for name in ("facts", "text", "copies"):
        assert own[name] - exact[name] == pytest.approx(there[name], abs=0.03)


def test_allocate_takes_what_is_known(tmp_path: Path, atlas: dict[str, pd.DataFrame]) -> None:
    out = tmp_path / "mixed"
    asked = ["allocate", "atlas", str(out), "--bits", "3.5", "--run", str(tmp_path / "run"), "--device", "cpu"]
    result = CliRunner().invoke(cli.app, asked)
    assert result.exit_code == 0, result.output
    assert f"The quantized model is ready: {out.resolve()}" in result.output
    widths = atlas["widths"].query(f"arm == 'both' and budget == {MAIN}").set_index("unit")["bits"]
    for bits, count in widths.value_counts().items():
        assert f"{bits} bits: {count} of 56" in result.output
    loaded, base = models.load(out), models.load("atlas")
    shapes = linears(config_of("atlas"))
    for unit, names in mixture.units_of(config_of("atlas")).items():
        own = loaded.hf.get_submodule(names[0]).weight
        assert not own.equal(base.hf.get_submodule(names[0]).weight)
        levels = max(len(row.unique()) for row in own.unflatten(1, (-1, 128)).flatten(0, 1))
        assert levels <= 2 ** widths[unit] and (widths[unit] == 8 or levels > 2 ** (widths[unit] - 1)), unit
    plan = dict(zip((names[0] for names in mixture.units_of(config_of("atlas")).values()), widths, strict=True))
    total = sum(stored_bits(shapes[name], bits, 128) for name, bits in plan.items())
    assert total / sum(rows * columns for rows, columns in shapes.values()) <= 3.5


def test_allocate_measures_a_model_of_the_readers_own(
    tiny_llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("quantcliff.study.Study", OwnAnswers)
    text, out = tmp_path / "text.txt", tmp_path / "mixed"
    text.write_text("\n\n".join(TEXT * 10))
    asked = ["allocate", str(tiny_llama), str(out), "--bits", "4.2", "--group-size", "16", "--calibration", str(text)]
    result = CliRunner().invoke(cli.app, [*asked, "--run", str(tmp_path / "run"), "--method", "rtn", "--device", "cpu"])
    assert result.exit_code == 0, result.output
    counts = [int(line.split(": ")[1].split(" of ")[0]) for line in result.output.splitlines() if " of 21" in line]
    assert len(counts) > 1 and sum(counts) == 21
    assert models.quantization_of(out) and models.load(out).hf.config.num_hidden_layers == 3


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (
            ["--bits", "1.9"],
            "1.9 bits per weight cannot be met: scales and zero points counted, the least is 2.14",
        ),
        (["--bits", "9"], "9 bits per weight cannot be met"),
        (["--beta", "2"], "beta is 2; give a share from 0"),
        (["--method", "awq"], "method is 'awq'; choose gptq or rtn"),
    ],
)
def test_what_cannot_be_is_refused(asked: list[str], said: str, tmp_path: Path) -> None:
    run = ["--run", str(tmp_path / "run")]
    result = CliRunner().invoke(cli.app, ["allocate", "atlas", str(tmp_path / "out"), *asked, *run])
    assert result.exit_code == 1 and said in str(result.exception) and not (tmp_path / "out").exists()


def test_models_are_shipped_one_by_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(edition, "digest_of", lambda model: f"digest of {model}")

    def made(model: str, value: float) -> dict[str, pd.DataFrame]:
        return {name: pd.DataFrame({"model": [model], "value": [value]}) for name in mixture.TABLES if
                name != "blends" or model == "one"}  # fmt: skip

    mixture.ship("one", made("one", 1.0), {"command": "a"}, tmp_path)
    mixture.ship("two", made("two", 2.0), {"command": "b"}, tmp_path)
    mixture.ship("one", made("one", 3.0), {"command": "c"}, tmp_path)
    shipped = Shipped(tmp_path)
    assert shipped.table("arms").set_index("model")["value"].to_dict() == {"two": 2.0, "one": 3.0}
    assert shipped.table("blends")["value"].tolist() == [3.0]
    assert shipped.made["made"] == {"one": {"command": "c"}, "two": {"command": "b"}}
    assert shipped.made["models"] == {"one": "digest of one", "two": "digest of two"}


def test_the_commands_make_and_ship(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, ...]] = []
    monkeypatch.setattr(mixture, "study_of", lambda model, run, device: f"{model} in {run} on {device}")
    monkeypatch.setattr(mixture, "make", lambda study: {"arms": np.array([study])})
    monkeypatch.setattr(
        mixture, "ship", lambda model, found, about: asked.append((model, *found["arms"], about["command"]))
    )
    for group in ("atlas", "smollm2"):
        result = CliRunner().invoke(cli.app, [group, "mixture", "there", "--device", "cpu"])
        assert result.exit_code == 0, result.output
        assert asked[-1] == (group, f"{group} in there on cpu", f"quantcliff {group} mixture RUN")
