"""A base or quantized checkpoint as a plain Hugging Face model, and the check that two of them are a pair.

Every later stage sees ordinary `Linear` layers: a quantized model comes back with its dequantized weights.
"""

import copy
import hashlib
import io
import json
import re
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils.logging import disable_progress_bar

from quantcliff import atlas, dequantize
from quantcliff.errors import InputError

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
PROBE_TEXT = "Rome, the river Thames & 1984: Ça va? Über 東京 \u0645\u0631\u062d\u0628\u0627 \t x_1 = 2.5e-3;"


@dataclass(frozen=True, eq=False)
class Model:
    """A causal language model in evaluation mode, with eager attention and no gradients.

    `digest` names the content: equal weights, configuration and dtype, equal digest.
    """

    hf: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    name: str
    digest: str


def folder_of(source: str | Path) -> Path:
    """The checkpoint folder that `source` names; "atlas" is the embedded model.

    Raises:
        InputError: it is not a folder, or has no `config.json` or no safetensors weights.
    """
    folder = atlas.MODEL if str(source) == "atlas" else Path(source).expanduser()
    if not folder.is_dir():
        raise InputError(f"{source} is not a folder; give the folder of a model on this machine, or 'atlas'")
    if not (folder / "config.json").is_file():
        raise InputError(f"{folder} is not a model: it has no config.json")
    if not any(folder.glob("*.safetensors")):
        raise InputError(f"{folder} has no *.safetensors weights; save the model with save_pretrained first")
    return folder


def digest_of(source: str | Path) -> str:
    """16 hex digits that stand for a checkpoint's configuration and weights (sha256 over the files)."""
    folder = folder_of(source)
    total = hashlib.sha256((folder / "config.json").read_bytes())
    for file in sorted(folder.glob("*.safetensors")):
        with file.open("rb") as handle:
            total.update(hashlib.file_digest(handle, "sha256").digest())
    return total.hexdigest()[:16]


