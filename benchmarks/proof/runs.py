"""One finished pair, one small file: what `diagnose` says, the label, the cosine rule, and the agreement of runs."""

import json
import os
import re
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch.nn.functional import cosine_similarity

from proof import labels
from proof.pairs import Pair
from quantcliff import smollm2, tables
from quantcliff.diagnosis import diagnose
from quantcliff.filecheck import PROMPTS, Findings, check, faulty, harmless, inspect
from quantcliff.models import grid_of, load
from quantcliff.stages.verdict import Verdict, decide
from quantcliff.study import FULL, Study, preset_of

N_FACTS = {"atlas": 100, "neox": 150, "qwen3": 150, "smollm2": 100}

COSINE_INTACT, COSINE_COLLAPSED = 0.99, 0.5
"""The cosine rule: a model is intact if no layer's residual stream falls below the first at the last token of a
prompt, on average over the facts that full precision knows; collapsed if one falls below the second."""


def taken(folder: Path, cache: Path, commit: str) -> int:
    """Results of another machine into `cache`, where it has none, each with `by`, the commit that made it; how many."""
    new = [file for file in sorted(folder.glob("found/*/*.json")) if not (cache / file.relative_to(folder)).is_file()]
    for file in new:
        found = json.loads(file.read_text(encoding="utf-8")) | {"by": commit}
        target = cache / file.relative_to(folder)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    return len(new)


