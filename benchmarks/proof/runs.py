"""One finished pair, one small file: what `diagnose` says, the label, the cosine rule, and the agreement of runs."""

import json
import os
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
from quantcliff.filecheck import PROMPTS, Findings, check, inspect
from quantcliff.models import grid_of, load
from quantcliff.stages.verdict import Verdict, decide
from quantcliff.study import FULL, Study

N_FACTS = {"atlas": 100, "neox": 150, "qwen3": 150, "smollm2": 100}

COSINE_INTACT, COSINE_COLLAPSED = 0.99, 0.5
"""The cosine rule: a model is intact if no layer's residual stream falls below the first at the last token of a
prompt, on average over the facts that full precision knows; collapsed if one falls below the second."""


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


def tabled(pair: Pair, run: Path, checks: Path) -> dict[str, Any]:
    """`diagnosed` of a pair that a run of the whole book has measured, on more facts; without the cosine rule.

    Args:
        run: the book's run folder, with a verdict table of every variant.
        checks: folder with what the file check says of each checkpoint, one JSON file each (see `table.checked`); a
            checkpoint that is not there counts as not checked.

    Raises:
        FileNotFoundError: the run has no such table yet.
    """
    label = pair.scheme.label
    measured = sorted((run / "verdict").glob(f"{label}-*.parquet"), key=lambda path: path.stat().st_mtime)
    rows = pd.read_parquet(measured[-1]) if measured else pd.DataFrame()
    if "kind" not in rows:
        raise FileNotFoundError(f"{run} has no verdict on {label} yet")
    said = [json.loads(path.read_text(encoding="utf-8")) for path in checks.glob(f"{label}-*.json")]
    own = [one for one in said if (run / "quantized" / one["name"]).is_dir()]
    more: dict[str, Any] = {"modules": None, "accused": None}
    file = Findings()
    if own:
        file = Findings(faults=tuple(own[0]["faults"]), origin=own[0]["origin"], checked=own[0]["checked"])
        more = {name: own[0][name] for name in ("modules", "accused")}
    return _plain(decide(label, rows, file)) | more | {"tables": measured[-1].name}


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
