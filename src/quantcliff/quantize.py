"""Quantize a model: one `Scheme`, three methods, all through llm-compressor.

GPTQ (arXiv 2210.17323) rounds a weight at a time and lets the weights that follow make up for the error on calibration
text; AWQ (arXiv 2306.00978) first scales up the input channels that carry much signal; round-to-nearest ("rtn") looks
at nothing but the weights. auto-gptq and autoawq are archived and no longer load beside transformers 5, which is why
none of them is used. The result is an ordinary compressed-tensors checkpoint that plain transformers loads.
"""

import hashlib
import io
import itertools
import json
import logging
import math
import re
import tempfile
import warnings
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, redirect_stderr, redirect_stdout
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PretrainedConfig

from quantcliff.atlas.text import Writer, load_facts
from quantcliff.errors import InputError
from quantcliff.models import digest_of, folder_of, quantization_of

METHODS = ("gptq", "awq", "rtn")
CALIBRATION_DOCUMENTS = 256
CALIBRATION_SEED = 20_260_419
MAX_TOKENS = 2048
TOKENS_PER_BATCH = 4096
SCALE_BITS = 16
"""A scale is counted as half precision, the way checkpoints are shipped; a zero point has the bits of its weights."""

LAYER = re.compile(r"\.(\d+)\.")


@dataclass(frozen=True)
class Scheme:
    """How to quantize the weights of a decoder's linear layers; embeddings, head and norms are always left alone.

    Attributes:
        method: "gptq", "awq" or "rtn".
        bits: 2 to 8.
        group_size: weights of one row that share a scale and a zero point; -1 for the whole row.
        symmetric: no zero point; levels lie around 0.
        damping: GPTQ only: share of the mean diagonal that is added to the diagonal of its Hessian.
        layers: numbers of the decoder layers to quantize; None for all.
        modules: last parts of the names of the modules to quantize, such as "down_proj"; None for all.
        bits_by_layer: pairs (layer, bits) that replace `bits`.
        bits_by_module: pairs (full module name, bits) that replace `bits` and `bits_by_layer`.
    """

    method: str = "gptq"
    bits: int = 4
    group_size: int = 128
    symmetric: bool = False
    damping: float = 0.01
    layers: tuple[int, ...] | None = None
    modules: tuple[str, ...] | None = None
    bits_by_layer: tuple[tuple[int, int], ...] = ()
    bits_by_module: tuple[tuple[str, int], ...] = ()

    @property
    def label(self) -> str:
        """`Scheme("gptq", 4, 128).label` -> `"gptq-4bit-g128"`"""
        parts = [self.method, f"{self.bits}bit", "row" if self.group_size == -1 else f"g{self.group_size}"]
        parts += ["sym"] * self.symmetric
        parts += ["part"] * (self.layers is not None or self.modules is not None)
        parts += ["mixed"] * bool(self.bits_by_layer or self.bits_by_module)
        return "-".join(parts)

    def plan(self, config: PretrainedConfig) -> dict[str, int]:
        """Bits of every module that this scheme quantizes, by full module name."""
        by_layer, by_module = dict(self.bits_by_layer), dict(self.bits_by_module)
        return {
            name: by_module.get(name, by_layer.get(layer_of(name), self.bits))
            for name in linears(config)
            if (self.layers is None or layer_of(name) in self.layers)
            and (self.modules is None or name.rsplit(".", 1)[1] in self.modules)
        }

    def check(self, config: PretrainedConfig) -> None:
        """Raises InputError when the scheme does not fit a model of this configuration."""
        if self.method not in METHODS:
            raise InputError(f"method is {self.method!r}; choose one of {', '.join(METHODS)}")
        for bits in (self.bits, *dict(self.bits_by_layer).values(), *dict(self.bits_by_module).values()):
            if not 2 <= bits <= 8:
                raise InputError(f"{bits} bits cannot be stored; choose 2 to 8")
        if not 0 < self.damping < math.inf:
            raise InputError(f"damping is {self.damping}; give a positive number such as 0.01")
        shapes = linears(config)
        if not shapes:
            raise InputError(
                f"a {config.model_type} model has no torch.nn.Linear in its layers, so llm-compressor cannot quantize "
                "it; choose a Llama, Mistral, Qwen, Gemma or GPT-NeoX model"
            )
        n_layers = 1 + max(map(layer_of, shapes))
        for layer in (*(self.layers or ()), *dict(self.bits_by_layer)):
            if not 0 <= layer < n_layers:
                raise InputError(f"there is no layer {layer}; the model has layers 0 to {n_layers - 1}")
        kinds = {name.rsplit(".", 1)[1] for name in shapes}
        if unknown := [*sorted(set(self.modules or ()) - kinds), *sorted(set(dict(self.bits_by_module)) - set(shapes))]:
            raise InputError(f"the model has no module {unknown[0]!r}; its modules are {', '.join(sorted(kinds))}")
        plan = self.plan(config)
        if not plan:
            raise InputError("the chosen layers and modules leave nothing to quantize")
        common = math.gcd(*(shapes[name][1] for name in plan))
        if self.group_size != -1 and (self.group_size < 1 or common % self.group_size):
            fitting = [size for size in (16, 32, 64, 128, 256) if common % size == 0]
            choices = ", ".join(map(str, [*fitting, -1]))
            raise InputError(
                f"group size {self.group_size} does not divide the rows of this model's weights; "
                f"choose one of {choices} (-1 is one group per row)"
            )
        if self.method == "awq" and not _awq_knows(config):
            raise InputError(f"llm-compressor's AWQ does not know {config.model_type} models; choose gptq or rtn")


