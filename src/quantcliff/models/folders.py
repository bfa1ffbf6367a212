"""A checkpoint folder, looked at without loading it: where it is, what its configuration states, what names it."""

import hashlib
import json
from pathlib import Path
from typing import Any

from transformers import AutoConfig, PretrainedConfig

from quantcliff import atlas, smollm2
from quantcliff.errors import InputError, first_line
from quantcliff.models import gguf_file
from quantcliff.models.stored import check_pointers, check_stated


def named() -> dict[str, Path]:
    """Where the models lie that have a name of their own; SmolLM2's folder is there once it is fetched."""
    return {atlas.NAME: atlas.MODEL, smollm2.NAME: smollm2.folder()}


def folder_of(source: str | Path) -> Path:
    """The checkpoint folder that `source` names; "atlas" is the embedded model, "smollm2" the fetched one, a GGUF file
    stands for the folder that is made of it (`gguf_file`).

    Raises:
        InputError: it is not a folder, has no `config.json` or no safetensors weights, or holds an adapter or Git LFS
            pointers; SmolLM2 is not fetched yet.
    """
    folder = named().get(str(source), Path(source).expanduser())
    if str(source) == smollm2.NAME and not folder.is_dir():
        raise InputError(f"SmolLM2 is not on this machine; {smollm2.HOW}")
    if folder.suffix == ".gguf" and folder.is_file():
        return gguf_file.unpacked(folder)
    if not folder.is_dir():
        raise InputError(
            f"{source} is not a folder; give the folder of a model on this machine, or 'atlas' or 'smollm2'"
        )
    if (folder / "adapter_config.json").is_file():
        raise InputError(
            f"{folder} holds an adapter, which changes weights that lie elsewhere; merge it into its base with peft's "
            "merge_and_unload and give the folder of what that saves"
        )
    if not (folder / "config.json").is_file():
        raise InputError(f"{folder} is not a model: it has no config.json")
    if not any(folder.glob("*.safetensors")):
        raise InputError(f"{folder} has no *.safetensors weights; save the model with save_pretrained first")
    check_pointers(folder)
    return folder


def digest_of(source: str | Path) -> str:
    """16 hex digits that stand for a checkpoint's configuration and weights (sha256 over the files)."""
    folder = folder_of(source)
    total = hashlib.sha256((folder / "config.json").read_bytes())
    for file in sorted(folder.glob("*.safetensors")):
        with file.open("rb") as handle:
            total.update(hashlib.file_digest(handle, "sha256").digest())
    return total.hexdigest()[:16]


def stated_of(source: str | Path) -> dict[str, Any]:
    """The part of a checkpoint's config.json about quantization, as it stands there; empty where there is none."""
    return dict(_config(folder_of(source)).get("quantization_config") or {})


def quantization_of(source: str | Path) -> dict[str, Any] | None:
    """What a checkpoint's own configuration says about its quantization, or None for an unquantized one.

    Returns:
        `format` (compressed-tensors, gptq, awq, ...), `method` (the algorithm where stated, else the format), `bits`
        and `group_size` (-1 = one group per row), `symmetric`, `mixed` (layers differ: the others are then those of
        the layers with the fewest bits); `ordered` where the columns of a group need not stand together, `kind` where
        the levels are floats ("float", or "mx" where scales are powers of two), and `block` (rows, columns) where rows
        share scales too: `group_size` is then the columns.
    """
    folder = folder_of(source)
    config = _config(folder).get("quantization_config")
    if not config:
        return gguf_file.stated(folder)
    style = str(config.get("quant_method", "unknown"))
    schemes = [group["weights"] for group in config.get("config_groups", {}).values() if group.get("weights")]
    first = min(schemes, key=lambda scheme: scheme.get("num_bits", 16), default=config)
    bits = first.get("num_bits", first.get("bits"))
    others = [own for own in (config.get("dynamic") or {}).values() if own]  # GPTQModel's, module by module
    bits = min([bits, *(own["bits"] for own in others if own.get("bits"))]) if others else bits
    block = first.get("block_structure") if first.get("strategy") == "block" else None
    group = block[1] if block else first.get("group_size", -1)
    symmetric = first.get("symmetric", first.get("sym"))
    if symmetric is None and "zero_point" in first:
        symmetric = not first["zero_point"]
    found = {
        "format": style,
        "method": _algorithm(folder) or style,
        "bits": bits,
        "group_size": -1 if group is None else group,
        "symmetric": symmetric,
        "mixed": any(scheme != schemes[0] for scheme in schemes) or bool(config.get("dynamic")),
    }
    if first.get("type") == "float":
        found["kind"] = "mx" if first.get("scale_dtype") == "torch.uint8" else "float"
    return found | ({"ordered": True} if _ordered(first) else {}) | ({"block": tuple(block)} if block else {})


def _ordered(scheme: dict[str, Any]) -> bool:
    return bool(scheme.get("desc_act")) or scheme.get("actorder") in ("group", "dynamic", True)


def _algorithm(folder: Path) -> str | None:
    """The algorithm named in the recipe that llm-compressor leaves beside a checkpoint."""
    recipe = folder / "recipe.yaml"
    text = recipe.read_text(encoding="utf-8") if recipe.is_file() else ""
    for name in ("GPTQ", "AWQ"):
        if f"{name}Modifier" in text:
            return name.lower()
    return "rtn" if "QuantizationModifier" in text else None


def _config(folder: Path) -> dict[str, Any]:
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{folder / 'config.json'} is not valid JSON: {error}") from error
    if not isinstance(config, dict):
        raise InputError(f"{folder / 'config.json'} does not hold a model configuration")
    return config


def config_of(source: str | Path) -> PretrainedConfig:
    """The configuration of a checkpoint folder. Raises InputError where it cannot be read, or where the files
    contradict it.
    """
    folder = folder_of(source)
    check_stated(folder, stated_of(folder))
    try:
        return AutoConfig.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{folder} has a config.json that transformers cannot use: {first_line(error)}") from error