def default_device() -> str:
    """ "cuda" where there is one, else "cpu"."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def check_device(device: str) -> str:
    """A device that exists; "auto" chooses. Raises InputError for one that does not."""
    if device == "auto":
        return default_device()
    if not re.fullmatch(r"cpu|cuda(:\d+)?", device):
        raise InputError(f"unknown device {device!r}; choose auto, cpu or cuda")
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise InputError("device cuda was asked for, but PyTorch sees no CUDA device here; use device cpu")
    return device


def check_dtype(dtype: str) -> torch.dtype:
    """The torch type of that name. Raises InputError for an unknown one."""
    if dtype not in DTYPES:
        raise InputError(f"unknown dtype {dtype!r}; choose one of {', '.join(DTYPES)}")
    return DTYPES[dtype]


def quantization_of(source: str | Path) -> dict[str, Any] | None:
    """What a checkpoint's own configuration says about its quantization, or None for an unquantized one.

    Returns:
        `format` (compressed-tensors, gptq, awq, ...), `method` (the algorithm where stated, else the format), `bits`
        and `group_size` (-1 = one group per row), `symmetric`, `mixed` (layers differ: the others are then those of
        the layers with the fewest bits).
    """
    folder = folder_of(source)
    config = _config(folder).get("quantization_config")
    if not config:
        return None
    style = str(config.get("quant_method", "unknown"))
    schemes = [group["weights"] for group in config.get("config_groups", {}).values() if group.get("weights")]
    first = min(schemes, key=lambda scheme: scheme.get("num_bits", 16), default=config)
    bits = first.get("num_bits", first.get("bits"))
    group = first.get("group_size", -1)
    symmetric = first.get("symmetric", first.get("sym"))
    if symmetric is None and "zero_point" in first:
        symmetric = not first["zero_point"]
    return {
        "format": style,
        "method": _algorithm(folder) or style,
        "bits": bits,
        "group_size": -1 if group is None else group,
        "symmetric": symmetric,
        "mixed": any(scheme != schemes[0] for scheme in schemes),
    }


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
    """The configuration of a checkpoint folder. Raises InputError where it cannot be read."""
    folder = folder_of(source)
    _config(folder)
    try:
        return AutoConfig.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{folder} has a config.json that transformers cannot use: {_first_line(error)}") from error


def load(source: str | Path, *, device: str = "cpu", dtype: str = "float32", name: str | None = None) -> Model:
    """Load a checkpoint folder, or "atlas", as a plain model; a quantized one comes back dequantized.

    Args:
        source: folder with `config.json`, safetensors and a tokenizer; nothing is ever downloaded.
        device: "cpu", "cuda" or "auto".
        dtype: "float32", "bfloat16" or "float16".

    Raises:
        InputError: not a model folder, tensors missing, an architecture or quantization that cannot be read, NaN or
            Inf in the weights, an unknown dtype, a device that is not there.
    """
    folder, device, kind = folder_of(source), check_device(device), check_dtype(dtype)
    config, tokenizer = config_of(folder), _tokenizer(folder)
    if hasattr(config, "quantization_config"):
        dequantize.prepare(config, str(folder))
        with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            hf = _from_pretrained(folder, config, kind)
            hf = dequantize.plain(hf, config_of(folder), kind, str(folder))
    else:
        hf = _from_pretrained(folder, config, kind)
    _check_finite(folder, hf)
    hf = hf.eval().requires_grad_(False).to(device)
    digest = digest_of(folder) if dtype == "float32" else f"{digest_of(folder)}-{dtype}"
    return Model(hf, tokenizer, name or ("atlas" if str(source) == "atlas" else folder.name), digest)


def _tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    try:
        return AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{folder} has no tokenizer that can be loaded: {_first_line(error)}") from error


def _from_pretrained(folder: Path, config: PretrainedConfig, dtype: torch.dtype) -> PreTrainedModel:
    disable_progress_bar()
    try:
        hf, report = AutoModelForCausalLM.from_pretrained(
            folder, config=config, local_files_only=True, use_safetensors=True, dtype=dtype,
            attn_implementation="eager", output_loading_info=True,
        )  # fmt: skip
    except (OSError, ValueError, KeyError, RuntimeError, ImportError, SafetensorError) as error:
        raise InputError(f"{folder} cannot be loaded as a causal language model: {_first_line(error)}") from error
    if report["missing_keys"]:
        raise InputError(f"{folder} lacks weights that its configuration asks for, first {min(report['missing_keys'])}")
    return hf


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _check_finite(folder: Path, hf: PreTrainedModel) -> None:
    for name, weight in hf.state_dict().items():
        if weight.is_floating_point() and not torch.isfinite(weight).all():
            raise InputError(f"{folder} has NaN or Inf in its weights, first in {place(name)}")


def place(name: str) -> str:
    """`"model.layers.3.self_attn.v_proj.weight"` -> `"layer 3, self_attn.v_proj.weight"`."""
    found = re.search(r"\.(\d+)\.(.+)$", name)
    return f"layer {found[1]}, {found[2]}" if found else name


def check_pair(base: Model, quantized: Model) -> None:
    """Check that two models differ in nothing but the values of their weights.

    Raises:
        InputError: architecture, vocabulary, shapes or tokenizer differ.
    """
    pair = f"{base.name} and {quantized.name} are not a pair"
    if type(base.hf) is not type(quantized.hf):
        raise InputError(f"{pair}: one is a {type(base.hf).__name__}, the other a {type(quantized.hf).__name__}")
    sizes = base.hf.config.vocab_size, quantized.hf.config.vocab_size
    if sizes[0] != sizes[1]:
        raise InputError(f"{pair}: their vocabularies have {sizes[0]} and {sizes[1]} tokens")
    shapes = [{name: tuple(w.shape) for name, w in model.hf.state_dict().items()} for model in (base, quantized)]
    for name in [*shapes[0], *shapes[1]]:
        first, second = (shape.get(name, "nothing") for shape in shapes)
        if first != second:
            raise InputError(f"{pair}: {place(name)} has shape {first} in one and {second} in the other")
    one, other = base.tokenizer, quantized.tokenizer
    if one.get_vocab() != other.get_vocab() or one(PROBE_TEXT).input_ids != other(PROBE_TEXT).input_ids:
        raise InputError(f"{pair}: their tokenizers differ, so the same prompt would be two different inputs")


def twin(model: Model, name: str | None = None) -> Model:
    """The same model once more, on the same weights in memory: its modules may be wrapped and exchanged freely, its
    weights may be read; copy them (`copy.deepcopy(model.hf)`) before you change any."""
    shared = {id(tensor): tensor for tensor in [*model.hf.parameters(), *model.hf.buffers()]}
    return replace(model, hf=copy.deepcopy(model.hf, shared), name=name or model.name)


def splice(base: Model, other: Model, take: Callable[[str], bool]) -> Model:
    """A new model with the weights of `base`, except those whose parameter name `take` accepts, which are `other`'s.

    GPTQ works layer by layer, so taking the first k layers equals quantizing only those; a later layer taken alone was
    calibrated on quantized input.

    Raises:
        InputError: the two are not a pair.
    """
    check_pair(base, other)
    source = dict(other.hf.named_parameters())
    names = [name for name in source if take(name)]
    hf = copy.deepcopy(base.hf)
    target = dict(hf.named_parameters())
    with torch.no_grad():
        for name in names:
            target[name].copy_(source[name])
    digest = hashlib.sha256("\n".join([base.digest, other.digest, *names]).encode()).hexdigest()[:16]
    return Model(hf, base.tokenizer, f"{base.name}+{other.name}", digest)
