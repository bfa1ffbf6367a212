"""Where facts come from: the embedded ones, a ParaRel folder, a JSONL or a CSV file.

Every source gives two lists: facts as `Row`s, and what was left out, with the reason.
"""

import csv
import functools
import json
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from quantcliff import smollm2
from quantcliff.atlas import text
from quantcliff.errors import InputError

BANDS = 5
"""Facts are cut into fifths by popularity; band 0 holds the most popular."""

LIMIT = 5
"""At most so many embedded facts of one relation share an object, so that guessing it scores near nothing."""


WORDINGS = 5
"""An odd number, so that most of them is never a tie."""


class Row(NamedTuple):
    """One fact: a template from `[X]` (the subject) to a final `[Y]` (any of the objects)."""

    relation: str
    subject: str
    objects: tuple[str, ...]
    template: str
    band: int | None = None

    @property
    def prompt(self) -> str:
        return self.template.removesuffix("[Y]").rstrip().replace("[X]", self.subject)


class Drop(NamedTuple):
    """A fact that is not asked, and why."""

    relation: str
    subject: str
    reason: str


def atlas(n_facts: int | None, seed: int) -> tuple[list[Row], list[Drop]]:
    """The embedded facts in their held-out template, drawn evenly from all popularity bands.

    The draw is nested: fewer facts of the same seed are a subset of more.
    """
    facts, relations = text.load_facts(), text.load_relations()
    used: dict[tuple[str, str], int] = defaultdict(int)
    bands: list[list[Row]] = [[] for _ in range(BANDS)]
    drops = []
    for index in np.random.default_rng(seed).permutation(len(facts)):
        fact = facts[index]
        relation = relations[fact.relation]
        if used[fact.relation, fact.object] == LIMIT:
            reason = f"{LIMIT} facts of this relation with the same object are drawn already"
            drops.append(Drop(fact.relation, fact.subject, reason))
            continue
        used[fact.relation, fact.object] += 1
        template = relation.templates[relation.held_out(fact.subject)]
        band = int(index) * BANDS // len(facts)
        bands[band].append(Row(fact.relation, fact.subject, (fact.object,), template, band))
    longest = max(len(band) for band in bands)
    turns = [band[turn] for turn in range(longest) for band in bands if turn < len(band)]
    return turns[:n_facts], drops


def embedded() -> list[Row]:
    """Every embedded fact, in file order, in the first plain wording of its relation."""
    first = {relation: ways[0] for relation, ways in wordings(smollm2.NAME).items()}
    return [Row(fact.relation, fact.subject, (fact.object,), first[fact.relation]) for fact in text.load_facts()]


def wordings(source: str | Path) -> dict[str, tuple[str, ...]]:
    """All ways to ask for a relation's object, by relation.

    "atlas" has the embedded model's six templates, which are worded so that it must learn them; "smollm2" the five
    plain wordings that SmolLM2 understands best (`training.wordings`); a ParaRel folder its patterns that end in the
    object. A file has none: its facts have one prompt each.
    """
    if str(source) == smollm2.NAME:
        return _plain()
    if str(source) == "atlas":
        return {name: relation.templates for name, relation in text.load_relations().items()}
    folder = Path(source).expanduser()
    if not folder.is_dir():
        return {}
    root = folder / "data" if (folder / "data").is_dir() else folder
    return {file.stem: _patterns(file) for file in sorted((root / "pattern_data" / "graphs_json").glob("*.jsonl"))}


@functools.cache
def _plain() -> dict[str, tuple[str, ...]]:
    """The first `WORDINGS` rows of each relation."""
    ways: dict[str, list[str]] = defaultdict(list)
    with smollm2.WORDINGS.open(encoding="utf-8", newline="") as handle:
        for row in csv.DictReader(handle):
            ways[row["relation"]].append(row["template"])
    return {name: tuple(rows[:WORDINGS]) for name, rows in ways.items()}


def pararel(folder: Path) -> tuple[list[Row], list[Drop]]:
    """A copy of ParaRel (arXiv 2102.01017): for each relation, its first pattern that ends in the object.

    A subject listed with several objects becomes one fact, which any of them answers; this is how the many-to-many
    relations (twin cities, diplomatic relations, official language, borders) are counted.

    Raises:
        InputError: the folder does not have ParaRel's layout, or a line of a file is broken.
    """
    root = folder / "data" if (folder / "data").is_dir() else folder
    patterns, triples = root / "pattern_data" / "graphs_json", root / "trex_lms_vocab"
    files = sorted(triples.glob("*.jsonl")) if patterns.is_dir() else []
    if not files:
        raise InputError(
            f"{folder} is not a ParaRel folder; it needs data/pattern_data/graphs_json and data/trex_lms_vocab"
        )
    rows, drops = [], []
    for file in files:
        objects: dict[str, list[str]] = defaultdict(list)
        for place, record in _json_lines(file):
            objects[_text(record, "sub_label", place)].append(_text(record, "obj_label", place))
        template = next(iter(_patterns(patterns / file.name)), None)
        for subject, answers in objects.items():
            if template:
                rows.append(Row(file.stem, subject, tuple(dict.fromkeys(answers)), template))
            else:
                drops.append(Drop(file.stem, subject, "its relation has no pattern that ends in the object"))
    return rows, drops


