"""Facts in one file: in this project's own fields, or as CounterFact, ROME's known facts, LAMA or a table has them.

What the first record looks like decides. A file in our own fields is the reader's own, so a line that is wrong stops
with a sentence that names it; one that was published elsewhere is taken as it is, and what cannot be asked is left out
and counted.
"""

import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from quantcliff.errors import InputError
from quantcliff.probes.rows import Drop, Found, Row, check_characters, joined, records, text

RELATION = "facts"
"""Of a fact that states none."""

NAMES = {
    "subject": ("subject", "subj", "sub_label", "sub", "s", "head", "entity"),
    "object": ("object", "obj", "obj_label", "o", "tail", "answer", "target", "attribute", "objects", "answers"),
    "prompt": ("template", "prompt", "pattern", "cloze", "sentence", "question", "query"),
    "relation": ("relation", "relation_id", "predicate_id", "predicate", "pred", "prop", "property"),
}
"""Field of a fact -> what tables in the wild call it, the better name first."""

BLANK = r"(\[Y\]|\[MASK\]|<mask>|\{object\}|_{2,})"
"""How sentences mark the place of the object."""

SUBJECT = r"(\[X\]|\{subject\}|\{\})"
"""How templates mark the place of the subject."""


class _CannotAskError(Exception):
    """Why a record is no fact that can be asked."""


def table(file: Path) -> Found:
    """Facts of a .jsonl, .json, .csv or .tsv file.

    Our own fields are `prompt`, `subject`, `object` or `objects`, optional `relation` and `band`; `objects` is a list
    (JSON) or is separated by `|` (tables). A prompt names its subject and stops before the object. Read as well:
    CounterFact (arXiv 2202.05262), its authors' known facts, LAMA's masked sentences (arXiv 1909.01066), and tables
    whose columns are called as in `NAMES`; there, lines with the same relation, subject and prompt are one fact.

    Raises:
        InputError: no facts; for our own fields also a line that is broken, lacks a field, has an empty one, or whose
            prompt does not name its subject: the sentence says which line.
    """
    listed = list(records(file))
    if not listed:
        raise InputError(f"{file} holds no facts")
    read = _reader(listed[0][1])
    rows, drops, lines = [], [], Counter[str]()
    for record in listed:
        relation = _relation(record[1], record[0])
        lines[relation] += 1
        try:
            rows.append(_own(*record) if read is None else read(record[1], relation))
        except _CannotAskError as error:
            drops.append(Drop(relation, _label(record[1]), str(error)))
    if read is not None and not rows:
        first, place = drops[0], listed[0][0]
        raise InputError(f"{place}: no fact of this file can be asked, for {first.reason}")
    return Found(rows if read is None else joined(rows), drops, dict(lines))


Reader = Callable[[dict[str, Any], str], Row]


def _reader(first: dict[str, Any]) -> Reader | None:
    """How a file of such records is read; None for our own fields, and for what has none of the others'."""
    if "requested_rewrite" in first:
        return _counterfact
    if "masked_sentences" in first:
        return _masked
    own = "prompt" in first and "subject" in first and "template" not in first
    if own and not re.search(f"{SUBJECT}|{BLANK}", str(first["prompt"])):
        return None
    return _named if all(_named_field(first, field) for field in ("subject", "object", "prompt")) else None


def _counterfact(record: dict[str, Any], relation: str) -> Row:
    asked = record["requested_rewrite"]
    if not isinstance(asked, dict) or not isinstance(asked.get("target_true"), dict):
        raise _CannotAskError("it has no true target")
    return _row(relation, asked.get("subject"), [asked["target_true"].get("str")], asked.get("prompt"))


def _masked(record: dict[str, Any], relation: str) -> Row:
    sentences = record["masked_sentences"]
    if not isinstance(sentences, list) or not sentences:
        raise _CannotAskError("it has no sentence")
    subject, right = record.get("sub_label", record.get("sub")), record.get("obj_label", record.get("obj"))
    return _row(relation, subject, [right], sentences[0])


def _named(record: dict[str, Any], relation: str) -> Row:
    fields = {name: record.get(_named_field(record, name) or "") for name in NAMES}
    right = fields["object"]
    if isinstance(right, str):
        right = right.split("|")
    return _row(relation, fields["subject"], right if isinstance(right, list) else [], fields["prompt"])


def _row(relation: str, subject: object, objects: list, sentence: object) -> Row:
    """A row of what a record of any shape says; raises _CannotAskError where something is missing."""
    for value, name in ((subject, "subject"), (sentence, "sentence")):
        if not isinstance(value, str) or not value.strip():
            raise _CannotAskError(f"it has no {name}")
    right = tuple(dict.fromkeys(item.strip() for item in objects if isinstance(item, str) and item.strip()))
    if not right:
        raise _CannotAskError("it has no object")
    if any("\ud800" <= letter <= "\udfff" for part in (subject, sentence, *right) for letter in str(part)):
        raise _CannotAskError("it holds half of a character")
    return Row(relation, str(subject).strip(), right, _template(str(sentence).strip(), str(subject).strip()))


def _template(sentence: str, subject: str) -> str:
    before, *blank = re.split(BLANK, sentence, maxsplit=1)
    if blank and re.search(r"\w", blank[-1]):
        raise _CannotAskError("its sentence goes on after the object")
    before = before.rstrip()
    if len(re.findall(SUBJECT, before)) == 1:
        return f"{re.sub(SUBJECT, '[X]', before)} [Y]"
    start = find(subject, before)
    if start is None:
        raise _CannotAskError("its subject is not in the sentence before the object")
    return f"{before[:start]}[X]{before[start + len(subject) :]} [Y]"


def _named_field(record: dict[str, Any], field: str) -> str | None:
    return next((name for name in NAMES[field] if record.get(name) not in (None, "")), None)


def _relation(record: dict[str, Any], place: str) -> str:
    inner = record.get("requested_rewrite")
    record = {**record, **inner} if isinstance(inner, dict) else record
    name = _named_field(record, "relation")
    relation = str(record[name]).strip() if name else RELATION
    check_characters(relation, "relation", place)
    return relation


def _label(record: dict[str, Any]) -> str:
    inner = record.get("requested_rewrite")
    record = {**record, **inner} if isinstance(inner, dict) else record
    return str(record.get(_named_field(record, "subject") or "", "")).encode("utf-8", "replace").decode()


def _own(place: str, record: dict[str, Any]) -> Row:
    prompt, subject = text(record, "prompt", place), text(record, "subject", place)
    start = find(subject, prompt)
    if start is None:
        raise InputError(f"{place}: the subject {subject!r} is not in the prompt {prompt!r}")
    template = f"{prompt[:start]}[X]{prompt[start + len(subject) :]} [Y]"
    return Row(_relation(record, place), subject, _objects(record, place), template, _band(record, place))


def find(subject: str, prompt: str) -> int | None:
    """Where the subject stands in the prompt, as a word of its own if it does anywhere."""
    word = re.search(rf"(?<!\w){re.escape(subject)}(?!\w)", prompt)
    start = word.start() if word else prompt.find(subject)
    return None if start < 0 else start


def _objects(record: dict[str, Any], place: str) -> tuple[str, ...]:
    if "objects" not in record or record["objects"] in (None, ""):
        return (text(record, "object", place),)
    listed = record["objects"]
    if isinstance(listed, str):
        listed = listed.split("|")
    for item in listed if isinstance(listed, list) else ():
        check_characters(item, "objects", place)
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
