"""What a checkpoint says about inputs and cache, and that it is run so."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from quantcliff import models
from quantcliff.filecheck import beside
from quantcliff.models import Served, by_token, linears, served_of
from quantcliff.study import Study

W8A8 = {"num_bits": 8, "type": "int", "symmetric": True, "strategy": "token", "dynamic": True}
FIXED = {"num_bits": 8, "type": "int", "symmetric": True, "strategy": "tensor", "dynamic": False}


def folder_with(
    base: Path,
    out: Path,
    group: dict | None = None,
    cache: dict | None = None,
    scales: dict | None = None,
    **more: object,
) -> Path:
    """The tiny Llama with such a quantization stated beside its plain weights; nothing but files."""
    out.mkdir()
    for file in base.iterdir():
        (out / file.name).write_bytes(file.read_bytes())
    config = json.loads((out / "config.json").read_text())
    groups = {
        "group_0": {"targets": ["Linear"], "weights": W8A8 | {"strategy": "channel", "dynamic": False}} | (group or {})
    }
    stated = {"quant_method": "compressed-tensors", "ignore": ["lm_head"], "config_groups": groups}
    config["quantization_config"] = stated | ({"kv_cache_scheme": cache} if cache else {}) | more
    (out / "config.json").write_text(json.dumps(config))
    if scales:
        save_file(load_file(out / "model.safetensors") | scales, out / "model.safetensors")
    return out


def test_inputs_with_scales_that_come_with_them(tiny_llama: Path, tmp_path: Path) -> None:
    folder = folder_with(tiny_llama, tmp_path / "w8a8", {"input_activations": W8A8})
    assert served_of(folder) == Served(inputs=W8A8)
    assert served_of(folder).words == "inputs in 8 bits"
    assert beside.left_out(folder) == []


def test_inputs_with_scales_in_the_file(tiny_llama: Path, tmp_path: Path) -> None:
    names = list(linears(models.config_of(tiny_llama)))
    scales = {f"{name}.input_scale": torch.tensor([0.01 * (number + 1)]) for number, name in enumerate(names)}
    folder = folder_with(tiny_llama, tmp_path / "all", {"input_activations": FIXED}, scales=scales)
    served = served_of(folder)
    assert served and served.inputs == FIXED
    assert served.scales == pytest.approx({name: 0.01 * (number + 1) for number, name in enumerate(names)})
    some = dict(list(scales.items())[1:])
    folder = folder_with(tiny_llama, tmp_path / "some", {"input_activations": FIXED}, scales=some)
    assert served_of(folder) is None
    assert len(beside.left_out(folder)) == 1


def test_the_cache(tiny_llama: Path, tmp_path: Path) -> None:
    places = [f"model.layers.{layer}.self_attn" for layer in range(3)]
    scales = {f"{place}.{kind}_scale": torch.tensor(0.5) for place in places for kind in "kv"}
    float8 = FIXED | {"type": "float"}
    folder = folder_with(tiny_llama, tmp_path / "cache", cache=float8, scales=scales)
    expected = {f"{place}.{kind}": 0.5 for place in places for kind in "kv"}
    assert served_of(folder) == Served(keys=float8, values=float8, scales=expected)
    assert served_of(folder).words == "keys and values in 8 bits"
    assert beside.left_out(folder) == []
    folder = folder_with(tiny_llama, tmp_path / "no scales", cache=float8)
    assert served_of(folder) is None and "cache of keys and values" in beside.left_out(folder)[0]


@pytest.mark.parametrize(
    "group",
    [
        {"input_activations": W8A8, "output_activations": W8A8},
        {"input_activations": W8A8 | {"type": "float", "num_bits": 6}},
        {"input_activations": W8A8 | {"strategy": "group", "group_size": 48}},
        {"input_activations": W8A8 | {"strategy": "tensor_group", "group_size": 16, "dynamic": "local"}},
        {"input_activations": W8A8 | {"scale_dtype": "torch.uint8"}},
        {"input_activations": W8A8, "targets": ["re:.*self_attn$"]},
        {"input_activations": FIXED | {"symmetric": False}},
        {},
    ],
)
def test_what_cannot_be_run_as_it_is_served(tiny_llama: Path, tmp_path: Path, group: dict) -> None:
    folder = folder_with(tiny_llama, tmp_path / "other", group)
    assert served_of(folder) is None
    assert bool(beside.left_out(folder)) == bool(group)


def test_each_layer_has_the_scheme_that_compressed_tensors_would_give_it(tiny_llama: Path, tmp_path: Path) -> None:
    """By exact name before pattern before class; layers that are ignored have none."""
    from compressed_tensors.quantization import QuantizationConfig, apply_quantization_config

    four, six = W8A8 | {"num_bits": 4}, W8A8 | {"num_bits": 6}
    weights = W8A8 | {"strategy": "channel", "dynamic": False}
    groups = {
        "group_0": {"targets": ["Linear"], "weights": weights, "input_activations": W8A8},
        "group_1": {"targets": ["re:.*mlp.*"], "weights": weights, "input_activations": four},
        "group_2": {"targets": ["model.layers.1.mlp.up_proj"], "weights": weights, "input_activations": six},
        "group_3": {"targets": ["re:.*v_proj$"], "weights": weights},
    }
    ignore = ["lm_head", "re:.*layers.0.self_attn.*"]
    folder = folder_with(tiny_llama, tmp_path / "f", config_groups=groups, ignore=ignore)
    hf = models.load(tiny_llama).hf
    config = QuantizationConfig(config_groups=groups, ignore=ignore)
    apply_quantization_config(hf, config, show_progress=False)
    own = {name: getattr(hf.get_submodule(name), "quantization_scheme", None) for name in linears(hf.config)}
    expected = {
        name: scheme.input_activations.num_bits for name, scheme in own.items() if scheme and scheme.input_activations
    }
    served = served_of(folder)
    assert served and served.inputs is None and beside.left_out(folder) == []
    assert {name: settings["num_bits"] for name, settings in served.inputs_of.items()} == expected
    assert expected["model.layers.1.mlp.up_proj"] == 6 and "model.layers.0.self_attn.q_proj" not in expected
    assert "model.layers.1.self_attn.v_proj" not in expected
    assert served.words == (
        "inputs of 6 linear layers in 8 bits, inputs of 1 linear layer in 6 bits, inputs of 8 linear layers in 4 bits"
    )
    assert served_of(tiny_llama) is None


def test_a_real_checkpoint_is_diagnosed_as_it_is_served(tmp_path: Path) -> None:
    """W8A8 of the embedded model with inputs of 3 bits: the weights alone would keep everything."""
    from llmcompressor import oneshot
    from llmcompressor.modifiers.quantization import QuantizationModifier
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from quantcliff.atlas import MODEL
    from quantcliff.stages.verdict import blame

    hf = AutoModelForCausalLM.from_pretrained(MODEL)
    weights = {"num_bits": 8, "type": "int", "symmetric": True, "strategy": "channel"}
    group = {"targets": ["Linear"], "weights": weights, "input_activations": by_token(3)}
    oneshot(model=hf, recipe=QuantizationModifier(config_groups={"group_0": group}, ignore=["lm_head"]))
    hf.save_pretrained(tmp_path / "q", save_compressed=True)
    AutoTokenizer.from_pretrained(MODEL).save_pretrained(tmp_path / "q")
    study = Study("atlas", quantized=tmp_path / "q", n_facts=60, run=tmp_path / "run")
    assert study.variants["q"].served.inputs["num_bits"] == 3
    kept = (study.known_scores("q")["rank"] == 1).mean()
    assert kept < 0.7
    table = blame.of_variant(study, "q", 40)
    assert table.set_index("part")["blamed"].to_dict() == {"weights": False, "inputs": True}
    assert blame.sentence(table).startswith("To blame for the lost answers: inputs (with exact weights")
