"""What is said before anything runs, held against what then happens."""

import re
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from transformers import LlamaForCausalLM

from quantcliff import cli, models
from quantcliff.diagnosis import diagnose, plan
from quantcliff.errors import InputError
from quantcliff.probes import facts
from quantcliff.quantizers import Scheme, export


def weights(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.glob("*.safetensors"))


def test_a_size_is_read_off_configuration_and_headers(tiny_llama: Path) -> None:
    size, hf = plan.Size.of(tiny_llama), LlamaForCausalLM.from_pretrained(tiny_llama)
    assert size.parameters == sum(one.numel() for one in hf.parameters())
    assert size.block == sum(one.numel() for one in hf.model.layers[1].parameters())
    assert (size.head, size.layers, size.width) == (320 * 32, 3, 32)
    assert size.stored == weights(tiny_llama)


def test_prompts_are_counted_or_supposed(tmp_path: Path) -> None:
    found = plan.Prompts.of("atlas", "atlas", None, 50)
    probes = facts.probe(facts.load("atlas", n_facts=50), models.tokenizer_of(models.folder_of("atlas")))
    assert (found.n, found.tokens, found.exact) == (50, probes.lengths.mean(), True)
    text = tmp_path / "text.txt"
    text.write_text("Some words, and more of them than eight. " * 20)
    assert plan.Prompts.of("atlas", "atlas", str(text), 50) == plan.Prompts(50, 36.0, False)
    places = len(models.tokenizer_of(models.folder_of("atlas"))(text.read_text().strip()).input_ids) - 7
    assert plan.Prompts.of("atlas", "atlas", str(text), 10_000) == plan.Prompts(places, 36.0, False)
    text.write_text("Some words.\n\nNo more.")
    with pytest.raises(InputError, match=r"text.txt has 0 places to ask at, and 20 are needed"):
        plan.Prompts.of("atlas", "atlas", str(text), 50)
    with pytest.raises(InputError, match="no text file nope"):
        plan.Prompts.of("atlas", "atlas", "nope", 50)


def test_a_diagnosis_takes_what_was_said(tmp_path: Path) -> None:
    """Of time only the passes are held to it: seconds depend on what else a machine does."""
    export("atlas", Scheme("rtn", 2, 128), (), tmp_path / "quantized")
    said: list[str] = []
    diagnose("atlas", tmp_path / "quantized", out=tmp_path / "run", n_facts=120, device="cpu", say=said.append)
    size, prompts = plan.Size.of("atlas"), plan.Prompts.of("atlas", "atlas", None, 120)
    found = plan.diagnosis(size, prompts, 1e-6, "float32")
    passes = float(re.search(r"as much as ([\d.]+) plain", said[-1])[1])
    disk = sum(file.stat().st_size for file in (tmp_path / "run").rglob("*") if file.is_file())
    assert found["passes"] == pytest.approx(passes, rel=0.2)
    assert found["disk"] == pytest.approx(disk, rel=0.3)


def test_fewer_prompts_take_more_passes_over_each() -> None:
    size = plan.Size.of("atlas")
    many, few = (plan.Prompts(n, 36.0, False) for n in (400, 60))
    found = plan.diagnosis(size, many, 1e-4, "float32")
    assert found["most"] == pytest.approx(plan.diagnosis(size, few, 1e-4, "float32")["passes"])
    fewer = "(24 over 100 or fewer, if full precision is sure of no more of the text)"
    assert plan.passes(found, many) == f"8 plain forward passes over 400 prompts {fewer}"
    assert plan.passes(plan.diagnosis(size, few, 1e-4, "float32"), few) == "24 plain forward passes over 60 prompts"


@pytest.mark.parametrize(("method", "bits", "size"), [("rtn", 4, 128), ("rtn", 2, 32), ("rtn", 8, -1)])
def test_a_checkpoint_has_the_size_that_was_said(tmp_path: Path, method: str, bits: int, size: int) -> None:
    scheme = Scheme(method, bits, size)
    export("atlas", scheme, (), tmp_path / "out")
    found = plan.quantization("atlas", plan.Size.of("atlas"), scheme, 0, 1e-6)
    assert found["disk"] == pytest.approx(weights(tmp_path / "out"), rel=0.05)


def test_a_layer_is_measured_or_its_time_supposed(monkeypatch: pytest.MonkeyPatch) -> None:
    config = models.config_of("atlas")
    seconds, how = plan.rate(config, 13.0, "cpu", "float32")
    assert 0 < seconds < 0.1 and how == "one layer, measured on cpu in float32"
    monkeypatch.setattr(plan, "_of_one_layer", lambda config: torch.empty(-1))
    seconds, how = plan.rate(config, 13.0, "cpu", "float32")
    assert seconds != seconds and how.startswith("supposed, 2e+10 operations a second: ")
    size, prompts = plan.Size.of("atlas"), plan.Prompts(100, 13.0, True)
    supposed = plan.diagnosis(size, prompts, seconds, "float32")
    assert supposed == plan.diagnosis(size, prompts, 2 * size.block / plan.STATED, "float32")


def test_more_of_anything_takes_more() -> None:
    size = plan.Size.of("atlas")
    few, many = (plan.diagnosis(size, plan.Prompts(n, 13.0, True), 1e-4, "float32") for n in (100, 1000))
    assert many["passes"] < few["passes"] and many["seconds"] > few["seconds"] and many["disk"] > few["disk"]
    half = plan.diagnosis(size, plan.Prompts(100, 13.0, True), 1e-4, "bfloat16")
    assert half["memory"] < few["memory"]


def test_the_command_says_it_and_what_is_lacking(monkeypatch: pytest.MonkeyPatch) -> None:
    result = CliRunner().invoke(cli.app, ["plan", "atlas", "--n-facts", "50", "--device", "cpu"])
    assert result.exit_code == 0, result.output
    assert "8 layers, 1,706,112 weights, 6.8 MB on disk; 50 prompts" in result.output
    assert re.search(r"^quantize, gptq, 4 bits, at least +[\d.]+ MB +[\d.]+ MB +\d+ seconds$", result.output, re.M)
    assert re.search(r"^diagnose, at most +[\d.]+ MB +[\d.]+ MB +\d+ (seconds|minutes)$", result.output, re.M)
    monkeypatch.setattr(plan, "free_memory", lambda device: 1e6)
    result = CliRunner().invoke(cli.app, ["plan", "atlas", "atlas", "--n-facts", "50", "--device", "cpu"])
    assert result.exit_code == 3
    assert "quantcliff: diagnose, at most needs" in result.output and "and 1.0 MB are free" in result.output
    assert "quantize" not in result.output


def test_numbers_in_words() -> None:
    assert [plan.words(n) for n in (12, 2600, 3.2e6, 2.64e9)] == ["12 bytes", "2.6 kB", "3.2 MB", "2.6 GB"]
    assert [plan.clock(n) for n in (46.2, 95, 9000)] == ["46 seconds", "2 minutes", "2.5 hours"]
