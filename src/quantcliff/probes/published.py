"""Fact collections in folders, as they are published: ParaRel, and the T-REx part of LAMA."""

import re
from collections import Counter, defaultdict
from pathlib import Path

from quantcliff.errors import InputError
from quantcliff.probes.rows import Drop, Found, Row, records, text

NO_PATTERN = "its relation has no pattern that ends in the object"


def folder(root: Path) -> Found:
    """A copy of ParaRel (arXiv 2102.01017) or of LAMA (arXiv 1909.01066): triples by relation, each asked in its
    relation's first pattern that ends in the object.

    A subject listed with several objects becomes one fact, which any of them answers; this is how the many-to-many
    relations (twin cities, diplomatic relations, official language, borders) are counted.

    Raises:
        InputError: the folder has neither layout, or a line of a file is broken.
    """
    ways, triples = patterns(root), _triples(root)
    if not triples:
        raise InputError(
            f"{root} is not a ParaRel folder; it needs data/pattern_data/graphs_json and data/trex_lms_vocab (or, for "
            "LAMA, relations.jsonl and TREx)"
        )
    rows, drops, lines = [], [], Counter[str]()
    for file in triples:
        objects: dict[str, list[str]] = defaultdict(list)
        for place, record in records(file):
            objects[text(record, "sub_label", place)].append(text(record, "obj_label", place))
            lines[file.stem] += 1
        template = next(iter(ways.get(file.stem, ())), None)
        for subject, answers in objects.items():
            if template:
                rows.append(Row(file.stem, subject, tuple(dict.fromkeys(answers)), template))
            else:
                drops.append(Drop(file.stem, subject, NO_PATTERN))
    return Found(rows, drops, dict(lines))


def patterns(root: Path) -> dict[str, tuple[str, ...]]:
    """By relation the patterns from `[X]` to a final `[Y]`, full stop removed, in file order."""
    found: dict[str, list[str]] = defaultdict(list)
    for file in sorted((_data(root) / "pattern_data" / "graphs_json").glob("*.jsonl")):
        found[file.stem] = [text(record, "pattern", place) for place, record in records(file)]
    if (listed := _data(root) / "relations.jsonl").is_file():
        for place, record in records(listed):
            found[text(record, "relation", place)].append(text(record, "template", place))
    return {name: tuple(dict.fromkeys(filter(_fits, map(_bare, ways)))) for name, ways in found.items()}


def _triples(root: Path) -> list[Path]:
    if (_data(root) / "pattern_data" / "graphs_json").is_dir():
        return sorted((_data(root) / "trex_lms_vocab").glob("*.jsonl"))
    return sorted((_data(root) / "TREx").glob("*.jsonl")) if (_data(root) / "relations.jsonl").is_file() else []


def _data(root: Path) -> Path:
    return root / "data" if (root / "data").is_dir() else root


def _bare(pattern: str) -> str:
    return re.sub(r"\s*\.?\s*$", "", pattern)


def _fits(pattern: str) -> bool:
    return pattern.endswith("[Y]") and pattern.count("[X]") == pattern.count("[Y]") == 1
