"""A whole checkpoint healed: same format and bits, what is stored is what was trained, a killed run goes on."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tiny import TEXT
from transformers import AutoModelForCausalLM

from quantcliff import models
from quantcliff.errors import InputError
from quantcliff.models import linears
from quantcliff.quantizers import Scheme, healing, quantize
from quantcliff.quantizers.healing import Recipe, heal, rows_of, stored
from quantcliff.quantizers.healing import run as module

SMALL = Recipe(epochs=2, batch=8)


@pytest.fixture(scope="module")
def rounded(tiny_llama: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`tiny_llama` in 2 bits, groups of 16."""
    return quantize(tiny_llama, Scheme("rtn", 2, 16), (), tmp_path_factory.mktemp("rounded"))


@pytest.fixture(scope="module")
def healed(tiny_llama: Path, rounded: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return heal(tiny_llama, rounded, TEXT * 8, tmp_path_factory.mktemp("healed") / "out", SMALL, tokens=16)


def test_the_file_is_of_the_same_kind(rounded: Path, healed: Path) -> None:
    assert (healed / "config.json").read_bytes() == (rounded / "config.json").read_bytes()
    files = [folder / "model.safetensors" for folder in (rounded, healed)]
    assert files[0].stat().st_size == files[1].stat().st_size
    assert models.quantization_of(healed) == models.quantization_of(rounded)


def test_every_loader_sees_what_was_trained(tiny_llama: Path, rounded: Path, healed: Path) -> None:
    codes = stored.read(healed)
    assert set(codes) == set(linears(models.config_of(tiny_llama)))
    own = models.load(healed).hf
    plain = AutoModelForCausalLM.from_pretrained(healed, local_files_only=True)
    with torch.no_grad():
        plain(torch.zeros(1, 2, dtype=torch.long))
    for name, one in codes.items():
        assert torch.equal(own.get_submodule(name).weight, one.weight)
        assert torch.equal(plain.get_submodule(name).weight, one.weight)
        assert len(torch.unique(one.codes)) <= 4
    before = models.load(rounded).hf.state_dict()
    for name, tensor in own.state_dict().items():
        trained = name.removesuffix(".weight") in codes
        assert torch.equal(tensor, before[name]) != trained, name


def test_no_layer_is_worse_than_before_and_the_last_stream_is_nearer(tiny_llama: Path, rounded: Path, healed: Path):
    course = json.loads((healed / healing.REPORT).read_text())["course"]
    for layer in range(3):
        rows = [row for row in course if row["layer"] == layer]
        (kept,) = [row for row in rows if row["kept"]]
        assert [row["epoch"] for row in rows] == [0, 1, 2] and rows[0]["moved"] == 0
        assert kept["normalised"] == min(row["normalised"] for row in rows)
    exact = models.load(tiny_llama)
    ids = rows_of(exact.tokenizer, TEXT * 8, 16)
    with torch.no_grad():
        full, bad, good = (
            model.hf(ids, output_hidden_states=True).hidden_states[-2]
            for model in (exact, models.load(rounded), models.load(healed))
        )
    assert healing.improved(healed) == (3, 3)
    assert (good - full).square().mean() < 0.7 * (bad - full).square().mean()


def test_a_killed_run_goes_on_and_ends_with_the_same_bytes(
    tiny_llama: Path, rounded: Path, healed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, asked = module.fit, []

    def killed(*given, **named):
        asked.append(given[5])
        if len(asked) == 3:
            raise KeyboardInterrupt
        return whole(*given, **named)

    monkeypatch.setattr(module, "fit", killed)
    out = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        heal(tiny_llama, rounded, TEXT * 8, out, SMALL, tokens=16)
    assert not out.exists() and len(list(out.with_name("out.partial").glob("layer-*.safetensors"))) == 2
    with pytest.raises(InputError, match="holds layers of another run"):
        heal(tiny_llama, rounded, TEXT * 8, out, replace(SMALL, seed=1), tokens=16)
    heal(tiny_llama, rounded, TEXT * 8, out, SMALL, tokens=16)
    assert asked == [0, 1, 2, 2]
    assert (out / "model.safetensors").read_bytes() == (healed / "model.safetensors").read_bytes()
    assert (out / healing.REPORT).read_bytes() == (healed / healing.REPORT).read_bytes()
    assert not out.with_name("out.partial").exists()


@pytest.mark.parametrize("fixture", ["tiny_gemma", "tiny_neox"])
@pytest.mark.parametrize("scheme", [Scheme("rtn", 3, -1), Scheme("rtn", 2, 32, symmetric=True),
                                    Scheme("rtn", 2, 16, bits_by_layer=((1, 4),))])  # fmt: skip
def test_other_models_and_grids(
    request: pytest.FixtureRequest, tmp_path: Path, fixture: str, scheme: Scheme
) -> None:
    base = request.getfixturevalue(fixture)
    rounded = quantize(base, scheme, (), tmp_path)
    out = heal(base, rounded, TEXT * 8, tmp_path / "out", Recipe(epochs=1, batch=8), tokens=16)
    own = models.load(out).hf
    for name, one in stored.read(out).items():
        assert one.bits == scheme.plan(own.config)[name]
        assert torch.equal(own.get_submodule(name).weight, one.weight)
    sizes = {folder: (folder / "model.safetensors").stat().st_size for folder in (rounded, out)}
    assert sizes[out] == sizes[rounded]


def test_layers_are_trained_on_what_healed_layers_give_and_kept_as_they_were_trained(
    tiny_llama: Path, rounded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, streams, targets, made = module.fit, [], [], []

    def watched(run, grids, stream, target, *given):
        streams.append(stream.clone())
        targets.append(target.clone())
        made.append(whole(run, grids, stream, target, *given))
        return made[-1]

    monkeypatch.setattr(module, "fit", watched)
    out = heal(tiny_llama, rounded, TEXT * 8, tmp_path / "out", replace(SMALL, seed=5), tokens=16)
    exact, ids = models.load(tiny_llama), rows_of(models.tokenizer_of(tiny_llama), TEXT * 8, 16)
    with torch.no_grad():
        own, full = (m.hf(ids, output_hidden_states=True).hidden_states for m in (models.load(out), exact))
    for layer in range(3):
        torch.testing.assert_close(streams[layer], own[layer], atol=1e-4, rtol=1e-4)
        if layer < 2:  # the last hidden state is normed
            torch.testing.assert_close(targets[layer], full[layer + 1], atol=1e-4, rtol=1e-4)
        for name, one in made[layer][0].items():
            kept = stored.read(out)[f"model.layers.{layer}.{name}"]
            assert torch.equal(kept.codes, one.codes) and torch.equal(kept.zero, one.zero)
            assert torch.equal(kept.scale, one.scale)


def test_the_seed_decides(tiny_llama: Path, rounded: Path, healed: Path, tmp_path: Path) -> None:
    other = heal(tiny_llama, rounded, TEXT * 8, tmp_path / "out", replace(SMALL, seed=1), tokens=16)
    assert (other / "model.safetensors").read_bytes() != (healed / "model.safetensors").read_bytes()


def test_scales_only_leaves_every_code(tiny_llama: Path, rounded: Path, tmp_path: Path) -> None:
    recipe = replace(SMALL, scales_only=True)
    out = heal(tiny_llama, rounded, TEXT * 8, tmp_path / "out", recipe, tokens=16)
    before, after = stored.read(rounded), stored.read(out)
    assert all(torch.equal(one.codes, before[name].codes) for name, one in after.items())
    assert all(torch.equal(one.zero, before[name].zero) for name, one in after.items())
    assert any(not torch.equal(one.scale, before[name].scale) for name, one in after.items())


def test_the_wrong_target_brings_less_back(tiny_llama: Path, rounded: Path, healed: Path, tmp_path: Path) -> None:
    out = heal(tiny_llama, rounded, TEXT * 8, tmp_path / "out", replace(SMALL, target="wrong"), tokens=16)
    exact = models.load(tiny_llama)
    ids = rows_of(exact.tokenizer, TEXT * 8, 16)
    with torch.no_grad():
        logits = {path: models.load(path).hf(ids).logits for path in (tiny_llama, healed, out)}
    errors = {path: float((logits[path] - logits[tiny_llama]).square().mean()) for path in (healed, out)}
    assert errors[out] > 1.1 * errors[healed]


def test_sequences_hold_the_text_in_order(tiny_llama: Path) -> None:
    tokenizer = models.tokenizer_of(tiny_llama)
    flat = [token for text in TEXT for token in tokenizer(text).input_ids]
    rows = rows_of(tokenizer, TEXT, 9)
    assert rows.shape == (len(flat) // 8, 9) and bool((rows[:, 0] == 0).all())
    assert rows[:, 1:].flatten().tolist() == flat[: rows.shape[0] * 8]
    assert rows_of(tokenizer, TEXT * 3, 9, 2).tolist() == rows[:2].tolist()
    with pytest.raises(InputError, match="gives 0 sequences of 64 tokens"):
        rows_of(tokenizer, TEXT[:3], 64)


def test_what_cannot_be_healed(tiny_llama: Path, rounded: Path, healed: Path, tmp_path: Path) -> None:
    for base, quantized, out, recipe, message in [
        (rounded, rounded, tmp_path / "o", SMALL, "is quantized already"),
        (tiny_llama, tiny_llama, tmp_path / "o", SMALL, "is not quantized; give the folder of a quantized model"),
        (tiny_llama, rounded, healed, SMALL, "exists already"),
        (tiny_llama, rounded, tmp_path / "o", Recipe(epochs=0), "epochs is 0"),
        (tiny_llama, rounded, tmp_path / "o", Recipe(lr_grid=0.0), "learning rates are 0.0"),
        (tiny_llama, rounded, tmp_path / "o", Recipe(target="any"), "target is 'any'; choose one of own, wrong"),
    ]:
        with pytest.raises(InputError, match=message):
            heal(base, quantized, TEXT * 8, out, recipe, tokens=16)
    assert not (tmp_path / "o.partial").exists()
    config = json.loads((rounded / "config.json").read_text())
    for change, message in [
        ({"format": "dense"}, "is stored as dense; only packed"),
        ({"quant_method": "gptq"}, "is stored as gptq; only packed"),
    ]:
        folder = tmp_path / message[:15].replace(" ", "")
        folder.mkdir()
        for file in rounded.iterdir():
            (folder / file.name).write_bytes(file.read_bytes())
        changed = {**config, "quantization_config": {**config["quantization_config"], **change}}
        (folder / "config.json").write_text(json.dumps(changed))
        with pytest.raises(InputError, match=message):
            stored.check(folder)


def test_recipes_are_tried_on_some_layers_without_a_trace(
    tiny_llama: Path, rounded: Path, healed: Path, tmp_path: Path
) -> None:
    """The first layer is given the same stream as when the whole is healed, so that its course is the same."""
    before = sorted((path, path.stat().st_mtime_ns) for path in rounded.rglob("*"))
    slow = replace(SMALL, lr_grid=SMALL.lr_grid / 10, lr_weight=SMALL.lr_weight / 10)
    rows = healing.tried(tiny_llama, rounded, TEXT * 8, [SMALL, slow], (0, 2), tokens=16)
    assert {(row["recipe"], row["layer"]) for row in rows} == {(0, 0), (0, 2), (1, 0), (1, 2)}
    assert len(rows) == 4 * (SMALL.epochs + 1)
    course = json.loads((healed / healing.REPORT).read_text())["course"]
    first = [row for row in rows if (row["recipe"], row["layer"]) == (0, 0)]
    for row, same in zip(first, (row for row in course if row["layer"] == 0), strict=True):
        assert {name: row[name] for name in ("epoch", "plain", "normalised", "moved", "kept")} == pytest.approx(
            {name: same[name] for name in ("epoch", "plain", "normalised", "moved", "kept")}
        )
    moved = [[row["moved"] for row in rows if (row["recipe"], row["layer"]) == (number, 0)][-1] for number in (0, 1)]
    assert moved[1] < moved[0]
    assert before == sorted((path, path.stat().st_mtime_ns) for path in rounded.rglob("*"))
