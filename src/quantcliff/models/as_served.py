"""What a compressed-tensors checkpoint quantizes beside its weights, read from its files as a server would run it.

Only what `Served` can say: one scheme for the inputs of all linear layers, one for all keys and values, in whole
numbers or 8-bit floats, with scales that come with the inputs, or one to a tensor that stands in the file. NVFP4 and
MXFP4, which scale their inputs in two steps or by powers of two, schemes that differ from layer to layer, and outputs
are not run.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import safe_open

from quantcliff.models.folders import config_of, folder_of, stated_of
from quantcliff.models.linears import linears
from quantcliff.models.served import Served

HEADS = {"lm_head"}


def served_of(source: str | Path) -> Served | None:
    """How a checkpoint's inputs and cache are to be quantized while it runs; None where it says nothing that can be."""
    folder = folder_of(source)
    stated = stated_of(folder)
    if stated.get("quant_method") != "compressed-tensors":
        return None
    inputs, scales = _inputs(folder, stated)
    states, more = _states(folder, stated)
    if inputs is None and states is None:
        return None
    return Served(inputs=inputs, keys=states, values=states, scales={**scales, **more})


Found = tuple[dict[str, Any] | None, dict[str, float]]


def _inputs(folder: Path, stated: Mapping[str, Any]) -> Found:
    groups = list(stated.get("config_groups", {}).values())
    own = [group.get("input_activations") for group in groups]
    whole = len(groups) == 1 and groups[0].get("targets") == ["Linear"] and set(stated.get("ignore") or ()) <= HEADS
    if not whole or not own[0] or groups[0].get("output_activations"):
        return None, {}
    if not _simple(own[0], ("token", "group", "tensor")):
        return None, {}
    if own[0].get("dynamic"):
        return own[0], {}
    scales = _scales(folder, "input_scale")
    return (own[0], scales) if set(linears(config_of(folder))) <= set(scales) else (None, {})


def _states(folder: Path, stated: Mapping[str, Any]) -> Found:
    scheme = stated.get("kv_cache_scheme")
    if not scheme or not _simple(scheme, ("tensor", "group") if scheme.get("dynamic") else ("tensor",)):
        return None, {}
    if scheme.get("dynamic"):
        return scheme, {}
    keys, values = (_scales(folder, f"{kind}_scale") for kind in "kv")
    if not keys or set(keys) != set(values) or len(keys) != config_of(folder).num_hidden_layers:
        return None, {}
    both = (("k", keys), ("v", values))
    return scheme, {f"{name}.{kind}": scale for kind, found in both for name, scale in found.items()}


def _simple(scheme: Mapping[str, Any], strategies: tuple[str, ...]) -> bool:
    """Whether its numbers are rounded to plain steps, with no zero points but those that come with the inputs."""
    kind, bits = scheme.get("type", "int"), scheme.get("num_bits", 8)
    plain = scheme.get("scale_dtype") is None and (kind == "int" or (kind == "float" and bits == 8))
    steady = scheme.get("dynamic") is True or bool(scheme.get("symmetric", True))
    return plain and steady and scheme.get("strategy") in strategies


def _scales(folder: Path, kind: str) -> dict[str, float]:
    """By the name of the module; those that are one number."""
    found = {}
    for file in sorted(folder.glob("*.safetensors")):
        with safe_open(file, "pt") as handle:
            for key in handle.keys():  # noqa: SIM118  a handle is no dictionary
                if key.endswith(f".{kind}") and (scale := handle.get_tensor(key)).numel() == 1:
                    found[key.removesuffix(f".{kind}")] = float(scale)
    return found
