"""The execution page: what ran, when, how long, where, with which versions, on which files. Made from the executed
notebooks, so it is right for a book about any model.
"""

import json
import os
import subprocess
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

import nbformat

from quantcliff import atlas, disk, models, smollm2
from quantcliff.book.chapters import Book, Chapter
from quantcliff.book.page import duration
from quantcliff.book.text import folded_in, rows_as_table
from quantcliff.errors import InputError

PACKAGE = Path(__file__).parents[1]

MAIN = ("Python", "quantcliff", "torch", "transformers", "llmcompressor", "compressed-tensors", "transformer-lens")
"""Packages that decide the numbers; the versions of the others stand below them, folded."""

MACHINE = ("system", "processor", "cores", "memory", "GPU")

DATA = {
    "atlas": [atlas.FOLDER / "facts.csv", atlas.FOLDER / "templates.csv"],
    "smollm2": [smollm2.FACTS, smollm2.WORDINGS],
}
"""Name of a source of facts or text -> its files."""

NONE = "Nothing ran in this build."


class Ran(NamedTuple):
    """One executed page: what papermill and `running` noted."""

    chapter: Chapter
    start: datetime
    end: datetime
    seconds: float
    given: dict[str, Any]
    noted: dict[str, Any]


def parts(book: Book, executed: Mapping[Chapter, Path]) -> dict[str, str]:
    """The computed parts of the page as Markdown: ran, ran_table, machines, versions, inputs, shipped."""
    pages = [page for chapter, file in executed.items() if (page := _read(chapter, file))]
    return {
        "ran": _sentence(pages) if pages else NONE,
        "ran_table": _ran_table(book, pages) if pages else NONE,
        "machines": _of_pages(pages, "machine", _machine),
        "versions": _of_pages(pages, "versions", _versions),
        "inputs": rows_as_table(["What", "Name", "Hash"], [_source(book), *_model_rows(pages), *_data_rows(pages)]),
        "shipped": "\n\n".join(map(_shipped, sorted(PACKAGE.rglob("made.json")))),
    }


def _read(chapter: Chapter, file: Path) -> Ran | None:
    metadata = nbformat.read(file, as_version=4).metadata
    took = metadata.get("papermill", {})
    if not took.get("end_time"):
        return None
    start, end = (datetime.fromisoformat(took[name]) for name in ("start_time", "end_time"))
    given = {**chapter.defaults, **took.get("parameters", {})}
    return Ran(chapter, start, end, float(took["duration"]), given, metadata.get("quantcliff", {}).get("ran", {}))


def _sentence(pages: Sequence[Ran]) -> str:
    first, last = min(page.start for page in pages), max(page.end for page in pages)
    total = sum(page.seconds for page in pages)
    imports = sum(page.noted.get("imports", 0.0) for page in pages)
    text = (
        f"{_count(len(pages), 'page')} ran between {first:%Y-%m-%d %H:%M} and {last:%Y-%m-%d %H:%M} UTC, in "
        f"{duration(total)} together, of which {duration(imports)} went into imports."
    )
    kept = sum(page.noted.get("tables") == page.noted.get("models") == 0 and "run" in page.given for page in pages)
    if kept:
        text += (
            f" Of those that keep results, {kept} made nothing anew: what is shown there was measured by an earlier "
            "page or build, and read. A first build takes longer."
        )
    return text


def _count(number: int, what: str) -> str:
    return f"{number} {what}" + ("" if number == 1 else "s")


def _ran_table(book: Book, pages: Sequence[Ran]) -> str:
    head = ["Page", "Ran (UTC)", "Seconds", "of them imports", "Processor seconds", "Made anew"]
    order = {chapter: place for place, chapter in enumerate(book.chapters)}
    rows = []
    for page in sorted(pages, key=lambda page: order[page.chapter]):
        noted = page.noted
        times = [f"{noted[name]:.0f}" if name in noted else "not noted" for name in ("imports", "processor")]
        address = os.path.relpath(page.chapter.file.with_suffix(""), book.chapters[0].file.parent)
        link = f"[{_title(page.chapter)}]({address})"
        rows.append([link, f"{page.start:%d\u00a0%b\u00a0%H:%M}", f"{page.seconds:.0f}", *times, _made(page)])
    return rows_as_table(head, rows)


def _title(chapter: Chapter) -> str:
    text = next(cell.source for cell in chapter.notebook.cells if cell.cell_type == "markdown")
    title = next(line.removeprefix("# ") for line in text.splitlines() if line.startswith("# "))
    return title if chapter.is_exercise else title.partition(":")[0]


