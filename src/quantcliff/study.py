"""One question asked of one model: which facts, which quantized variants, where the results lie.

Every chapter and the command line start from a `Study`. Nothing is loaded or quantized before it is needed, and what
was once computed is read back: quantized checkpoints, activations of the full-precision model and stage tables all lie
in the run folder under names made of their content.
"""

import hashlib
import json
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from functools import cache, cached_property
from pathlib import Path

import pandas as pd
import torch
from tqdm import tqdm

from quantcliff import facts as fact_sources
from quantcliff import levels, models, quantize, recall, tables
from quantcliff.errors import InputError
from quantcliff.facts import Probes
from quantcliff.models import Model
from quantcliff.quantize import Scheme
from quantcliff.trace import Positions, Runner, Trace, score

FULL = "full"
"""Label of the full-precision model."""

INSIDE = 800
"""Known facts whose activations are looked at; answers are counted over all of them."""

REFERENCE_BITS = 4
"""The failure subset is what the variant with this many bits gets wrong (arXiv 2604.19884, set-up)."""

DEFAULTS = {"model": "atlas", "quantized": "", "method": "gptq", "bits": "4,3,2", "group_size": 128, "facts": "atlas",
            "text": "", "n_facts": 4000, "dtype": "float32", "seed": 0}  # fmt: skip
VARIANTS_HELD = 2
"""Quantized models in memory beside full precision, each once."""


@dataclass(frozen=True)
class Variant:
    """A quantized model of the study; `path` makes the checkpoint when it is first asked for."""

    label: str
    method: str
    bits: int
    group_size: int
    scheme: Scheme | None
    """None for a checkpoint that the reader brought."""
    make: Callable[[], Path] = field(repr=False, compare=False)

    @cached_property
    def path(self) -> Path:
        """Folder of the checkpoint."""
        return self.make()


