"""The pairs of the bench: healthy checkpoints of every model, and faults planted into some of them.

Nothing here was changed after a pair had been diagnosed, but for one word: the head of GPT-NeoX, `embed_out` in the
file, is `lm_head` in the loaded model, and so the file check calls it.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from proof import small
from quantcliff import smollm2
from quantcliff.models import folder_of
from quantcliff.quantizers import Scheme, calibration_text, planted, quantize

LEVELS = ("weak", "middle", "strong")


@dataclass(frozen=True)
class Fault:
    """One planted fault.

    Attributes:
        kind: what is wrong, in words.
        level: one of `LEVELS`; `strength`: what that is here, in words.
        place: words of which every one must stand in one sentence of the file check.
        headline: what the headline must begin with.
        plant: (source, out) -> out, a folder; the source is the healthy twin, or the base if `dense`.
    """

    kind: str
    level: str
    strength: str
    place: tuple[str, ...]
    plant: Callable[[Path, Path], Path] = field(compare=False, repr=False)
    headline: str = "format bug"
    dense: bool = False


@dataclass(frozen=True)
class Pair:
    """A base and a quantized model; `model` is "atlas", "smollm2" or one of `small.NAMES`."""

    model: str
    scheme: Scheme
    fault: Fault | None = None

    @property
    def name(self) -> str:
        """`"atlas/gptq-3bit-g128-d0.1"`, `"neox/rtn-4bit-g32/lost bias/weak"`"""
        damped = f"-d{self.scheme.damping:g}" if self.scheme.damping != Scheme.damping else ""
        parts = [self.model, self.scheme.label + damped]
        return "/".join(parts + ([self.fault.kind, self.fault.level] if self.fault else []))

    def base(self, cache: Path) -> Path:
        """Folder of the full-precision model."""
        return cache / "models" / self.model if self.model in small.NAMES else folder_of(self.model)

    def checkpoint(self, cache: Path) -> Path:
        """Folder of the quantized model, made if it is not there."""
        if self.fault and self.fault.dense:
            spoilt = cache / "spoilt" / self.name
            if not spoilt.exists():
                self.fault.plant(self.base(cache), spoilt)
            return quantize(spoilt, self.scheme, self._text(cache), cache / "quantized" / self.model)
        twin = quantize(self.base(cache), self.scheme, self._text(cache), cache / "quantized" / self.model)
        if not self.fault:
            return twin
        out = cache / "planted" / self.name
        if not out.exists():
            part = out.with_name(f".{out.name}")
            self.fault.plant(twin, part)
            part.rename(out)
        return out

    def _text(self, cache: Path) -> list[str]:
        if self.scheme.method == "rtn":
            return []
        if self.model == "atlas":
            return calibration_text("atlas")
        if self.model == "smollm2":
            return calibration_text("self:64x256", model=self.model, method=self.scheme.method)
        return small.documents(small.RECIPES[self.model])

    def facts(self, cache: Path) -> str | Path:
        """What `diagnose` asks."""
        if self.model in small.NAMES:
            return small.fact_file(cache / "models", small.RECIPES[self.model])
        return smollm2.NAME if self.model == smollm2.NAME else "atlas"


def healthy() -> list[Pair]:
    """Every method, width, group size, damping of the bench; SmolLM2's are the twelve of its chapter."""
    found = [Pair("atlas", Scheme(m, b, 128)) for m in ("gptq", "awq", "rtn") for b in (8, 4, 3, 2)]
    found += [Pair("neox", Scheme(m, b, 32)) for m in ("gptq", "rtn") for b in (8, 4, 3, 2)]
    found += [Pair("qwen3", Scheme(m, b, 32)) for m in ("gptq", "awq", "rtn") for b in (8, 4, 3, 2)]
    found += [Pair("atlas", Scheme("rtn", b, size)) for size in (64, 32) for b in (4, 3, 2)]
    found += [Pair("atlas", Scheme("gptq", b, 32)) for b in (4, 3, 2)]
    found += [Pair("atlas", Scheme("awq", b, 32)) for b in (3, 2)]
    found += [Pair("atlas", Scheme("rtn", b, 64, symmetric=True)) for b in (4, 3)]
    found += [Pair("atlas", Scheme("gptq", b, 64, symmetric=True)) for b in (4, 3)]
    found += [Pair("atlas", Scheme("gptq", b, 64, damping=d)) for d in (0.1, 1.0) for b in (3, 2)]
    found += [Pair("neox", Scheme("rtn", b, 128)) for b in (4, 3, 2)]
    found += [Pair("qwen3", Scheme("rtn", b, 128)) for b in (4, 3, 2)]
    return found + [Pair("smollm2", Scheme(m, b, 64)) for m in ("gptq", "awq", "rtn") for b in (8, 4, 3, 2)]


