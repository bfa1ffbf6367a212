"""What works on which architecture, as `book/_static/architectures.csv` says.

A few are tried in every test run, all of them by `make matrix`, which prints the table as it is measured.
"""

import csv
import os
from pathlib import Path

import pytest
import torch
from families import FAMILIES, MIXTURES, family, wrapped
from tiny import TEXT, save

from quantcliff import models
from quantcliff.diagnosis import diagnose
from quantcliff.errors import InputError
from quantcliff.filecheck import inspect
from quantcliff.quantizers import Scheme, quantize
from quantcliff.quantizers.rounding import rounded_model
from quantcliff.tracing import Runner

TABLE = Path(__file__).parents[1] / "book" / "_static" / "architectures.csv"
COLUMNS = ("Architecture", "Same logits", "Round to nearest", "GPTQ", "AWQ", "Left out of the signals", "Verdict")
IDS = torch.randint(1, 320, (3, 9), generator=torch.Generator().manual_seed(0))
TRIED = list(FAMILIES) if os.environ.get("MATRIX") else ["phi3", "olmo3", "gpt2", "bloom", "lfm2", "mixtral"]


def stated() -> dict[str, tuple[str, ...]]:
    with TABLE.open(encoding="utf-8", newline="") as file:
        header, *rows = csv.reader(file)
    assert tuple(header) == COLUMNS
    return {row[0]: tuple(row) for row in rows}


def same_logits(name: str) -> str:
    plain = family(name)
    plain.set_attn_implementation("eager")
    expected = plain(IDS).logits.float()
    apart = float((Runner(wrapped(name)).logits(IDS) - expected).abs().max() / expected.abs().max())
    return "yes" if apart < 1e-4 else f"{apart:.0e} apart"


def quantized(folder: Path, method: str, cache: Path) -> str:
    """ "yes" for a file that is read and in which no fault is found."""
    base = models.load(folder)
    try:
        made = quantize(folder, Scheme(method, 4, 16), TEXT, cache)
    except InputError:
        return "refused"
    grid = models.grid_of(made)
    assert grid
    table = inspect(base, models.load(made), grid)
    return "yes" if (table["fault"] == "").all() else "faults found"


def left_out(name: str) -> str:
    runner = Runner(wrapped(name))
    some = {"gates": "gate", "neurons": "post", "attention": "pattern"}
    missing = {word: 3 - len(runner.layers_of(kind)) for word, kind in some.items()}
    return ", ".join(f"{word} in {n} of 3 layers" if n < 3 else word for word, n in missing.items() if n) or "nothing"


def verdict(name: str, folder: Path, tmp_path: Path) -> str:
    hf = family(name)
    outside = [(name, module) for name, module in hf.named_modules() if not models.LAYER.search(f"{name}.")]
    norms = [module for name, module in outside if "norm" in name or name.endswith("ln_f")]
    with torch.no_grad():
        for parameter in norms[-1].parameters():
            parameter.mul_(30 / getattr(hf.config, "logit_scale", 1))  # a random model is sure of nothing
    base = save(hf, folder)
    file = tmp_path / "text.txt"
    file.write_text("\n".join(TEXT * 2))
    try:
        made = quantize(base, Scheme("rtn", 3, 16), (), tmp_path / "cache")
    except InputError:
        if not models.sideways(hf.config):
            return "refused"
        rounded = rounded_model(models.load(base), Scheme("rtn", 3, 16)).hf  # as another tool would leave it, dense
        models.turn_back(rounded)
        made = save(rounded, tmp_path / "rounded")
    found = diagnose(base, made, text=file, n_facts=12, out=tmp_path / "out", device="cpu")
    return "yes" if found.exit_code in (0, 10, 11, 12) else f"exit {found.exit_code}"


@pytest.mark.parametrize("name", TRIED)
def test_an_architecture(name: str, tmp_path: Path) -> None:
    folder = save(family(name), tmp_path / "base")
    methods = [quantized(folder, method, tmp_path / "cache") for method in ("rtn", "gptq", "awq")]
    found = (name, same_logits(name), *methods, left_out(name), verdict(name, tmp_path / "sure", tmp_path))
    print("\n" + ",".join(f'"{cell}"' if "," in cell else cell for cell in found))
    assert found == stated().get(name)


def test_the_table_has_no_other_rows() -> None:
    assert list(stated()) == list(FAMILIES)
    assert set(MIXTURES) < set(FAMILIES)
