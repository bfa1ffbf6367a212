"""A base or quantized checkpoint as a plain Hugging Face model, and the check that two of them are a pair.

Every later stage sees ordinary `Linear` layers: a quantized model comes back with its dequantized weights.
"""

import io
import re
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from torch import Tensor
from transformers import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    AutoModelForCausalLM,
    AutoTokenizer,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils.logging import disable_progress_bar

from quantcliff.errors import InputError, first_line
from quantcliff.models import dequantize, experts, gguf_file, packed, spread
from quantcliff.models.folders import config_of, digest_of, folder_of, named, stated_of
from quantcliff.models.linears import place, sideways, turn
from quantcliff.models.served import Served

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True, eq=False)
class Model:
    """A causal language model in evaluation mode, with eager attention and no gradients.

    `digest` names the content: equal weights, configuration, dtype and `served`, equal digest. `served`: what whoever
    runs it must quantize on the way (`models.served`); `hf` by itself does not.
    """

    hf: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    name: str
    digest: str
    served: Served | None = None


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


def load(
    source: str | Path,
    *,
    device: str = "cpu",
    dtype: str = "float32",
    name: str | None = None,
    base: str | Path | None = None,
) -> Model:
    """Load a checkpoint folder, "atlas" or "smollm2" as a plain model; a quantized one comes back dequantized.

    Args:
        source: folder with `config.json`, safetensors and a tokenizer; nothing is ever downloaded.
        device: "cpu", "cuda" or "auto"; on "cuda" a model that is too large for one of several cards lies on all.
        dtype: "float32", "bfloat16" or "float16".
        base: what it was quantized from. A GGUF file states few of its settings; it is run with the base's.

    Raises:
        InputError: not a model folder, tensors missing, an architecture or quantization that cannot be read, NaN or
            Inf in the weights, an unknown dtype, a device that is not there.
    """
    folder, device, kind = folder_of(source), check_device(device), check_dtype(dtype)
    config, tokenizer = config_of(folder if base is None or not gguf_file.made(folder) else base), tokenizer_of(folder)
    if hasattr(config, "quantization_config"):
        hf = _dequantized(folder, config, kind)
    else:
        hf = pretrained(folder, config, kind)
    turn(hf)
    _check_finite(folder, hf)
    hf = spread.put(hf.eval().requires_grad_(False), device, str(folder))
    digest = digest_of(folder) if dtype == "float32" else f"{digest_of(folder)}-{dtype}"
    return Model(hf, tokenizer, name or (str(source) if str(source) in named() else folder.name), digest)


def _dequantized(folder: Path, config: PretrainedConfig, dtype: torch.dtype) -> PreTrainedModel:
    stated = stated_of(folder)
    dequantize.check_readable(stated, str(folder))
    if stated["quant_method"] in packed.LAYOUTS:
        del config.quantization_config
        return pretrained(folder, config, dtype, packed.weights(folder, stated, sideways(config)))
    with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()), dequantize.packed_modules():
        return dequantize.plain(pretrained(folder, config, dtype), config_of(folder), dtype, str(folder))


def tokenizer_of(folder: Path) -> PreTrainedTokenizerBase:
    """The tokenizer of a checkpoint folder. Raises InputError where there is none that can be loaded."""
    try:
        return AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except Exception as error:  # tokenizers raises bare Exceptions
        raise InputError(f"{folder} has no tokenizer that can be loaded: {first_line(error)}") from error


def pretrained(
    folder: Path, config: PretrainedConfig, dtype: torch.dtype | str, state: dict[str, Tensor] | None = None
) -> PreTrainedModel:
    """The model as transformers loads it, from the files of the folder or from `state`, what they hold dequantized.

    Raises:
        InputError: it cannot be loaded, or weights are missing.
    """
    disable_progress_bar()
    auto = AutoModelForCausalLM if state is None else MODEL_FOR_CAUSAL_LM_MAPPING[type(config)]  # which takes no state
    try:
        hf, report = auto.from_pretrained(
            folder if state is None else None, config=config, state_dict=state, local_files_only=True,
            use_safetensors=True, dtype=dtype, attn_implementation="eager", output_loading_info=True,
        )  # fmt: skip
    except (OSError, ValueError, KeyError, RuntimeError, ImportError, SafetensorError) as error:
        raise InputError(f"{folder} cannot be loaded as a causal language model: {first_line(error)}") from error
    if missing := experts.fill(hf, folder, report["missing_keys"], stated_of(folder)):
        raise InputError(f"{folder} lacks weights that its configuration asks for, first {min(missing)}")
    return hf


def _check_finite(folder: Path, hf: PreTrainedModel) -> None:
    for name, weight in hf.state_dict().items():
        if weight.is_floating_point() and weight.numel() and not torch.isfinite(torch.stack(weight.aminmax())).all():
            raise InputError(f"{folder} has NaN or Inf in its weights, first in {place(name)}")
