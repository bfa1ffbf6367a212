"""All parameters of a book in one table: what the chapters themselves say of them, and here what they mean."""

from collections import Counter
from typing import Any

import pandas as pd

from quantcliff.book.chapters import Book, Chapter
from quantcliff.book.text import rows_as_table

MEANINGS = {
    "model": ("folder", "the full-precision model; `atlas` is the one of the book, `smollm2` the real one"),
    "quantized": ("folder", "a quantized model of yours; takes the place of `method`, `bits` and `group_size`"),
    "method": ("name", "`gptq`, `awq`, `rtn` (plain round-to-nearest), or several with commas"),
    "bits": ("bits per weight", "2 to 8, one or several with commas"),
    "group_size": ("weights", "so many share a scale, and must divide the rows of every matrix; `-1` for a whole row"),
    "other_group_sizes": ("weights", "group sizes that are compared with `group_size`"),
    "facts": ("source", "`atlas`, `smollm2` (2,390 facts that SmolLM2 knows), a ParaRel or LAMA folder, a fact file"),
    "text": ("file", "a text whose next words are asked in place of facts"),
    "calibration": ("source", "text for GPTQ and AWQ: a file; `atlas`, text as the embedded model has read it; `self`, "
                    "text that the model writes (`self:64x256`: 64 documents of 256 tokens; AWQ gets a quarter)"),
    "n_facts": ("facts", "how many are asked, or positions of the text"),
    "n_prompts": ("prompts", "how many of the answered ones a chapter looks inside, where that is slow"),
    "n_patched": ("prompts", "how many of them are patched"),
    "n_check": ("prompts", "how many are asked again to check tables that come with the book"),
    "device": ("name", "`cpu`, `cuda`, or whichever there is"),
    "dtype": ("name", "`float32`, `bfloat16` or `float16`: what full precision and the dequantized model compute in"),
    "seed": ("none", "decides every random draw"),
    "run": ("folder", "where quantized models, recordings and tables go; `build` gives `runs/NAME` to another model"),
}  # fmt: skip
"""Parameter -> its unit, and what it is."""

KINDS = {bool: "true or false", int: "whole number", float: "number", str: "text"}


def table(book: Book) -> pd.DataFrame:
    """One row a parameter, in the order in which a reader meets them.

    Returns:
        name, type, default (of most chapters, then of those that differ), unit, meaning (both "" for a parameter that
        `MEANINGS` does not know), chapters (that have it).
    """
    chapters = [chapter for chapter in book.chapters if chapter.defaults and not chapter.is_exercise]
    names = dict.fromkeys(name for chapter in chapters for name in chapter.defaults)
    return pd.DataFrame([_row(name, chapters) for name in sorted(names, key=_place)], columns=COLUMNS)


COLUMNS = ["name", "type", "default", "unit", "meaning", "chapters"]


def as_markdown(book: Book) -> str:
    """`table` as Markdown, for the page that lists them."""
    rows = table(book).assign(name=lambda rows: "`" + rows["name"] + "`").to_numpy().tolist()
    return rows_as_table([name.capitalize() for name in COLUMNS], rows)


def _place(name: str) -> int:
    return list(MEANINGS).index(name) if name in MEANINGS else len(MEANINGS)


def _row(name: str, chapters: list[Chapter]) -> list[str]:
    values = {chapter.name: chapter.defaults[name] for chapter in chapters if name in chapter.defaults}
    unit, meaning = MEANINGS.get(name, ("", ""))
    return [name, _kind(next(iter(values.values()))), _defaults(values), unit, meaning, _whose(values, chapters)]


def _kind(value: Any) -> str:
    return f"{_kind(value[0])}s" if isinstance(value, list) else KINDS[type(value)]


def _defaults(values: dict[str, Any]) -> str:
    written = {chapter: ",".join(map(str, v)) if isinstance(v, list) else str(v) for chapter, v in values.items()}
    counted = [value for value, _ in Counter(written.values()).most_common()]
    first, *others = (f"`{value}`" if value else "empty" for value in counted)
    where = [", ".join(chapter for chapter in written if written[chapter] == value) for value in counted[1:]]
    return "; ".join([first, *(f"{other} in {names}" for other, names in zip(others, where, strict=True))])


def _whose(values: dict[str, Any], chapters: list[Chapter]) -> str:
    without = [chapter.name for chapter in chapters if chapter.name not in values]
    if not without:
        return "all"
    return f"all but {', '.join(without)}" if len(without) < len(values) else ", ".join(values)