class Study:
    """Facts, a full-precision model and its quantized variants.

    Args:
        model: "atlas" or the folder of a full-precision model.
        quantized: folder of a quantized model of the reader's own; replaces `method`, `bits` and `group_size`.
        method: "gptq", "awq", "rtn", or several: "gptq,awq" or a list.
        bits: 4, or several: "4,3,2" or a list.
        group_size: weights that share a scale, -1 for a whole row.
        facts: "atlas", a ParaRel folder, or a .jsonl or .csv file.
        text: text file for the next-token-recall probe, which takes the place of facts.
        n_facts: facts (or positions of the text) to draw.
        device, dtype: where and in which numbers models run.
        seed: decides every random draw.
        run: folder of results.
        calibration: "atlas" or a text file, for GPTQ and AWQ.

    Raises:
        InputError: an argument that cannot be used; said before anything long begins.
    """

    def __init__(
        self,
        model: str | Path = "atlas",
        quantized: str | Path | None = None,
        method: str | Sequence[str] = "gptq",
        bits: int | str | Sequence[int] = (4, 3, 2),
        group_size: int | str = 128,
        facts: str | Path = "atlas",
        n_facts: int | str = 4000,
        text: str | Path | None = None,
        device: str = "auto",
        dtype: str = "float32",
        seed: int | str = 0,
        run: str | Path = "runs/atlas",
        calibration: str | Path = "atlas",
    ):
        self.source = str(model)
        self.folder = models.folder_of(model)
        self.quantized = models.folder_of(quantized) if quantized else None
        self.methods = tuple(part.strip() for part in method.split(",")) if isinstance(method, str) else tuple(method)
        self.bits = _numbers(bits)
        if not self.methods or not self.bits:
            raise InputError(f"no {'bits are' if self.methods else 'method is'} given; give at least one")
        self.group_size = _number(group_size, "group_size")
        self.n_facts = _number(n_facts, "n_facts")
        self.seed = _number(seed, "seed")
        self.facts_source, self.text = str(facts), str(text) if text else None
        self.device, self.dtype = models.check_device(device), dtype
        models.check_dtype(dtype)
        self.run = Path(run)
        self.calibration = str(calibration)
        if models.quantization_of(self.folder):
            raise InputError(f"{model} is quantized already; give the full-precision model as base")
        _ = recall.documents(self.text) if self.text else self.facts
        if self.calibration != "atlas":
            _ = self.calibration_text
        self._models: OrderedDict[str, Model] = OrderedDict()
        self._runners: dict[str, Runner] = {}
        if self.quantized:
            models.check_pair(self.base, self.model(next(iter(self.variants))))
        else:
            config = models.config_of(self.folder)
            for variant in self.variants.values():
                if variant.scheme:
                    variant.scheme.check(config)

    @property
    def is_default(self) -> bool:
        """Whether this is the study the book was written about, so that its claims must hold."""
        return self.is_default_but()

    def is_default_but(self, **chapter: object) -> bool:
        """`is_default` for a chapter whose own defaults differ, e.g. `is_default_but(bits="8,4,3,2")`."""
        here = {
            "model": self.source, "quantized": str(self.quantized or ""), "method": ",".join(self.methods),
            "bits": ",".join(map(str, self.bits)), "group_size": self.group_size, "facts": self.facts_source,
            "text": self.text or "", "n_facts": self.n_facts, "dtype": self.dtype, "seed": self.seed,
        }  # fmt: skip
        return here == DEFAULTS | chapter and self.calibration == "atlas"

    @cached_property
    def base(self) -> Model:
        """The full-precision model, never wrapped by a runner: that one has modules of its own on the same weights."""
        return models.load(self.source, device=self.device, dtype=self.dtype)

    @cached_property
    def variants(self) -> dict[str, Variant]:
        """The quantized models by label, e.g. "gptq-4bit-g128", in the order of `method`, then `bits`."""
        if self.quantized:
            return {(own := self._own(self.quantized)).label: own}
        found = [self._scheme(method, bits) for method in self.methods for bits in self.bits]
        return {variant.label: variant for variant in found}

    @property
    def labels(self) -> list[str]:
        """ "full", then the labels of all variants."""
        return [FULL, *self.variants]

    def _scheme(self, method: str, bits: int) -> Variant:
        scheme = Scheme(method=method, bits=bits, group_size=self.group_size)

        def make() -> Path:
            return quantize.quantize(self.source, scheme, self.calibration_text, self.run / "quantized")

        return Variant(scheme.label, method, bits, self.group_size, scheme, make)

    def _own(self, folder: Path) -> Variant:
        stated = levels.quantization_of(folder)
        if stated is None:
            raise InputError(f"{folder} states no quantization, and its weights lie on no grid; give a quantized model")
        if not isinstance(stated["bits"], int):
            raise InputError(f"{folder} does not state its bits in config.json, so it cannot be held to a standard")
        return Variant(folder.name, stated["method"], stated["bits"], stated["group_size"], None, lambda: folder)

    @cached_property
    def calibration_text(self) -> list[str]:
        """Documents that GPTQ and AWQ are calibrated on."""
        return quantize.calibration_text(self.calibration)

    @cached_property
    def references(self) -> dict[str, Variant]:
        """For each method the variant whose errors make the failure subset: 4 bits, or the reader's own model."""
        if self.quantized:
            return {variant.method: variant for variant in self.variants.values()}
        return {method: self._scheme(method, REFERENCE_BITS) for method in self.methods}

    def variant(self, label: str) -> Variant:
        """The variant or reference of that label. Raises InputError where there is none."""
        known = self.variants | {reference.label: reference for reference in self.references.values()}
        if label not in known:
            raise InputError(f"there is no variant {label!r}; this study has {', '.join(self.labels)}")
        return known[label]

    def model(self, label: str) -> Model:
        """ "full" or a variant, dequantized: modules of your own on weights that all users of this study share, so copy
        a weight before you change it (`models.twin`)."""
        if label == FULL:
            return models.twin(self.base, FULL)
        if label not in self._models:
            if len(self._models) == VARIANTS_HELD:
                oldest, _ = self._models.popitem(last=False)
                self._runners.pop(oldest, None)
            path = self.variant(label).path
            self._models[label] = models.load(path, device=self.device, dtype=self.dtype, name=label)
        self._models.move_to_end(label)
        return models.twin(self._models[label])

    def runner(self, label: str) -> Runner:
        """The runner of "full" or a variant; full precision's and those of the few variants last used stay in memory."""
        if label not in self._runners:
            self._runners[label] = Runner(self.model(label))
        elif label in self._models:
            self._models.move_to_end(label)
        return self._runners[label]

    @cached_property
    def facts(self) -> fact_sources.Facts:
        """The facts that are asked."""
        return fact_sources.load(self.facts_source, n_facts=self.n_facts, seed=self.seed)

    @cached_property
    def probes(self) -> Probes:
        """All prompts, whether or not full precision answers them."""
        if self.text:
            return recall.recall(self.base, self.text, n=self.n_facts, seed=self.seed)
        return fact_sources.probe(self.facts, self.base.tokenizer)

    def scores(self, label: str) -> pd.DataFrame:
        """`trace.score` of all probes by "full" or a variant, with `kl` from full precision; computed once."""
        return self._stored("scores", label, self._score, None)

    def _score(self, label: str) -> pd.DataFrame:
        if label == FULL:
            return score(self.runner(FULL), self.probes).assign(kl=0.0)
        stream = self.trace("resid_post", positions="last", probes=self.probes)["resid_post"]
        head = self.runner(FULL).unembed
        return score(self.runner(label), self.probes, lambda prompts: head(torch.tensor(stream[prompts, -1])))

    @cached_property
    def known(self) -> Probes:
        """The probes that full precision answers right; robust and failure facts are among them.

        Raises:
            InputError: there is none.
        """
        right = (self.scores(FULL)["rank"] == 1).to_numpy()
        if not right.any():
            raise InputError(f"{self.base.name} answers none of {len(right)} facts, so nothing can be lost: give other "
                             "facts, or a text file for the next-token-recall probe")  # fmt: skip
        return self.probes.select(right)

    def known_scores(self, label: str) -> pd.DataFrame:
        """The rows of `scores` that belong to `known`: row i <-> known prompt i."""
        return self.scores(label)[self.scores(FULL)["rank"] == 1].reset_index(drop=True)

    @cached_property
    def groups(self) -> pd.DataFrame:
        """`groups_of` the first method."""
        return self.groups_of(next(iter(self.references)))

    def groups_of(self, method: str) -> pd.DataFrame:
        """One row per probe, three flags: known (full precision right), robust (and the reference right), failure
        (and the reference wrong). The rows with `known` are those of `Study.known`, in its order.
        """
        known = self.scores(FULL)["rank"] == 1
        right = self.scores(self.references[method].label)["rank"] == 1
        return pd.DataFrame({"known": known, "robust": known & right, "failure": known & ~right})

    @cached_property
    def inside(self) -> Probes:
        """The known probes, at most `INSIDE`, evenly drawn, on which stages look at activations: one set for all, so
        that full precision is recorded once.
        """
        return self.known.draw(INSIDE, self.seed)

    def sample(self, n: int) -> Probes:
        """`Probes.draw` of `inside`, for what costs much per prompt."""
        return self.inside.draw(n, self.seed)

    def trace(self, *kinds: str, positions: Positions = "all", probes: Probes | None = None) -> Trace:
        """Activations of the full-precision model on `inside` or other probes: recorded once, shared by all stages."""
        asked = self.inside if probes is None else probes
        return Trace.record(self.runner(FULL), asked, kinds, positions, self.run / "trace")

    def table(
        self, stage: str, compute: Callable[[str], pd.DataFrame], labels: Iterable[str] | None = None, **key: object
    ) -> pd.DataFrame:
        """A stage's table over variants, each computed once and kept as soon as it is done.

        Args:
            stage: name of the stage; parts go to RUN/stage/, the whole to RUN/stage.parquet.
            compute: from a label to its rows; the columns variant, method, bits and group_size are put in front.
            labels: of variants, or "full"; None for all variants.
            key: parameters of the stage that the result depends on, beside models, probes and package source.
        """
        labels = list(self.variants if labels is None else labels)
        parts = [
            self._stored(stage, label, compute, key) for label in tqdm(labels, desc=stage, leave=False, disable=None)
        ]
        whole = pd.concat(parts, ignore_index=True)
        tables.write(whole, self.run / f"{stage}.parquet")
        return whole

    def _stored(
        self, stage: str, label: str, compute: Callable[[str], pd.DataFrame], key: dict[str, object] | None
    ) -> pd.DataFrame:
        path = self.run / stage / f"{label}-{self._digest(label, key)}.parquet"
        if path.is_file():
            return tables.read(path)
        rows, columns = compute(label), self._columns(label)
        rows = rows.drop(columns=list(columns), errors="ignore")
        tables.write(pd.concat([pd.DataFrame(columns, index=rows.index), rows], axis=1), path)
        return tables.read(path)

    def _columns(self, label: str) -> dict[str, object]:
        if label == FULL:
            bits = 8 * self.base.hf.dtype.itemsize
            return {"variant": FULL, "method": FULL, "bits": bits, "group_size": -1}
        variant = self.variant(label)
        return {"variant": label, "method": variant.method, "bits": variant.bits, "group_size": variant.group_size}

    def _digest(self, label: str, key: dict[str, object] | None) -> str:
        """Changes with everything a variant's table may depend on; with no key, not with the reference variants."""
        if label == FULL:
            which: object = None
        elif scheme := self.variant(label).scheme:
            which = [asdict(scheme), self.calibration_text if scheme.method != "rtn" else None]
        else:
            which = models.digest_of(self.variant(label).path)
        references = None if self.quantized or key is None else [REFERENCE_BITS, self.methods]
        content = [self.base.digest, which, references, self.probes.digest, self.dtype, self.seed, key, source_digest()]
        return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()[:16]


@cache
def source_digest() -> str:
    """16 hex digits that stand for the package's modules, so that results of older code are not mistaken for new."""
    total = hashlib.sha256()
    for file in sorted(Path(__file__).parent.glob("*.py")):
        total.update(file.read_bytes())
    return total.hexdigest()[:16]


def _number(value: object, name: str) -> int:
    try:
        return int(str(value).strip())
    except ValueError as error:
        raise InputError(f"{name} is {value!r}; give a whole number") from error


def _numbers(bits: int | str | Sequence[int]) -> tuple[int, ...]:
    parts = str(bits).split(",") if isinstance(bits, (int, str)) else list(bits)
    return tuple(dict.fromkeys(_number(part, "bits") for part in parts))
