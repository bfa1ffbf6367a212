"""What a compressed-tensors checkpoint quantizes beside its weights, read from its files as a server would run it.

Inputs of linear layers, each layer by the scheme that compressed-tensors itself would give it: whole numbers, or floats
of 8 and 4 bits (FP8, MXFP8, NVFP4, MXFP4), with scales that come with the inputs, or one to a tensor that stands in the
file, or both (NVFP4). Keys and values by one scheme. All or nothing of either: where one layer's inputs cannot be run
(outputs quantized too, scales with zero points or by channel in the file, a scale that is missing, experts that are
stacked), no layer's are.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open

from quantcliff.models.folders import config_of, folder_of, stated_of
from quantcliff.models.linears import every_linear, has_stacked_experts, linears
from quantcliff.models.served import Served, Settings


def served_of(source: str | Path) -> Served | None:
    """How a checkpoint's inputs and cache are to be quantized while it runs; None where it says nothing that can be."""
    folder = folder_of(source)
    stated = stated_of(folder)
    if stated.get("quant_method") != "compressed-tensors":
        return None
    inputs, scales = _inputs(folder, stated)
    states, more = _states(folder, stated)
    if not inputs and states is None:
        return None
    first = next(iter(inputs.values()), None)
    alike = all(own == first for own in inputs.values())
    whole = not inputs or (alike and set(inputs) == set(linears(config_of(folder))))
    how: dict[str, Any] = {"inputs": first} if whole else {"inputs_of": inputs}
    return Served(**how, keys=states, values=states, scales={**scales, **more})


def _inputs(folder: Path, stated: Mapping[str, Any]) -> tuple[dict[str, Settings], dict[str, float]]:
    """Settings by full module name, and the scales that stand in the file."""
    groups = list(stated.get("config_groups", {}).values())
    reading = [group for group in groups if group.get("input_activations") or group.get("output_activations")]
    able = [group for group in reading if group.get("targets") and _runs(group.get("input_activations") or {})]
    if not reading or able != reading:
        return {}, {}
    config = config_of(folder)
    sizes = every_linear(config)
    schemes = {name: group for name in sizes if (group := _scheme(name, groups, stated.get("ignore") or ()))}
    found = {name: group["input_activations"] for name, group in schemes.items() if group.get("input_activations")}
    known = all(any(group is own for own in schemes.values()) for group in reading)  # none is for other modules
    divided = all(sizes[name][1] % (settings.get("group_size") or 1) == 0 for name, settings in found.items())
    outputs = any(group.get("output_activations") for group in reading)
    if outputs or has_stacked_experts(config) or not (known and divided):
        return {}, {}
    kinds = {False: "input_scale", "local": "input_global_scale"}
    asked = {kind: _scales(folder, kind) for kind in kinds.values()}
    needed = {name: kinds[how] for name, settings in found.items() if (how := settings.get("dynamic", False)) in kinds}
    if any(name not in asked[kind] for name, kind in needed.items()):
        return {}, {}
    return found, {name: asked[kind][name] for name, kind in needed.items()}


def _scheme(name: str, groups: list[dict[str, Any]], ignore: list[str] | tuple[str, ...]) -> dict[str, Any] | None:
    """The group that compressed-tensors would give a linear layer: by exact name, then by pattern, then by class."""
    from compressed_tensors.utils.match import is_match, match_targets

    linear = torch.nn.Linear(1, 1, device="meta")
    by_target = {target: group for group in groups for target in group.get("targets", ())}
    targets = match_targets(name, linear, by_target)
    return by_target[targets[0]] if targets and not is_match(name, linear, ignore) else None


def _runs(settings: Settings) -> bool:
    """Whether inputs can be rounded by these settings."""
    return _simple(settings, {True: ("token", "group", "tensor"), "local": ("tensor_group",), False: ("tensor",)})


def _states(folder: Path, stated: Mapping[str, Any]) -> tuple[dict[str, Any] | None, dict[str, float]]:
    scheme = stated.get("kv_cache_scheme")
    if not scheme or not _simple(scheme, {True: ("tensor", "group"), False: ("tensor",)}):
        return None, {}
    if scheme.get("dynamic"):
        return scheme, {}
    keys, values = (_scales(folder, f"{kind}_scale") for kind in "kv")
    if not keys or set(keys) != set(values) or len(keys) != config_of(folder).num_hidden_layers:
        return None, {}
    both = (("k", keys), ("v", values))
    return scheme, {f"{name}.{kind}": scale for kind, found in both for name, scale in found.items()}


def _simple(scheme: Settings, strategies: Mapping[bool | str, tuple[str, ...]]) -> bool:
    """Whether its numbers are rounded to plain steps, or to those of floats of 4 or 8 bits, with no zero points but
    those that come with the inputs; `strategies`: those that can be run, by where scales come from."""
    dynamic = scheme.get("dynamic", False)
    whole = scheme.get("type", "int") == "int"
    plain = scheme.get("scale_dtype") is None if whole else scheme.get("num_bits", 8) in (4, 8)
    steady = dynamic is True or bool(scheme.get("symmetric", True))
    return plain and steady and scheme.get("strategy") in strategies.get(dynamic, ())


def _scales(folder: Path, kind: str) -> dict[str, float]:
    """By the name of the module; those that are one number."""
    found = {}
    for file in sorted(folder.glob("*.safetensors")):
        with safe_open(file, "pt") as handle:
            for key in handle.keys():  # noqa: SIM118  a handle is no dictionary
                if key.endswith(f".{kind}") and (scale := handle.get_tensor(key)).numel() == 1:
                    found[key.removesuffix(f".{kind}")] = float(scale)
    return found
