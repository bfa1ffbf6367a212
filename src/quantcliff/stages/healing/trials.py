"""What healing brings back, beside the same steps spent on something else.

Written down before any of it was run, for a variant at 2 bits in groups of 128 of the embedded model:

- *Healing works* if on held-out facts the interval of the healed share lies above that of the model as it is.
- *It needs the right target* if the wrong one brings back less than a tenth of what the right one does on them.
- *It needs weights* if scales alone stay below, beyond the interval, at equal text and epochs.
- *It is more than reading again* if on held-out facts at least half as much returns as on healing facts.
- *More text heals more* if every step of the curve raises the share on held-out facts.
- *The kind of failure changes* if the verdict on the model as it is says computation collapse or mixed and on the
  healed one signal degradation or intact.
- *The circuit returns* if, beside a model of 3 or 4 bits that keeps about as much, the healed one is at most .1 lower
  in its CKA diagonal and at most .1 higher in its share of sign flips; *another circuit answers* if it is farther off
  in both.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Int

from quantcliff import atlas, models, stats, tables
from quantcliff.models import digest_of
from quantcliff.quantizers.healing import Recipe, heal
from quantcliff.stages.healing.text import TOKENS, documents, healing_half, own_documents
from quantcliff.stages.macro import document_losses, perplexity, running_text
from quantcliff.study import Study
from quantcliff.tracing import Runner, score

COLUMNS = ["arm", "sequences", "tokens", "epochs", "part", "measure", "estimate", "low", "high", "n"]


@dataclass(frozen=True)
class Arm:
    """One way to spend training on a quantized model; no sequences: the model as it is."""

    name: str
    sequences: int = 0
    recipe: Recipe = field(default_factory=Recipe)


AS_IT_IS = Arm("as it is")


CONTROLS = {"scales only": {"scales_only": True}, "wrong target": {"target": "wrong"}, "plain error": {"plain": True}}
"""What a control changes of the recipe."""


def arms(
    sequences: Sequence[int], equal: int, controls: Sequence[str] = tuple(CONTROLS), epochs: int = 4, seed: int = 0
) -> list[Arm]:
    """The model as it is, the learning curve, and at `equal` sequences the controls (of `CONTROLS`)."""
    own = Recipe(epochs=epochs, seed=seed)
    found = [AS_IT_IS, *(Arm("healed", n, own) for n in sequences)]
    changed = [(name, CONTROLS[name]) for name in controls]
    return found + [Arm(name, equal, replace(own, **how)) for name, how in changed]  # type: ignore[arg-type]


def place(study: Study, label: str, arm: Arm) -> Path:
    """Folder of a variant in an arm, named after all that it depends on, whether or not it is there."""
    source = study.variant(label).path
    if not arm.sequences:
        return source
    content = [digest_of(study.parameters.model), digest_of(source), asdict(arm.recipe), arm.sequences]
    key = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]
    words = arm.name.replace(" ", "-")
    return study.run / "healed" / f"{label}-{words}-{arm.sequences}-{key}"


def checkpoint(study: Study, label: str, arm: Arm) -> Path:
    """`place`, made only if it is not there; a killed run goes on from its layer."""
    out, base, source = place(study, label, arm), study.parameters.model, study.variant(label).path
    if not out.exists():
        text = documents(arm.sequences) if base == atlas.NAME else own_documents(base, arm.sequences)
        heal(base, source, text, out, arm.recipe, tokens=TOKENS, sequences=arm.sequences, device=_device(study))
    return out


def _device(study: Study) -> str:
    return study.parameters.device


def measure(study: Study, tried: Sequence[Arm]) -> pd.DataFrame:
    """Every arm of every variant -> RUN/healing.parquet.

    Returns:
        variant, method, bits, group_size and `COLUMNS`. `part`: all known facts; of the embedded model also "healing",
        those whose subjects stand in the text, and "held-out", the others. `measure`: kept (share of full precision's
        right answers, Wilson), lost_rank (median rank of the lost ones), and of part "text" perplexity (bootstrap over
        documents).
    """
    parts, encoded = read_by(study)

    def compute(label: str, arm: Arm) -> pd.DataFrame:
        about = (arm.name, arm.sequences, arm.sequences * TOKENS, arm.recipe.epochs if arm.sequences else 0)
        found = measured_on(study, checkpoint(study, label, arm), parts, encoded)
        return pd.DataFrame([(*about, *row) for row in found], columns=COLUMNS)

    by_arm = [study.table("healing", partial(compute, arm=arm), arm=asdict(arm)) for arm in tried]
    whole = pd.concat(by_arm, ignore_index=True)
    tables.write(whole, study.run / "healing.parquet")
    return whole


def read_by(study: Study) -> tuple[dict[str, np.ndarray], list[list[int]]]:
    """What every arm of a study is measured on: parts of its known facts, and running text as token ids."""
    parts = {"all": np.ones(len(study.known), dtype=bool)}
    if study.parameters.model == atlas.NAME:
        parts |= {"healing": healing_half(study.known), "held-out": ~healing_half(study.known)}
    return parts, [study.base.tokenizer(text).input_ids for text in running_text(study)]


def measured_on(
    study: Study, folder: Path, parts: dict[str, np.ndarray], encoded: list[list[int]]
) -> list[tuple[object, ...]]:
    """Rows of part, measure, estimate, low, high, n: of each part of the known facts, and of running text if given."""
    runner = Runner(models.load(folder, device=_device(study), dtype=study.parameters.dtype))
    rows = by_part(score(runner, study.known)["rank"].to_numpy(), parts)
    if encoded:
        tokens = np.array([len(ids) - 1 for ids in encoded])
        found = perplexity(document_losses(runner, encoded), tokens, study.seed)
        rows.append(("text", "perplexity", *map(float, found), len(encoded)))
    return rows


def by_part(rank: Int[np.ndarray, " prompt"], parts: dict[str, np.ndarray]) -> list[tuple[object, ...]]:
    """Rows of part, measure, estimate, low, high, n: share kept and median rank of the lost, of every part that has
    any."""
    rows: list[tuple[object, ...]] = []
    for part, here in parts.items():
        lost = rank[here & (rank > 1)]
        if here.any():
            rows.append((part, "kept", *map(float, stats.share(rank[here] == 1)), int(here.sum())))
        if len(lost):
            rows.append((part, "lost_rank", *map(float, stats.median(lost)), len(lost)))
    return rows
