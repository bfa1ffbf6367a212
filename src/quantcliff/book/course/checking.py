"""`check` an answer, in a notebook: the outcome shows itself as a line of text."""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from typing import Any

from IPython.display import Markdown

from quantcliff.book.course.kinds import Exercise
from quantcliff.errors import InputError

TOOLS = ("checking", "kinds", "telling")
"""Modules of this package that are no chapter's."""

_right: dict[str, bool] = {}
"""Last outcome of each exercise that was checked in this session."""


@dataclass(frozen=True)
class Outcome:
    """Whether an answer is right, and what is said about it."""

    right: bool
    says: str

    def __bool__(self) -> bool:
        return self.right

    def _repr_markdown_(self) -> str:
        return f"**{'Right.' if self.right else 'Not yet.'}** {self.says}".strip()

    def __repr__(self) -> str:
        return f"{'Right.' if self.right else 'Not yet.'} {self.says}".strip()


def chapters() -> list[str]:
    """Names of the chapters that have exercises."""
    return sorted(found.name for found in iter_modules([str(Path(__file__).parent)]) if found.name not in TOOLS)


def exercises(chapter: str) -> Mapping[int, Exercise]:
    """The exercises of a chapter by number. Raises InputError where there are none."""
    if chapter not in chapters():
        raise InputError(f"there are no exercises on {chapter!r}; there are some on {', '.join(chapters())}")
    return import_module(f"quantcliff.book.course.{chapter}").EXERCISES


def find(name: str) -> Exercise:
    """The exercise of that name, "macro_2". Raises InputError where there is none."""
    chapter, _, number = name.rpartition("_")
    own = exercises(chapter) if number.isdigit() else {}
    if not number.isdigit() or int(number) not in own:
        known = ", ".join(f"{chapter}_{n}" for n in own)
        hint = f"those of {chapter} are {known}" if own else "names are like macro_2"
        raise InputError(f"there is no exercise {name!r}; {hint}")
    return own[int(number)]


def check(name: str, answer: Any, *data: Any) -> Outcome:
    """Say whether an answer is right or, if not, what is wrong with it.

    Args:
        name: of the exercise, CHAPTER_NUMBER, e.g. "macro_2".
        answer: a letter, a number, an array or a function, as the exercise asks for.
        data: what the exercise says that the right answer is computed from.

    Raises:
        InputError: there is no exercise of that name.

    >>> check("macro_1", ...)
    Not yet. There is no answer yet: put yours in place of the dots.
    """
    exercise = find(name)
    if answer is None or answer is ...:
        refusal: str | None = "There is no answer yet: put yours in place of the dots."
    else:
        refusal = exercise.refusal(answer, *data)
    _right[name] = refusal is None
    return Outcome(refusal is None, refusal or "")


def progress(chapter: str) -> Markdown:
    """How many of a chapter's exercises are right in this session, and which are still open."""
    names = [f"{chapter}_{number}" for number in exercises(chapter)]
    open_ones = [name for name in names if not _right.get(name, False)]
    still = f" Still open: {', '.join(open_ones)}." if open_ones else ""
    return Markdown(f"{len(names) - len(open_ones)} of {len(names)} exercises of this page are right.{still}")


def require(chapter: str) -> None:
    """Raises AssertionError unless every exercise of a chapter was answered right in this session."""
    wrong = [name for name in (f"{chapter}_{number}" for number in exercises(chapter)) if not _right.get(name, False)]
    if wrong:
        raise AssertionError(f"solutions that their checkers refuse: {', '.join(wrong)}")


def expected(name: str, *data: Any) -> Markdown:
    """The right answer, for the instructor: a letter, numbers, or the code of a function."""
    return Markdown(f"Expected: {find(name).expected(*data)}")


def likely_mistakes(name: str) -> str:
    """What the likely wrong answers to an exercise are told, as a list."""
    return "\n".join(["Wrong answers that are expected:", "", *(f"- {says}" for says in find(name).sentences)])
