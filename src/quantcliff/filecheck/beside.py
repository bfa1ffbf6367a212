"""What a checkpoint quantizes beside its weights: inputs of its layers, and the cache of keys and values.

Most of it is run as it is served (`models.served_of`). What is not stays in full precision, so that what is measured
does not show what it costs, and is named as left out. Scales of inputs that stand in the file are held against the
inputs that the base really gives.
"""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from safetensors import safe_open
from torch import Tensor, nn

from quantcliff.filecheck.inputs import on_inputs
from quantcliff.models import Model, Served, layer_of, linears, served_of, stated_of

LOST = 0.5
"""Share of an input that its scale may lose, ||x - Q(x)|| / ||x||: *chosen*; 8 bits that fit lose a hundredth."""


def left_out(folder: Path) -> list[str]:
    """One sentence for each thing that is quantized beside weights and whose cost is not measured."""
    stated, run = stated_of(folder), served_of(folder) or Served()
    found = []
    for group in stated.get("config_groups", {}).values():
        for kind, words in (("input_activations", "inputs"), ("output_activations", "outputs")):
            if (scheme := group.get(kind)) and not (kind == "input_activations" and (run.inputs or run.inputs_of)):
                how = "as they come" if scheme.get("dynamic") else "with scales that stand in the file"
                found.append(
                    f"activations are quantized too ({words} of its layers, {_words(scheme)}, {how}); that is left out "
                    "of the answers measured here"
                )
    if (scheme := stated.get("kv_cache_scheme")) and not run.keys:
        found.append(f"its cache of keys and values is quantized too ({_words(scheme)}); that is left out here")
    return list(dict.fromkeys(found))


def _words(scheme: dict[str, Any]) -> str:
    return f"{scheme.get('num_bits', '?')} bits, {scheme.get('type', 'int')}"


def input_scale_faults(exact: Model, folder: Path, prompts: Sequence[Sequence[int]]) -> Iterator[str]:
    """One sentence for every static input scale that does not fit the inputs of its layer.

    Args:
        exact: the base in the quantized model's units.
    """
    schemes = [group.get("input_activations") for group in stated_of(folder).get("config_groups", {}).values()]
    scheme = next((scheme for scheme in schemes if scheme and not scheme.get("dynamic")), None)
    scales = _scales(folder) if scheme else {}
    names = [name for name in linears(exact.hf.config) if name in scales]
    if not scheme or not names or not prompts:
        return
    top = 448.0 if scheme.get("type") == "float" else 2.0 ** (scheme.get("num_bits", 8) - 1) - 1

    def lost(name: str) -> Callable[[nn.Module, Tensor], tuple[float, float]]:
        scale = scales[name].float().flatten()[0].clamp(min=1e-30)

        def measure(_: nn.Module, x: Tensor) -> tuple[float, float]:
            codes = (x / scale).clamp(-top, top)
            kept = (codes if scheme.get("type") == "float" else codes.round()) * scale
            return float((x - kept).norm() / x.norm().clamp(min=1e-30)), float(x.abs().max())

        return measure

    for name, (share, largest) in on_inputs(exact.hf, {name: lost(name) for name in names}, prompts).items():
        if share > LOST:
            module = name.split(f".{layer_of(name)}.", 1)[1]
            scale = float(scales[name].flatten()[0])
            yield (
                f"layer {layer_of(name)}, {module}: its input scale {scale:.3g} loses {share:.0%} of the activations "
                f"(it reaches to {scale * top:.3g}, the base's inputs to {largest:.3g})"
            )


def _scales(folder: Path) -> dict[str, Tensor]:
    found: dict[str, Tensor] = {}
    for file in sorted(folder.glob("*.safetensors")):
        with safe_open(file, "pt") as handle:
            for key in handle.keys():  # noqa: SIM118  a handle is no dictionary
                if key.endswith(".input_scale"):
                    found[key.removesuffix(".input_scale")] = handle.get_tensor(key)
    return found