def kept(file: Path, work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What `work` finds, computed once; the file appears only when it is complete."""
    if not file.is_file():
        file.parent.mkdir(parents=True, exist_ok=True)
        started = time.time()
        found = work()
        found["seconds"] = round(time.time() - started, 1)
        part = file.with_name(f".{file.name}.{os.getpid()}")
        part.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
        part.replace(file)
    return json.loads(file.read_text(encoding="utf-8"))


def diagnosed(pair: Pair, cache: Path, **changes: Any) -> dict[str, Any]:
    """What `diagnose` says of a pair, in plain values.

    Args:
        changes: other arguments of `diagnose`: n_facts, seed, text.
    """
    quantized, base = pair.checkpoint(cache), pair.base(cache)
    asked = {"facts": pair.facts(cache), "n_facts": N_FACTS[pair.model]} | changes
    out = cache / "work" / pair.model / ("-".join(changes) or "as it is")
    verdict = diagnose(base, quantized, out=out, quick=bool(pair.fault), **asked)
    stored = tables.read(out / "weights.parquet")
    modules = {"modules": len(stored), "accused": int((stored["fault"] != "").sum())}
    found = _plain(verdict) | modules | {"quantized": quantized.name}
    if not pair.fault:
        found |= cosines(Study(base, quantized=quantized, run=out, **asked))
    for name in ("trace", "components", "scores"):
        _forget(out / name, quantized.name)
    return found


def tabled(pair: Pair, run: Path, commit: str) -> dict[str, Any]:
    """`diagnosed` of a pair that a run of the whole book has measured, on more facts. Streams for the cosine rule are
    those of the run's trace; what it has not recorded is recorded there.

    Args:
        run: the book's run folder: verdict, weights, quantized, trace.
        commit: that made its verdicts.

    Raises:
        FileNotFoundError: the run has no such table or checkpoint yet.
    """
    label = pair.scheme.label
    verdict, weights = (_latest(run, stage, label) for stage in ("verdict", "weights"))
    made = [path for path in (run / "quantized").iterdir() if re.fullmatch(f"{label}-[0-9a-f]{{16}}", path.name)]
    rows = pd.read_parquet(verdict)
    if "kind" not in rows or len(made) != 1:
        raise FileNotFoundError(f"{run} has no verdict on {label} yet, or not one checkpoint")
    modules = pd.read_parquet(weights)
    accused = tuple(faulty(modules))
    found = _plain(decide(label, rows, Findings(accused, tuple(harmless(modules)))))
    asked = Study(smollm2.NAME, quantized=made[0], facts=smollm2.NAME, n_facts=preset_of(smollm2.NAME).n_facts, run=run)
    return found | cosines(asked) | {
        "modules": len(modules), "accused": len(accused), "quantized": made[0].name, "tables": verdict.name,
        "by": commit,
    }  # fmt: skip


def _latest(run: Path, stage: str, label: str) -> Path:
    """The last table that a run made of a stage for a variant."""
    found = sorted((run / stage).glob(f"{label}-*.parquet"), key=lambda path: path.stat().st_mtime)
    if not found:
        raise FileNotFoundError(f"{run} has no {stage} of {label} yet")
    return found[-1]


def checked(folder: Path, cache: Path) -> dict[str, Any]:
    """What the file check says of a healthy checkpoint of SmolLM2: name, modules, accused, faults, origin, odd."""
    study = Study(smollm2.NAME, method="rtn", bits=4, group_size=64, facts=smollm2.NAME, n_facts=200,
                  calibration="self", run=cache / "work" / "files")  # fmt: skip
    prompts = study.probes.draw(PROMPTS, 0).input_ids
    stated = grid_of(folder)
    assert stated
    quantized = load(folder)
    table = inspect(study.base, quantized, stated, prompts)
    found = check(study.base, quantized, folder, table, prompts)
    return {"name": folder.name, "modules": len(table), "accused": int((table["fault"] != "").sum()),
            "faults": list(found.faults), "origin": found.origin, "odd": len(found.odd),
            "checked": found.checked}  # fmt: skip


def _plain(verdict: Verdict) -> dict[str, Any]:
    """A verdict in plain values."""
    return {
        "headline": verdict.headline, "mode": verdict.mode, "old": verdict.former.mode,
        "votes": list(verdict.former.votes), "kept": _number(verdict.kept), "n_known": verdict.n_known,
        "faults": list(verdict.file.faults), "origin": verdict.file.origin, "odd": len(verdict.file.odd),
        "checked": verdict.file.checked, "sure": bool(verdict.sure),
        "questions": {row.question: [_number(row.value), row.answer, bool(row.sure)]
                      for row in verdict.questions.itertuples()},
    }  # fmt: skip


def cosines(study: Study) -> dict[str, Any]:
    """cosine: by layer, mean over known prompts of that between both models' residual streams at the last token."""
    label = next(iter(study.variants))
    full, own = (torch.tensor(study.last_streams(name, study.inside)) for name in (FULL, label))
    return {"cosine": np.round(cosine_similarity(full.double(), own.double(), dim=-1).mean(0).tolist(), 4).tolist()}


def by_cosine(layers: list[float]) -> str:
    """What the cosine rule says."""
    if min(layers) >= COSINE_INTACT:
        return "intact"
    return "collapsed" if min(layers) < COSINE_COLLAPSED else "degraded"


def labelled(pair: Pair, cache: Path) -> dict[str, Any]:
    """`labels.outcome` of a healthy pair."""
    base, quantized = pair.base(cache), pair.checkpoint(cache)
    kept = cache / "training" / f"{pair.name.replace('/', '--')}.safetensors" if pair.model == smollm2.NAME else None
    return labels.outcome(pair.model, base, quantized, pair.facts(cache), pair.scheme.group_size, kept)


def located(pair: Pair, said: dict[str, Any]) -> bool:
    """Whether a planted fault was called by its name, and its place named."""
    assert pair.fault
    right = said["headline"].startswith(pair.fault.headline)
    place = pair.fault.place
    return right and (not place or any(all(word in sentence for word in place) for sentence in said["faults"]))


def _number(value: float) -> float | None:
    return None if np.isnan(value) else round(float(value), 4)


def _forget(folder: Path, label: str) -> None:
    """Activations of a variant that is done with; full precision's stay for the next pair."""
    for path in folder.glob(f"{label}*") if folder.is_dir() else ():
        shutil.rmtree(path) if path.is_dir() else path.unlink()
