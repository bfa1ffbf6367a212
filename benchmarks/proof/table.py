"""All results in one table, printed or shipped."""

import json
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from proof import labels, small
from proof.pairs import Pair, everything
from proof.runs import by_cosine, kept, located
from quantcliff import smollm2
from quantcliff.diagnosis import bench
from quantcliff.diagnosis.bench import shipped

COMMAND = "python benchmarks/verdicts.py run"

UNSEEN = ("gptq-3bit-g64-8403493f76a46192", "gptq-3bit-g64-f159d913961eb5b2", "gptq-4bit-g64-09687b66491efc4c",
          "gptq-4bit-g64-52c24e6573c04927")  # fmt: skip
"""Files of SmolLM2, calibrated on other texts, that no file check had been run on before this one."""

NEW, SEEN = "file only, never seen before", "file only, held out once and seen since"
"""Sources of files of which nothing else was looked at. The second kind was held out from an earlier check, and the
present one was changed after that."""


def gather(cache: Path) -> pd.DataFrame:
    """One row per pair, in the order of `everything`; what has not been run is missing."""
    return pd.DataFrame([_row(pair, cache) for pair in everything()])


def _row(pair: Pair, cache: Path) -> dict[str, Any]:
    said, label = (_read(cache, what, pair) for what in ("verdict", "label"))
    row: dict[str, Any] = {
        "pair": pair.name, "model": pair.model, "method": pair.scheme.method, "bits": pair.scheme.bits,
        "group_size": pair.scheme.group_size, "symmetric": pair.scheme.symmetric, "damping": pair.scheme.damping,
        "kind": pair.fault.kind if pair.fault else "", "level": pair.fault.level if pair.fault else "",
        "strength": pair.fault.strength if pair.fault else "",
    }  # fmt: skip
    row |= {name: said.get(name, "") for name in ("headline", "mode", "old")}
    row |= {name: said.get(name) for name in ("kept", "n_known", "sure", "modules", "accused", "odd")}
    row["collapsed_votes"], row["votes"] = said.get("votes", (None, None))
    row["faults"] = len(said["faults"]) if said else None
    row["fault"] = (said.get("faults") or [said.get("origin", "")])[0]
    row["found"] = located(pair, said) if pair.fault and said else None
    answers = said.get("questions", {})
    row["questions"] = "; ".join(f"{name} {value} {answer}" for name, (value, answer, _) in answers.items())
    row |= {name: label.get(name, "" if name == "label" else None) for name in (
        "label", "regained", "regained_low", "regained_high", "kept_after")}  # fmt: skip
    row["after"] = labels.after(label)
    row |= {f"label_{name}": label.get(name) for name in ("n", "kept", "kept_low", "kept_high")}
    cosines = said.get("cosine", [])
    row["cosines"] = " ".join(f"{value:.3f}" for value in cosines)
    row["cosine"] = by_cosine(cosines) if cosines else ""
    for way in ("seed", "many", "text"):
        row[way] = _read(cache, way, pair).get("mode", "")
    row["checkpoint"] = said.get("quantized", "")
    row["verdict_by"], row["label_by"] = said.get("by", ""), label.get("by", "")
    return row


def _read(cache: Path, what: str, pair: Pair) -> dict[str, Any]:
    file = cache / "found" / what / f"{pair.name.replace('/', '--')}.json"
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}


def checked(pairs: pd.DataFrame, folder: Path | None = None, before: Path | None = None) -> pd.DataFrame:
    """One row per healthy file: those of the bench, and further ones of SmolLM2 of which only the file was looked at.

    Args:
        folder: of file checks, one JSON file each: name (label and key), modules, accused, faults, origin.
        before: the same by an earlier check that had not seen these files: name (label and damping).
    """
    own = pairs[(pairs["kind"] == "") & (pairs["modules"].fillna(0) > 0)]
    rows = [
        {"model": row.model, "checkpoint": row.pair.split("/")[1], "source": _source(row.model), "modules": row.modules,
         "accused": row.accused, "fault": row.fault}
        for row in own.itertuples()
    ]  # fmt: skip
    for found in _checks(folder):
        if found["name"] not in set(own["checkpoint"]):
            rows.append(_checked(found, str(found["name"]), NEW if found["name"] in UNSEEN else SEEN))
    for found in _checks(before):
        rows.append(_checked(found, str(found["name"]), "held out, by the check before this one"))
    return pd.DataFrame(rows)


def _source(model: str) -> str:
    """Of a diagnosed pair; SmolLM2's are those of the run of the whole book."""
    return "SmolLM2's chapter" if model == smollm2.NAME else "diagnosed"


def _checks(folder: Path | None) -> list[dict[str, Any]]:
    files = sorted(folder.glob("*.json")) if folder else []
    return [json.loads(file.read_text(encoding="utf-8")) for file in files]


def _checked(found: dict[str, Any], name: str, source: str) -> dict[str, Any]:
    fault = (found["faults"] or [found["origin"]])[0]
    return {"model": smollm2.NAME, "checkpoint": name, "source": source, "modules": found["modules"],
            "accused": found["accused"], "fault": fault}  # fmt: skip


def _accuracy(folder: Path, recipe: small.Recipe) -> dict[str, Any]:
    return {"accuracy": small.accuracy(folder, recipe)}


def report(pairs: pd.DataFrame) -> str:
    """What has been found, as text."""
    parts = [f"{(pairs['mode'] != '').sum()} of {len(pairs)} pairs diagnosed, {(pairs['label'] != '').sum()} labelled"]
    for truth, what in bench.TRUTHS.items():
        parts += [f"DEGRADED IF {what}", bench.right(pairs, truth).to_string(index=False, float_format="{:.2f}".format)]
        parts += [bench.against(pairs, truth).to_string(index=False, float_format="{:.2f}".format)]
        for rule, words in bench.RULES.items():
            rows = bench.confusion(pairs, rule, truth)
            parts += [words, rows.to_string(index=False, float_format="{:.2f}".format)]
    parts += [bench.found(pairs).to_string(index=False), bench.agreement(pairs).to_string(index=False)]
    parts += [bench.alarms(checked(pairs)).to_string(index=False)]
    return "\n\n".join(parts)


def ship(cache: Path, before: Path | None, about: dict[str, Any]) -> str:
    """Write the shipped tables; the report."""
    pairs = gather(cache)
    recipes = {}
    for name, recipe in small.RECIPES.items():
        found = kept(cache / "found" / f"{name}.json", partial(_accuracy, cache / "models" / name, recipe))
        recipes[name] = {"facts": recipe.facts, "steps": recipe.steps, "accuracy": found["accuracy"]}
    made = {
        "command": COMMAND, **about, "date": datetime.now(UTC).strftime("%Y-%m-%d"), "models": recipes,
        "training for labels": {name: vars(budget) for name, budget in labels.BUDGETS.items()},
    }  # fmt: skip
    shipped.ship({"pairs": pairs, "files": checked(pairs, cache / "found" / "file", before)}, made)
    return report(pairs)