def _made(page: Ran) -> str:
    if "tables" not in page.noted:
        return "not noted"
    found = [_count(page.noted[name], name[:-1]) for name in ("models", "tables") if page.noted[name]]
    return ", ".join(found) or "nothing"


def _of_pages(pages: Sequence[Ran], name: str, show: Any) -> str:
    """What was noted under a name, once if it is the same for all pages, else once for each set of pages."""
    groups: dict[str, list[str]] = {}
    for page in pages:
        if found := page.noted.get(name):
            groups.setdefault(json.dumps(found), []).append(page.chapter.name)
    if not groups:
        return "This was not noted."
    texts = [show(json.loads(found)) for found in groups]
    if len(groups) == 1:
        return str(texts[0])
    return "\n\n".join(f"{', '.join(names)}:\n\n{text}" for names, text in zip(groups.values(), texts, strict=True))


def _machine(found: dict[str, str]) -> str:
    rows = [[name[0].upper() + name[1:], found[name]] for name in MACHINE if name in found]
    return rows_as_table(["What", "Here"], rows)


def _versions(found: dict[str, str]) -> str:
    main = rows_as_table(["Package", "Version"], [[name, found[name]] for name in MAIN if name in found])
    rest = rows_as_table(["Package", "Version"], [[name, text] for name, text in found.items() if name not in MAIN])
    return f"{main}\n\n{folded_in('All other packages that quantcliff requires', rest)}"


def _source(book: Book) -> list[str]:
    if not (book.root / ".git").exists():
        return ["book and library", "as installed", "no commit"]
    head, changed = (_git(book.root, *words) for words in (["rev-parse", "HEAD"], ["status", "--porcelain", "-uno"]))
    return ["book and library", "a checkout, changed since its commit" if changed else "a checkout", f"`{head[:16]}`"]


def _git(root: Path, *words: str) -> str:
    try:
        done = subprocess.run(["git", "-C", str(root), *words], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return ""
    return done.stdout.strip()


def _model_rows(pages: Iterable[Ran]) -> Iterator[list[str]]:
    names = dict.fromkeys(
        str(page.given[what]) for page in pages for what in ("model", "quantized") if what in page.given
    )
    beside = [smollm2.NAME] if atlas.NAME in names and smollm2.folder().is_dir() else []
    for name in dict.fromkeys([*names, *beside]):
        if name:
            yield ["model", f"`{name}`", _hash_of_model(name)]


def _hash_of_model(name: str) -> str:
    try:
        return f"`{models.digest_of(name)}`"
    except InputError:
        return "no longer there"


def _data_rows(pages: Iterable[Ran]) -> Iterator[list[str]]:
    asked: dict[str, dict[str, None]] = {}
    for page in pages:
        for kind in ("facts", "text", "calibration"):
            if name := str(page.given.get(kind, "")):
                asked.setdefault(name, {})[kind] = None
    for name, kinds in asked.items():
        kind = ", ".join(kinds)
        if name.partition(":")[0] in ("self", "tasks"):
            yield [kind, f"`{name}`", "written by the model itself" if name.startswith("self") else "made by a rule"]
            continue
        for file in DATA.get(name) or sorted(part for part in [Path(name), *Path(name).glob("*")] if part.is_file()):
            yield [kind, f"`{file.name if name in DATA else file}`", f"`{disk.sha256(file)[:16]}`"]


def _shipped(made: Path) -> str:
    """The tables that a `made.json` speaks of: how they were made, and whether each file is still the one it means."""
    told = json.loads(made.read_text(encoding="utf-8"))
    how = dict.fromkeys(f"`{part['command']}` at {part['commit'][:8]}, {part['date']}" for part in _commands(told))
    later = {commit: names for commit, names in told.get("later", {}).items() if isinstance(names, list)}
    how |= dict.fromkeys(f"{', '.join(names)} again at {commit[:8]}" for commit, names in later.items())
    rows = []
    for name, recorded in told.get("files", {}).items():
        files = [made.parent / f"{name}{kind}" for kind in (".parquet", ".csv")]
        file = next((file for file in files if file.is_file()), None)
        found = disk.sha256(file) if file else ""
        rows.append([f"`{name}`", f"`{recorded[:16]}`", "yes" if found == recorded else "**no**"])
    folder = made.parent.relative_to(PACKAGE)
    return f"`{folder}`, made by {'; '.join(how)}:\n\n{rows_as_table(['Table', 'SHA-256', 'Unchanged'], rows)}"


def _commands(told: Any) -> Iterator[dict[str, str]]:
    if isinstance(told, dict):
        if {"command", "commit", "date"} <= told.keys():
            yield told
        for part in told.values():
            yield from _commands(part)