TWIN = Scheme("gptq", 4, 32)
"""The healthy twin of faults planted into a packed checkpoint of atlas and the small models."""

ROUNDED = Scheme("rtn", 4, 32)
"""That of faults made before quantization."""


def faults() -> list[Pair]:
    """Eighteen kinds of fault at three strengths, the weakest first."""
    found = [Pair("atlas", ROUNDED if fault.dense else TWIN, fault) for fault in _of_atlas()]
    found += [Pair("neox", TWIN, fault) for fault in _of_neox()]
    found += [Pair("qwen3", TWIN, fault) for fault in _of_qwen()]
    return found + [Pair("smollm2", Scheme("rtn", 4, 64), fault) for fault in _of_smollm2()]


def everything() -> list[Pair]:
    """All pairs, healthy ones first."""
    return healthy() + faults()


def _three(kind: str, place: tuple[str, ...], plants: dict[str, Callable[[Path, Path], Path]], **more) -> list[Fault]:
    named = zip(LEVELS, plants.items(), strict=True)
    return [Fault(kind, level, strength, place, plant, **more) for level, (strength, plant) in named]


def _of_atlas() -> list[Fault]:
    p, rows = planted, {"1 row": slice(1), "8 rows": slice(8), "all rows": slice(None)}
    up, norm = "mlp.up_proj", r"layers\.2\.input_layernorm\.weight$"
    found = _three("scales of a layer", ("layer 3",), {
        f"x {f}": partial(p.scaled, layer=3, factor=f) for f in (1.05, 1.25, 4.0)})  # fmt: skip
    found += _three("scales of a module", ("layer 5", up), {
        f"x 4, {n}": partial(p.scaled, layer=5, module=up, rows=r) for n, r in rows.items()})  # fmt: skip
    found += _three("zero points off by one", ("layer 2", "self_attn.v_proj"), {
        n: partial(p.moved, layer=2, module="self_attn.v_proj", rows=r) for n, r in rows.items()})  # fmt: skip
    found += _three("groups exchanged", ("layer 0", up), {
        f"{n} pairs": partial(p.exchanged, layer=0, module=up, pairs=[((i, 0), (100 + i, 1)) for i in range(n)])
        for n in (1, 8, 64)})  # fmt: skip
    found += _three("rows exchanged", ("layer 4", "mlp.gate_proj"), {
        f"{n} rows": partial(p.rows_swapped, layer=4, module="mlp.gate_proj", rows=n)
        for n in (2, 16, 256)})  # fmt: skip
    found += _three("scales in reverse order", ("layer 5", "mlp.down_proj"), {
        n: partial(p.scales_reversed, layer=5, module="mlp.down_proj", rows=r) for n, r in rows.items()})  # fmt: skip
    found += _three("group size misread", ("layer 1",), {
        "1 module": partial(p.group_size_misread, layers=[1], module="self_attn.k_proj"),
        "1 layer": partial(p.group_size_misread, layers=[1]),
        "all layers": partial(p.group_size_misread, layers=range(8))})  # fmt: skip
    found += _three("nibbles in the other order", ("layer 6", "mlp.gate_proj"), {
        n: partial(p.nibbles_swapped, layer=6, module="mlp.gate_proj", rows=r) for n, r in rows.items()})  # fmt: skip
    found += _three("weights of another layer", ("layer 3",), {
        words: partial(p.of_other_layer, layer=3, other=4, module=m)
        for words, m in (("k_proj", "self_attn.k_proj"), ("attention", "self_attn"), ("all modules", ""))})  # fmt: skip
    found += _three("norm", ("layer 2", "input_layernorm"), {
        "x 1.03": partial(p.changed, pattern=norm, change=partial(torch.mul, other=1.03)),
        "x 1.25": partial(p.changed, pattern=norm, change=partial(torch.mul, other=1.25)),
        "ones": partial(p.changed, pattern=norm, change=torch.ones_like)})  # fmt: skip
    found += _three("rows of the embeddings exchanged", ("embed_tokens",), {
        f"{n} rows": partial(p.changed, pattern="embed_tokens", change=partial(_reversed, rows=n))
        for n in (2, 40, 400)})  # fmt: skip
    found += _three("rope_theta", ("rope_theta",), {
        f"x {f}": partial(p.setting, name="rope_parameters.rope_theta", factor=f)
        for f in (1.01, 2.0, 100.0)})  # fmt: skip
    found += _three("epsilon of the norms", ("rms_norm_eps",), {
        f"x {f:g}": partial(p.setting, name="rms_norm_eps", factor=f) for f in (2.0, 10.0, 1000.0)})  # fmt: skip
    found += _three("smoothing on one side", ("layer 3", up), {
        f"spread {s}": partial(p.half_smoothed, layer=3, spread=s) for s in (0.05, 0.2, 0.5)}, dense=True)  # fmt: skip
    square = ("self_attn.q_proj", "self_attn.o_proj")
    found += _three("square matrix transposed", ("layer 2", "self_attn.q_proj"), {
        "q_proj": partial(p.transposed, layers=[2], modules=square[:1]),
        "q_proj, o_proj": partial(p.transposed, layers=[2], modules=square),
        "all layers": partial(p.transposed, layers=range(8), modules=square)}, dense=True)  # fmt: skip
    return found + _three("finetuned base", (), {
        f"change of {s:.0%}": partial(p.finetuned, share=s) for s in (0.02, 0.05, 0.1)},
        headline="not made from this base", dense=True)  # fmt: skip


