"""The book's chapters and their parameters, read from `_toc.yml` and from the chapters themselves."""

import ast
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import jupytext
import yaml
from nbformat import NotebookNode
from sphinx_external_toc.parsing import parse_toc_yaml

from quantcliff.errors import InputError

PAGES = Path(__file__).parent / "pages"
"""Where a wheel carries the book; in a checkout there is no such folder (see setup.py)."""

CHECKOUT = Path(__file__).parents[3]
"""The root of the checkout that an editable install is made from."""


@dataclass(frozen=True)
class Chapter:
    """One page of the table of contents: a MyST source, e.g. `book/macro.md`."""

    file: Path

    @property
    def name(self) -> str:
        """`macro` for `book/macro.md`, `macro_exercises` for `book/exercises/macro.md`."""
        return f"{self.file.stem}_exercises" if self.is_exercise else self.file.stem

    @property
    def is_exercise(self) -> bool:
        """Whether this is the exercise page of the chapter of the same file name."""
        return self.file.parent.name == "exercises"

    @cached_property
    def notebook(self) -> NotebookNode:
        return jupytext.read(self.file, fmt="md:myst")

    @property
    def runs(self) -> bool:
        """Whether the page has code to execute."""
        return any(cell.cell_type == "code" for cell in self.notebook.cells)

    @property
    def about(self) -> str:
        """The one model that the page is about, which its front matter names as `about`; empty for a page about any."""
        return str(self.notebook.metadata.get("about", ""))

    @cached_property
    def defaults(self) -> dict[str, Any]:
        """Names and literal values that the cell tagged `parameters` assigns; empty where there is no such cell."""
        for cell in self.notebook.cells:
            if "parameters" in cell.metadata.get("tags", []):
                return {
                    target.id: ast.literal_eval(statement.value)
                    for statement in ast.parse(cell.source).body
                    if isinstance(statement, ast.Assign)
                    for target in statement.targets
                    if isinstance(target, ast.Name)
                }
        return {}

    def own(self, parameters: Mapping[str, Any]) -> dict[str, Any]:
        """Those of the given parameters that this chapter has."""
        return {name: value for name, value in parameters.items() if name in self.defaults}


@dataclass(frozen=True)
class Book:
    """The chapters under a root folder with `_toc.yml` and `_config.yml`, in reading order.

    Attributes:
        work: the folder in which they run, and in which their results land.
    """

    root: Path
    chapters: tuple[Chapter, ...]
    work: Path = Path()

    @classmethod
    def read(cls, root: Path | None = None) -> "Book":
        """The book in the folder `root`, run there; without one, that of `found`, run in the current folder.

        Raises:
            InputError: `root` is no book, or a listed chapter has no file.
        """
        work, root = root or Path(), root or found()
        if not holds_book(root):
            raise InputError(f"there is no book in {root.resolve()} (no _toc.yml and _config.yml)")
        files = [root / f"{page}.md" for page in parse_toc_yaml(root / "_toc.yml")]
        for file in files:
            if not file.is_file():
                raise InputError(f"_toc.yml lists a chapter whose file {file} does not exist")
        return cls(root, tuple(map(Chapter, files)), work)

    def of(self, model: str) -> "Book":
        """The book of one model: without the pages that are about another."""
        return replace(self, chapters=tuple(chapter for chapter in self.chapters if chapter.about in ("", model)))

    def chapter(self, name: str) -> Chapter:
        """Raises InputError for a name that is not in the table of contents."""
        for chapter in self.chapters:
            if chapter.name == name:
                return chapter
        known = ", ".join(chapter.name for chapter in self.chapters)
        raise InputError(f"there is no chapter {name!r}; the chapters are {known}")


def holds_book(folder: Path) -> bool:
    return (folder / "_toc.yml").is_file() and (folder / "_config.yml").is_file()


def found() -> Path:
    """The current folder if it holds a book; else what the package carries; else the checkout it is installed from."""
    return next((folder for folder in (Path(), PAGES, CHECKOUT) if holds_book(folder)), Path())


def check_parameters(given: Mapping[str, Any], chapters: Iterable[Chapter]) -> dict[str, Any]:
    """The given parameters as the types of their defaults: "2" is a number where the chapter has a number.

    Raises:
        InputError: no chapter has a parameter of that name, or its value is not of the default's type.
    """
    defaults: dict[str, Any] = {}
    for chapter in chapters:
        defaults |= chapter.defaults
    for name in given:
        if name not in defaults:
            known = ", ".join(defaults) or "none"
            raise InputError(f"there is no parameter {name!r}; the parameters are {known}")
    return {name: _like(defaults[name], name, value) for name, value in given.items()}


def _like(default: Any, name: str, value: Any) -> Any:
    if isinstance(default, str):
        return ",".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
    if isinstance(default, list):
        parts = value if isinstance(value, list | tuple) else str(value).split(",")
        return [_like(default[0], name, part) for part in parts]
    kind = type(default)
    names = {bool: "true or false", int: "a whole number", float: "a number"}
    try:
        if kind is bool:
            return {"true": True, "false": False}[str(value).lower()]
        return kind(str(value))
    except (KeyError, ValueError):
        raise InputError(f"{name} is {value!r}, but it must be {names.get(kind, kind.__name__)}") from None


def read_parameter_file(file: Path) -> dict[str, Any]:
    """Raises InputError when a YAML or JSON file is missing or is no list of `name: value`."""
    if not file.is_file():
        raise InputError(f"there is no parameter file {file}")
    try:
        values = yaml.safe_load(file.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        where = getattr(error, "problem_mark", None)
        line = f" (line {where.line + 1})" if where else ""
        raise InputError(f"{file} is not valid YAML{line}; write one 'name: value' per line") from None
    if not isinstance(values, dict):
        raise InputError(f"{file} must hold one 'name: value' per line")
    return values
