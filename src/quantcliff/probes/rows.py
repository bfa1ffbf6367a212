"""A fact as text, one that is left out, and the files both come from, line by line."""

import csv
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from quantcliff.errors import InputError

DELIMITERS = ",;\t"
"""Of a table, that which stands most often in its first line; a file that ends in .tsv has tabs."""

Record = tuple[str, dict[str, Any]]
"""Place for an error message, and the fields."""


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


class Found(NamedTuple):
    """What a source holds; `lines`: how many of its lines belong to each relation, those that say a fact again or give
    it another right object among them."""

    rows: list[Row]
    drops: list[Drop]
    lines: dict[str, int]


def joined(rows: Iterable[Row]) -> list[Row]:
    """One row for each relation, subject and template, in order of the first, with all objects that any line gives."""
    found: dict[tuple[str, str, str], Row] = {}
    for row in rows:
        key = row.relation, row.subject, row.template
        objects = found[key].objects if key in found else ()
        found[key] = found.get(key, row)._replace(objects=tuple(dict.fromkeys((*objects, *row.objects))))
    return list(found.values())


def records(file: Path) -> Iterator[Record]:
    """Records of a JSON file (a list, or an object a line), or of a table with a first line of names.

    Raises:
        InputError: a record is broken; the sentence says which line.
    """
    if file.suffix in (".csv", ".tsv"):
        return _table(file)
    return _list(file) if file.suffix == ".json" and _read(file).lstrip().startswith("[") else _lines(file)


def text(record: dict[str, Any], field: str, place: str) -> str:
    """A field that must be there and hold text. Raises InputError where it does not."""
    if field not in record:
        raise InputError(f"{place}: the field {field!r} is missing")
    value = record[field]
    check_characters(value, field, place)
    if not isinstance(value, str) or not value.strip():
        raise InputError(f"{place}: the field {field!r} is empty or not a text")
    return value.strip()


def check_characters(value: object, field: str, place: str) -> None:
    """Raises InputError for half a surrogate pair, which JSON can spell and no file or tokenizer can hold."""
    if isinstance(value, str) and any("\ud800" <= letter <= "\udfff" for letter in value):
        raise InputError(f"{place}: the field {field!r} holds half of a character (a lone surrogate); write it whole")


def _lines(file: Path) -> Iterator[Record]:
    for number, line in enumerate(_read(file).split("\n"), start=1):
        if line.strip():
            yield _record(f"{file}, line {number}", line)


def _record(place: str, line: str) -> Record:
    try:
        record = json.loads(line)
    except ValueError as error:
        raise InputError(f"{place}: not valid JSON ({error})") from error
    if not isinstance(record, dict):
        raise InputError(f"{place}: not a JSON object with fields")
    return place, record


def _list(file: Path) -> Iterator[Record]:
    try:
        listed = json.loads(_read(file))
    except ValueError as error:
        raise InputError(f"{file}: not valid JSON ({error})") from error
    for number, record in enumerate(listed, start=1):
        if not isinstance(record, dict):
            raise InputError(f"{file}, record {number}: not a JSON object with fields")
        yield f"{file}, record {number}", record


def _table(file: Path) -> Iterator[Record]:
    lines = _read(file).splitlines(keepends=True)
    first = lines[0] if lines else ""
    delimiter = "\t" if file.suffix == ".tsv" else max(DELIMITERS, key=first.count)
    reader = csv.DictReader(lines, strict=True, delimiter=delimiter)
    while True:
        first_line = reader.line_num + 1
        try:
            record = next(reader, None)
        except csv.Error as error:
            where = f"{file}, line {max(first_line, 2)}"
            raise InputError(f"{where}: a quote is opened and not closed ({error})") from error
        if record is None:
            return
        place = f"{file}, line {reader.line_num}"
        if None in record:
            raise InputError(f"{place}: more fields than the first line names")
        yield place, {field.strip(): value for field, value in record.items() if value is not None}


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{file} is not UTF-8 text; save it as UTF-8") from error