def _patterns(file: Path) -> tuple[str, ...]:
    """The patterns from `[X]` to a final `[Y]`, full stop removed, in file order; none where there is no file."""
    if not file.is_file():
        return ()
    found = (re.sub(r"\s*\.?\s*$", "", _text(record, "pattern", place)) for place, record in _json_lines(file))
    fitting = (item for item in found if item.endswith("[Y]") and item.count("[X]") == item.count("[Y]") == 1)
    return tuple(dict.fromkeys(fitting))


def table(file: Path) -> tuple[list[Row], list[Drop]]:
    """Facts of a JSONL or CSV file: `prompt`, `subject`, `object` or `objects`, optional `relation` and `band`.

    `objects` is a list (JSONL) or is separated by `|` (CSV). A prompt names its subject and stops before the object.

    Raises:
        InputError: a line is broken, lacks a field, has an empty one, or its prompt does not name its subject; the
            sentence says which line.
    """
    lines = _csv_lines(file) if file.suffix == ".csv" else _json_lines(file)
    rows = []
    for place, record in lines:
        prompt, subject = _text(record, "prompt", place), _text(record, "subject", place)
        start = _find(subject, prompt)
        if start is None:
            raise InputError(f"{place}: the subject {subject!r} is not in the prompt {prompt!r}")
        template = f"{prompt[:start]}[X]{prompt[start + len(subject) :]} [Y]"
        relation = str(record.get("relation") or "facts").strip()
        _check_characters(relation, "relation", place)
        rows.append(Row(relation, subject, _objects(record, place), template, _band(record, place)))
    if not rows:
        raise InputError(f"{file} holds no facts")
    return rows, []


def _find(subject: str, prompt: str) -> int | None:
    """Where the subject stands in the prompt, as a word of its own if it does anywhere."""
    word = re.search(rf"(?<!\w){re.escape(subject)}(?!\w)", prompt)
    start = word.start() if word else prompt.find(subject)
    return None if start < 0 else start


def _objects(record: dict[str, Any], place: str) -> tuple[str, ...]:
    if "objects" not in record or record["objects"] in (None, ""):
        return (_text(record, "object", place),)
    listed = record["objects"]
    if isinstance(listed, str):
        listed = listed.split("|")
    for item in listed if isinstance(listed, list) else ():
        _check_characters(item, "objects", place)
    if not isinstance(listed, list) or not listed or not all(isinstance(o, str) and o.strip() for o in listed):
        raise InputError(f"{place}: objects must be a list of texts, none of them empty")
    return tuple(dict.fromkeys(item.strip() for item in listed))


def _band(record: dict[str, Any], place: str) -> int | None:
    band = record.get("band")
    if band in (None, ""):
        return None
    if isinstance(band, bool) or not str(band).strip().isdecimal():
        raise InputError(f"{place}: band must be a whole number from 0 (most popular), not {band!r}")
    return int(band)


def _text(record: dict[str, Any], field: str, place: str) -> str:
    if field not in record:
        raise InputError(f"{place}: the field {field!r} is missing")
    value = record[field]
    _check_characters(value, field, place)
    if not isinstance(value, str) or not value.strip():
        raise InputError(f"{place}: the field {field!r} is empty or not a text")
    return value.strip()


def _check_characters(value: object, field: str, place: str) -> None:
    """Raises InputError for half a surrogate pair, which JSON can spell and no file or tokenizer can hold."""
    if isinstance(value, str) and any("\ud800" <= letter <= "\udfff" for letter in value):
        raise InputError(f"{place}: the field {field!r} holds half of a character (a lone surrogate); write it whole")


def _json_lines(file: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """(place for an error message, record) of each line that is not blank."""
    for number, line in enumerate(_read(file).split("\n"), start=1):
        if not line.strip():
            continue
        place = f"{file}, line {number}"
        try:
            record = json.loads(line)
        except ValueError as error:
            raise InputError(f"{place}: not valid JSON ({error})") from error
        if not isinstance(record, dict):
            raise InputError(f"{place}: not a JSON object with fields")
        yield place, record


def _csv_lines(file: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    reader = csv.DictReader(_read(file).splitlines(keepends=True), strict=True)
    while True:
        first = reader.line_num + 1
        try:
            record = next(reader, None)
        except csv.Error as error:
            raise InputError(f"{file}, line {max(first, 2)}: a quote is opened and not closed ({error})") from error
        if record is None:
            return
        place = f"{file}, line {reader.line_num}"
        if None in record:
            raise InputError(f"{place}: more fields than the first line names")
        yield place, {field: value for field, value in record.items() if value is not None}


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{file} is not UTF-8 text; save it as UTF-8") from error
