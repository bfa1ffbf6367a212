"""What is foretold is the number of the model that is asked about, looked up on the grid's curve."""

import sys
from pathlib import Path

import pandas as pd
import pytest
from click.testing import CliRunner
from made_grid import grid
from tiny import TEXT

from quantcliff import cli, models, quantizers
from quantcliff.errors import InputError
from quantcliff.quantizers import Scheme, rounding
from quantcliff.stages import boundary
from quantcliff.stages.boundary import numbers
from quantcliff.stages.boundary.readings import Reference
from quantcliff.stages.boundary.texts import batches_of

SCHEMES = [Scheme("rtn", 8, 16), Scheme("rtn", 2, 16), Scheme("gptq", 3, 16)]
EDITION = sys.modules["quantcliff.stages.boundary.edition"]


def test_the_number_of_this_model_is_looked_up(tiny_llama: Path) -> None:
    table = grid()
    found = boundary.outlook(tiny_llama, TEXT * 3, SCHEMES, table, calibration=TEXT)
    assert found["method"].tolist() == ["rtn", "rtn", "gptq"] and found["bits"].tolist() == [8, 2, 3]
    number = boundary.best(boundary.compare(table))
    base = models.load(tiny_llama)
    reference = Reference(base, batches_of(base.tokenizer, TEXT * 3), last=False)
    for scheme, row in zip(SCHEMES[:2], found.itertuples(), strict=False):
        bits = quantizers.average_bits(base.hf.config, scheme)
        own = numbers.measured(reference, rounding.rounded_model(base, scheme), bits)
        assert (row.number, row.value) == (number, pytest.approx(own[number])) and row.average_bits == bits
        curve = boundary.Curve.of(table, number)
        assert row.kept == pytest.approx(float(curve.at(pd.Series([own[number]]).to_numpy())[0]))
        assert row.low <= row.kept <= row.high and row.high - row.low <= 2 * row.error + 1e-9
    assert found["kept"].iloc[0] > found["kept"].iloc[1]
    assert found["tokens"].iloc[0] == sum(ids.numel() for ids in reference.batches)


def test_its_error_is_that_of_models_left_out() -> None:
    table = grid()
    error, worst = boundary.errors(table, "average_bits")
    left = boundary.left_out(table, "average_bits", "model")
    off = (left["predicted"] - left["kept"]).abs()
    assert error == pytest.approx((off[:144].mean() + off[144:].mean()) / 2) and worst == off.quantile(0.9)


def test_numbers_say_what_they_are(tiny_llama: Path) -> None:
    base = models.load(tiny_llama)
    reference = Reference(base, batches_of(base.tokenizer, TEXT), last=False)
    exact = numbers.of_text(reference.full, reference.full)
    assert exact["text_agree"] == 1 and exact["text_kl"] == pytest.approx(0) and exact["text_kappa"] == pytest.approx(1)
    rounded = {bits: rounding.rounded_model(base, Scheme("rtn", bits, 16)) for bits in (6, 2)}
    found = {bits: numbers.measured(reference, own, float(bits)) for bits, own in rounded.items()}
    assert set(numbers.NUMBERS) <= set(found[2])
    for name in ("weight_snr", "source_snr", "stream_snr", "text_agree", "text_kappa", "text_ratio"):
        assert found[6][name] > found[2][name], name
    assert found[6]["text_kl"] < found[2]["text_kl"]
    assert found[6]["source_snr"] - found[2]["source_snr"] == pytest.approx(26, abs=4), "20 log10 of 63/3"
    assert abs(found[6]["strength"]) < 6 and abs(found[6]["alignment"]) < 6


@pytest.fixture
def shipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    from quantcliff import tables

    folder = tmp_path / "shipped"
    tables.ship({"grid": grid()}, {"command": "c", "commit": "0" * 40, "date": "d"}, folder)
    monkeypatch.setattr(EDITION, "FOLDER", folder)
    return folder


def test_the_command_says_what_and_how_sure(tiny_llama: Path, tmp_path: Path, shipped: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_text("\n\n".join(TEXT * 4))
    asked = ["predict", str(tiny_llama), "--text", str(text), "--bits", "8,2", "--group-size", "16"]
    result = CliRunner().invoke(cli.app, asked)
    assert result.exit_code == 0, result.output
    lines = result.output.splitlines()
    assert lines[0].split() == ["method", "bits", "with", "scales", lines[0].split()[4], "answers", "kept"]
    assert [line.split()[:2] for line in lines[1:3]] == [["rtn", "8"], ["rtn", "2"]]
    assert "on a curve of 156 quantized models" in result.output and "one of their 2 base models" in result.output


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["nope"], "nope is not a folder"),
        (["atlas", "--bits", "two"], "bits is 'two'; give whole numbers such as 4,3,2"),
        (["atlas", "--bits", "1"], "1 bits cannot be stored; choose 2 to 8"),
        (["atlas", "--method", "magic"], "method is 'magic'; choose one of gptq, awq, rtn"),
        (["atlas", "--group-size", "7"], "group size 7 does not divide"),
        (["atlas", "--text", "nope.txt"], "there is no calibration text 'nope.txt'"),
        (["atlas", "--device", "abacus"], "unknown device 'abacus'"),
    ],
)
def test_bad_input_is_refused_in_one_sentence(given: list[str], said: str, shipped: Path) -> None:
    result = CliRunner().invoke(cli.app, ["predict", *given])
    assert isinstance(result.exception, InputError) and said in str(result.exception)
    assert "\n" not in str(result.exception)


def test_too_little_text_and_no_grid(tiny_llama: Path, tmp_path: Path, shipped: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_text("Rome.")
    result = CliRunner().invoke(cli.app, ["predict", str(tiny_llama), "--text", str(text), "--group-size", "16"])
    assert isinstance(result.exception, InputError) and "give one of at least 64" in str(result.exception)
    (shipped / "made.json").unlink()
    result = CliRunner().invoke(cli.app, ["predict", str(tiny_llama), "--group-size", "16"])
    assert isinstance(result.exception, InputError) and "no grid to predict from" in str(result.exception)
    rounded = tmp_path / "rounded"
    quantizers.export(tiny_llama, Scheme("rtn", 4, 16), (), rounded)
    with pytest.raises(InputError, match="is quantized already"):
        boundary.check(rounded, SCHEMES)