def _of_neox() -> list[Fault]:
    p, attention = planted, r"attention\.query_key_value\.bias$"
    found = _three("lost bias", ("layer 2", "attention.query_key_value.bias"), {
        words: partial(p.changed, pattern=pattern, change=torch.zeros_like)
        for words, pattern in (("1 module", rf"layers\.2\.{attention}"), ("1 layer", r"layers\.2\..*(?<!norm)\.bias$"),
                               ("all layers", r"layers\..*(?<!norm)\.bias$"))})  # fmt: skip
    found += _three("rows of the head exchanged", ("lm_head",), {
        f"{n} rows": partial(p.changed, pattern="embed_out", change=partial(_reversed, rows=n))
        for n in (2, 40, 400)})  # fmt: skip
    return [*found, *_three("zero points off by one", ("layer 1", "mlp.dense_h_to_4h"), {
        n: partial(p.moved, layer=1, module="mlp.dense_h_to_4h", rows=r)
        for n, r in (("1 row", slice(1)), ("8 rows", slice(8)), ("all rows", slice(None)))})]  # fmt: skip


def _of_qwen() -> list[Fault]:
    p = planted
    found = _three("norm", ("layer 1", "self_attn.q_norm"), {
        "x 1.03": partial(p.changed, pattern=r"layers\.1\.self_attn\.q_norm", change=partial(torch.mul, other=1.03)),
        "x 1.25": partial(p.changed, pattern=r"layers\.1\.self_attn\.q_norm", change=partial(torch.mul, other=1.25)),
        "ones": partial(p.changed, pattern=r"layers\.1\.self_attn\.q_norm", change=torch.ones_like)})  # fmt: skip
    return [*found, *_three("rows exchanged", ("layer 3", "mlp.down_proj"), {
        f"{n} rows": partial(p.rows_swapped, layer=3, module="mlp.down_proj", rows=n)
        for n in (2, 16, 128)})]  # fmt: skip


def _of_smollm2() -> list[Fault]:
    p = planted
    found = _three("scales of a layer", ("layer 14",), {
        f"x {f}": partial(p.scaled, layer=14, factor=f) for f in (1.05, 1.25, 4.0)})  # fmt: skip
    return [*found, *_three("zero points off by one", ("layer 20", "mlp.gate_proj"), {
        n: partial(p.moved, layer=20, module="mlp.gate_proj", rows=r)
        for n, r in (("1 row", slice(1)), ("8 rows", slice(8)), ("all rows", slice(None)))})]  # fmt: skip


def _reversed(weight: Tensor, rows: int) -> Tensor:
    """The first `rows` ordinary rows in reverse order."""
    return torch.cat([weight[:1], weight[1 : 1 + rows].flip(0), weight[1 + rows :]])
