"""What a command will take, told before it runs: memory, disk, time. No weights are loaded.

Sizes follow from the configuration, the headers of the files and the prompts. Time is that of a forward pass of one
layer, measured here and now on random weights, times the passes that a diagnosis makes. How many these are, and what is
done beside them, was measured on models of random weights (`benchmarks/costs.py`); the figures stand in `MEASURED`.
"""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import psutil
import torch
from transformers import AutoModelForCausalLM, PretrainedConfig

from quantcliff import models
from quantcliff.errors import InputError, first_line
from quantcliff.probes import facts, recall
from quantcliff.quantizers import Scheme, average_bits, calibration_text, longest_input, sizes_of
from quantcliff.stages.verdict import N_PROMPTS

REPEATS = 3
"""Forward passes that are timed; the fastest counts, since other programs only ever slow one down."""

TOKENS = 2048
"""Tokens of a pass that is timed, in prompts of the study's own length."""


STATED = 2e10
"""Multiplications and additions a second that are supposed where no layer can be measured: a slow core."""


@dataclass(frozen=True)
class Measured:
    """What diagnoses of random models were measured to take.

    Attributes:
        once: forward passes of every prompt. few: of each of at most `N_PROMPTS` prompts, and by_layer: of these, for
            each layer.
        start: seconds of a process. layer: seconds a layer beside the passes. weight: seconds a weight, of the checks
            (all of one core that has nothing else to do).
        library: bytes of memory. copies: of the model's weights in memory at the peak.
        streams: kept on disk of each of the few prompts, at every token, in residual streams after every layer;
        last: of every prompt, at its last token.
    """

    once: float = 2.7
    few: float = 12.5
    by_layer: float = 1.15
    start: float = 10.0
    layer: float = 1.85
    weight: float = 7e-7
    library: float = 0.8e9
    copies: float = 4.8
    streams: float = 3.7
    last: float = 4.0


MEASURED = Measured()


@dataclass(frozen=True)
class Size:
    """A model as its configuration and files have it.

    Attributes:
        parameters: of the whole model. block: of one decoder layer, on average. head: vocabulary times width.
        stored: bytes of its weight files.
    """

    parameters: int
    block: int
    head: int
    layers: int
    width: int
    heads: int
    stored: int

    @classmethod
    def of(cls, source: str | Path) -> "Size":
        """Raises InputError where `source` is no model."""
        config = models.config_of(source)
        with torch.device("meta"):
            hf = AutoModelForCausalLM.from_config(config)
        counts = {name: parameter.numel() for name, parameter in hf.named_parameters()}
        inside = {name: n for name, n in counts.items() if models.LAYER.search(name)}
        layers = 1 + max(models.layer_of(name) for name in inside)
        head = hf.get_output_embeddings().weight.shape
        stored = sum(file.stat().st_size for file in models.folder_of(source).glob("*.safetensors"))
        text = config.get_text_config()
        return cls(
            sum(counts.values()), sum(inside.values()) // layers, head[0] * head[1], layers, head[1],
            text.num_attention_heads, stored,
        )  # fmt: skip


@dataclass(frozen=True)
class Prompts:
    """How many prompts are asked, and of how many tokens each, on average.

    Attributes:
        exact: counted. Else so many are supposed: of a text only those places count at which full precision is sure of
            what comes next, which no configuration tells.
    """

    n: int
    tokens: float
    exact: bool

    @classmethod
    def of(cls, base: str | Path, source: str, text: str | None, n: int, seed: int = 0) -> "Prompts":
        """Those of a fact source, counted; those of a text file at half of what a prompt may have, and no more than it
        has places to ask at.

        Raises:
            InputError: there is no such source, or the text is too short.
        """
        tokenizer = models.tokenizer_of(models.folder_of(base))
        if text:
            lengths = (len(tokenizer(part).input_ids) for part in recall.documents(text))
            places = sum(max(0, length - recall.FEWEST_TOKENS + 1) for length in lengths)
            if places < recall.FEWEST_POSITIONS:
                raise InputError(f"{text} has {places} places to ask at, and {recall.FEWEST_POSITIONS} are needed")
            return cls(min(n, places), (recall.FEWEST_TOKENS + recall.CONTEXT) / 2, False)
        found = facts.probe(facts.load(source, n_facts=n, seed=seed), tokenizer)
        return cls(len(found), float(found.lengths.mean()), True)


def tokens_of(base: str | Path, calibration: str) -> int:
    """Tokens of a calibration source; of what a model writes itself, without letting it write."""
    if sizes := sizes_of(calibration):
        return sizes[0] * sizes[1]
    tokenizer, longest = models.tokenizer_of(models.folder_of(base)), longest_input(models.config_of(base))
    return sum(len(tokenizer(text).input_ids[:longest]) for text in calibration_text(calibration))


def free_memory(device: str) -> float:
    """Bytes that a program can have now, on the machine, on one card ("cuda:1") or on all of them ("cuda")."""
    if not device.startswith("cuda"):
        return float(psutil.virtual_memory().available)
    cards = range(torch.cuda.device_count()) if device == "cuda" else [torch.device(device).index]
    return float(sum(torch.cuda.mem_get_info(card)[0] for card in cards))