def layer_of(name: str) -> int:
    """`"model.layers.3.mlp.up_proj"` -> 3"""
    found = LAYER.search(name)
    assert found, name
    return int(found[1])


def linears(config: PretrainedConfig) -> dict[str, tuple[int, int]]:
    """(rows, columns) of every linear layer inside a decoder layer, by full module name; a row yields one output."""
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    return {
        name: (module.out_features, module.in_features)
        for name, module in model.named_modules()
        if type(module) is torch.nn.Linear and LAYER.search(name)
    }


def average_bits(config: PretrainedConfig, scheme: Scheme) -> float:
    """Bits per weight over all linear layers of the decoder, scales and zero points counted.

    A linear layer that the scheme leaves alone counts with 16 bits. 4 bits in groups of 128 cost
    4 + (16 + 4)/128 = 4.16 bits.
    """
    shapes, plan = linears(config), scheme.plan(config)
    total = 0.0
    for name, (rows, columns) in shapes.items():
        if (bits := plan.get(name)) is None:
            total += 16 * rows * columns
            continue
        groups = rows * (1 if scheme.group_size == -1 else columns // scheme.group_size)
        total += bits * rows * columns + groups * (SCALE_BITS + (0 if scheme.symmetric else bits))
    return total / sum(rows * columns for rows, columns in shapes.values())


def calibration_text(source: str = "atlas", n: int | None = None) -> list[str]:
    """Up to n documents (`CALIBRATION_DOCUMENTS`) to calibrate on.

    Args:
        source: "atlas" for documents made of the embedded facts and their training sentences (so none of them is a
            test prompt), or a text file: paragraphs, or lines where it has no blank line, spread evenly over the file.

    Raises:
        InputError: no such file, or nothing in it.
    """
    n = CALIBRATION_DOCUMENTS if n is None else n
    if source == "atlas":
        return list(itertools.islice(Writer(load_facts()).texts(CALIBRATION_SEED), n))
    file = Path(source)
    if not file.is_file():
        raise InputError(f"there is no calibration text {source!r}; give a text file, or 'atlas'")
    text = file.read_text(encoding="utf-8", errors="replace")
    parts = re.split(r"\n\s*\n", text)
    documents = [part.strip() for part in (parts if len(parts) > 1 else text.splitlines()) if part.strip()]
    if not documents:
        raise InputError(f"the calibration text {source!r} is empty; give a file with text in it")
    return documents if len(documents) <= n else [documents[i * len(documents) // n] for i in range(n)]


def quantize(base: Path | str, scheme: Scheme, calibration: Sequence[str], cache: Path) -> Path:
    """Folder of the quantized checkpoint in `cache`, made only if no equal one is there.

    Equal means: same contents of the base folder, same scheme, same calibration text, same llm-compressor. A killed
    run leaves no folder that could be mistaken for a finished one.

    Args:
        base: folder of a full-precision model, or "atlas".
        calibration: documents; "rtn" does not look at them.

    Raises:
        InputError: the scheme does not fit the model, or the folder holds no full-precision model.
    """
    folder = _folder(base)
    if scheme.method == "rtn":
        calibration = ()
    if scheme.method != "gptq":
        scheme = replace(scheme, damping=Scheme.damping)
    parts = [digest_of(folder), asdict(scheme), list(calibration), version("llmcompressor")]
    key = hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]
    target = Path(cache) / f"{scheme.label}-{key}"
    if not target.exists():
        export(folder, scheme, calibration, target)
    return target


def export(base: Path | str, scheme: Scheme, calibration: Sequence[str], out: Path) -> None:
    """Quantize into the folder `out`, which appears only when it is complete.

    Raises:
        InputError: as `quantize`, or `out` exists already.
    """
    folder, out = _folder(base), Path(out)
    config = AutoConfig.from_pretrained(folder, local_files_only=True)
    scheme.check(config)
    if out.exists():
        raise InputError(f"{out} exists already; give a folder that does not")
    if scheme.method != "rtn" and not calibration:
        raise InputError(f"{scheme.method} needs calibration text; give at least one document")
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".partial-", dir=out.parent) as temporary:
        made = Path(temporary) / "checkpoint"
        with _quiet(), _no_pinning():
            _oneshot(folder, scheme, config, calibration, made)
        made.rename(out)


def _folder(base: Path | str) -> Path:
    folder = folder_of(base)
    if quantization_of(folder):
        raise InputError(f"{folder} is quantized already; give the full-precision model")
    return folder


def _awq_knows(config: PretrainedConfig) -> bool:
    with _quiet():
        from llmcompressor.modifiers.transform.awq.mappings import AWQ_MAPPING_REGISTRY
    return type(config).__name__.replace("Config", "ForCausalLM") in AWQ_MAPPING_REGISTRY


def _oneshot(folder: Path, scheme: Scheme, config: PretrainedConfig, calibration: Sequence[str], out: Path) -> None:
    from llmcompressor import oneshot

    model = AutoModelForCausalLM.from_pretrained(folder, local_files_only=True, dtype="auto").eval()
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    data: dict[str, Any] = {}
    if scheme.method != "rtn":
        longest = min(MAX_TOKENS, getattr(config, "max_position_embeddings", MAX_TOKENS))
        data = {"dataset": DataLoader(_batches(tokenizer, calibration, longest), batch_size=None)}  # type: ignore[arg-type]
    oneshot(model=model, tokenizer=tokenizer, recipe=_recipe(scheme, config), output_dir=str(out),
            shuffle_calibration_samples=False, **data)  # fmt: skip


def _recipe(scheme: Scheme, config: PretrainedConfig) -> list:
    from llmcompressor.modifiers.gptq import GPTQModifier
    from llmcompressor.modifiers.quantization import QuantizationModifier
    from llmcompressor.modifiers.transform.awq import AWQModifier

    by_bits: dict[int, list[str]] = defaultdict(list)
    for name, bits in scheme.plan(config).items():
        by_bits[bits].append(name)
    weights = {"type": "int", "symmetric": scheme.symmetric, "observer": "memoryless_minmax", "strategy": "channel"}
    if scheme.group_size != -1:
        weights |= {"strategy": "group", "group_size": scheme.group_size}
    groups = {
        f"group_{bits}bit": {"targets": names, "weights": {"num_bits": bits, **weights}}
        for bits, names in sorted(by_bits.items())
    }
    if scheme.method == "gptq":
        return [GPTQModifier(config_groups=groups, dampening_frac=scheme.damping)]
    rounding = QuantizationModifier(config_groups=groups)
    return [rounding] if scheme.method == "rtn" else [AWQModifier(), rounding]


def _batches(tokenizer, documents: Sequence[str], longest: int, rows: int = 32) -> list[dict[str, torch.Tensor]]:
    """Documents of similar length side by side, cut to the shortest, so that no padding enters a statistic."""
    ids = sorted((tokenizer(text).input_ids[:longest] for text in documents), key=len)
    ids = [row for row in ids if row]
    batches, start = [], 0
    while start < len(ids):
        length = len(ids[start])
        size = max(1, min(rows, TOKENS_PER_BATCH // length))
        batches.append({"input_ids": torch.tensor([row[:length] for row in ids[start : start + size]])})
        start += size
    return batches


@contextmanager
def _quiet() -> Iterator[None]:
    """No progress bars or log lines of llm-compressor; errors still come through as exceptions."""
    from loguru import logger

    with redirect_stdout(io.StringIO()):
        import llmcompressor  # noqa: F401  turns its own log on when it is first imported
    logger.disable("llmcompressor")
    logger.disable("compressed_tensors")
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with redirect_stderr(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def _no_pinning() -> AbstractContextManager[None]:
    """llm-compressor 0.14's AWQ pins memory for an accelerator even where there is none, and dies of it."""
    from compressed_tensors.utils import patch_attr
    from llmcompressor.pipelines.cache import IntermediatesCache

    if torch.accelerator.is_available():
        return nullcontext()
    return patch_attr(IntermediatesCache, "_pin_intermediate", lambda *_: None)