def rate(config: PretrainedConfig, tokens: float, device: str, dtype: str) -> tuple[float, str]:
    """Seconds a token takes in one layer, and how that is known.

    One layer of the configuration, with random weights, runs `TOKENS` tokens in prompts of this length; where it cannot
    be made of one layer, `STATED` is taken.
    """
    try:
        with torch.device(device):
            hf = AutoModelForCausalLM.from_config(_of_one_layer(config), dtype=models.DTYPES[dtype]).eval()
    except Exception as error:
        return float("nan"), f"supposed, {STATED:.0e} operations a second: {first_line(error)}"
    length = max(1, round(tokens))
    ids = torch.zeros(max(1, TOKENS // length), length, dtype=torch.long, device=device)
    body, seconds = hf.base_model, []
    with torch.no_grad():
        for _ in range(REPEATS + 1):
            begun = time.perf_counter()
            body(ids)
            if device.startswith("cuda"):
                torch.cuda.synchronize()
            seconds.append(time.perf_counter() - begun)
    return min(seconds[1:]) / ids.numel(), f"one layer, measured on {device} in {dtype}"


def _of_one_layer(config: PretrainedConfig) -> PretrainedConfig:
    values: dict[str, Any] = config.to_dict()
    layers = config.get_text_config().num_hidden_layers
    cut = {name: value[:1] for name, value in values.items() if isinstance(value, list) and len(value) == layers}
    return type(config).from_dict({**values, **cut, "num_hidden_layers": 1})


def diagnosis(base: Size, prompts: Prompts, seconds: float, dtype: str, known: Measured = MEASURED) -> dict[str, float]:
    """What one `diagnose` takes, if full precision answers every prompt and many answers are lost (the most it can be).

    Args:
        seconds: a token in one layer, of `rate`; NaN for `STATED`.

    Returns:
        passes (over all prompts), most (over each of at most `N_PROMPTS` prompts, all that are asked where there are
        no more), seconds, memory and disk in bytes.
    """
    if seconds != seconds:
        seconds = 2 * base.block / STATED
    few = min(prompts.n, N_PROMPTS)
    asked = known.once * prompts.n + few * (known.few + known.by_layer * base.layers)
    one = seconds * (prompts.tokens * base.layers + base.head / base.block)
    weights = base.parameters * models.DTYPES[dtype].itemsize
    return {
        "passes": asked / prompts.n,
        "most": known.once + known.few + known.by_layer * base.layers,
        "seconds": known.start + known.layer * base.layers + known.weight * base.parameters + asked * one,
        "memory": known.library + known.copies * weights,
        "disk": (known.streams * few * prompts.tokens + known.last * prompts.n) * base.layers * base.width * 4,
    }


def quantization(base: str | Path, size: Size, scheme: Scheme, tokens: int, seconds: float) -> dict[str, float]:
    """What `quantize` takes at least: two passes over the calibration text (what the method computes comes on top),
    memory for the weights and one layer's inputs and outputs, disk for codes, scales and the rest as it is.

    Args:
        tokens: of the calibration text. seconds: a token in one layer, of `rate`.
    """
    config, known = models.config_of(base), MEASURED
    linear = sum(rows * columns for rows, columns in models.linears(config).values())
    if seconds != seconds:
        seconds = 2 * size.block / STATED
    return {
        "seconds": known.start + 2 * tokens * size.layers * seconds,
        "memory": known.library + 2 * size.stored + 2 * 4 * tokens * size.width,
        "disk": linear * average_bits(config, scheme) / 8 + (size.parameters - linear) * size.stored / size.parameters,
    }


def passes(found: dict[str, float], prompts: Prompts) -> str:
    """What `diagnosis` found, in plain forward passes, in words."""
    said = f"{found['passes']:.0f} plain forward passes over {prompts.n:,} prompts"
    if prompts.exact or prompts.n <= N_PROMPTS:
        return said
    return f"{said} ({found['most']:.0f} over {N_PROMPTS} or fewer, if full precision is sure of no more of the text)"


def words(count: float | int) -> str:
    """Bytes in words: `2.6e9` -> "2.6 GB"."""
    for unit, step in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= step:
            return f"{count / step:.1f} {unit}"
    return f"{count:.0f} bytes"


def clock(seconds: float | int) -> str:
    """Seconds in words, as coarse as they are known: `95` -> "2 minutes"."""
    if seconds < 90:
        return f"{seconds:.0f} seconds"
    if seconds < 5400:
        return f"{seconds / 60:.0f} minutes"
    return f"{seconds / 3600:.1f} hours"


def table(rows: dict[str, dict[str, float]]) -> pd.DataFrame:
    """Rows of `memory`, `disk` and `seconds` in words, one a command."""
    shown = [(words(row["memory"]), words(row["disk"]), clock(row["seconds"])) for row in rows.values()]
    return pd.DataFrame(shown, columns=["memory", "disk", "time"], index=list(rows))


def short(rows: dict[str, dict[str, float]], memory: float, disk: float) -> list[str]:
    """A sentence for each command that asks for more than there is, in bytes."""
    return [
        f"{name} needs {words(row[kind])} of {kind}, and {words(free)} are free"
        for name, row in rows.items() for kind, free in (("memory", memory), ("disk", disk)) if row[kind] > free
    ]  # fmt: skip
