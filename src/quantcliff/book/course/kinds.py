"""Three kinds of exercises: a choice, a number (or an array of them), a function that the student writes.

Each knows what is right and which mistakes are likely, and says of a wrong answer what is wrong with it. What is right
is computed from the data that the page hands over with the answer, or from hand-made cases, so it holds for any model.

What all have in common: `refusal` is what is wrong with an answer, in one sentence, None where it is right; `mistakes`
are likely wrong answers and what each is told; `sentences` are these alone; `expected` is the right answer in words.
"""

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from quantcliff.book.course import telling


class Wrong(NamedTuple):
    """A likely mistake: the answer that it leads to (for `Number` computed from the data; for `Function` a function in
    place of the student's), and one sentence on what is wrong with it."""

    answer: Callable[..., Any]
    says: str


@dataclass(frozen=True)
class Choice:
    """A letter or a short word; upper and lower case are the same.

    Args:
        right: the right one.
        wrong: what is wrong with each of the others.
    """

    right: str
    wrong: Mapping[str, str]

    def refusal(self, answer: Any, *data: Any) -> str | None:
        given = answer.strip().strip(".)(").lower() if isinstance(answer, str) else answer
        if given == self.right.lower():
            return None
        choices = {name.lower(): says for name, says in self.wrong.items()}
        known = ", ".join(f'"{name}"' for name in sorted([self.right.lower(), *choices]))
        return choices.get(given) if isinstance(given, str) and given in choices else f"The answer is one of {known}."

    def mistakes(self, *data: Any) -> list[tuple[Any, str]]:
        return list(self.wrong.items())

    def expected(self, *data: Any) -> str:
        return self.right

    @property
    def sentences(self) -> list[str]:
        return [f"{name}: {says}" for name, says in self.wrong.items()]


@dataclass(frozen=True)
class Number:
    """A number, or an array, tuple or column of them.

    Args:
        right: computes the right answer from the data.
        wrong: likely mistakes, computed likewise.
        rtol, atol: how near is near enough, relative and absolute.
    """

    right: Callable[..., Any]
    wrong: Sequence[Wrong]
    rtol: float = 0.01
    atol: float = 1e-9

    def refusal(self, answer: Any, *data: Any) -> str | None:
        found = telling.numbers(answer)
        if isinstance(found, str):
            return found
        right = np.asarray(telling.numbers(self.right(*data)), dtype=float)
        if telling.same(found, right, self.rtol, self.atol):
            return None
        for mistake in self.wrong:
            if telling.same(found, telling.numbers(mistake.answer(*data)), self.rtol, self.atol):
                return mistake.says
        return telling.difference(found, right, self.rtol, self.atol)

    def mistakes(self, *data: Any) -> list[tuple[Any, str]]:
        return [(mistake.answer(*data), mistake.says) for mistake in self.wrong]

    def expected(self, *data: Any) -> str:
        return str(telling.numbers(self.right(*data)))

    @property
    def sentences(self) -> list[str]:
        return [mistake.says for mistake in self.wrong]


@dataclass(frozen=True)
class Function:
    """A function that the student writes, called on cases and compared with one that is right.

    Args:
        right: the function as it should be.
        cases: from the data to the arguments of each call.
        wrong: functions with a likely mistake each.
        rtol, atol: how near is near enough, relative and absolute.
    """

    right: Callable[..., Any]
    cases: Callable[..., Iterable[tuple[Any, ...]]]
    wrong: Sequence[Wrong] = field(default_factory=tuple)
    rtol: float = 1e-3
    atol: float = 1e-6

    def refusal(self, answer: Any, *data: Any) -> str | None:
        if not callable(answer):
            return f"A function is asked for, and this is {telling.kind(answer)}."
        cases = list(self.cases(*data))
        right = [telling.numbers(self.right(*telling.copied(case))) for case in cases]
        found: list[Any] = []
        for case in cases:
            given = telling.copied(case)
            try:
                result = answer(*given)
            except Exception as error:
                said = next(iter(str(error).splitlines()), "no reason given").rstrip(".")
                return f"The function stops with {type(error).__name__}: {said}."
            if result is None or result is ...:
                return "The function returns nothing yet."
            if not telling.unchanged(given, case):
                return "The function changes its own input; work on a copy (`x - 1` rather than `x -= 1`)."
            found.append(telling.numbers(result))
        return self._compared(found, right, cases)

    def _compared(self, found: list[Any], right: list[Any], cases: list[tuple[Any, ...]]) -> str | None:
        near = [telling.same(one, other, self.rtol, self.atol) for one, other in zip(found, right, strict=True)]
        if all(near):
            return None
        for mistake in self.wrong:
            theirs = [telling.numbers(mistake.answer(*telling.copied(case))) for case in cases]
            if all(telling.same(one, other, self.rtol, self.atol) for one, other in zip(found, theirs, strict=True)):
                return mistake.says
        first = near.index(False)
        if isinstance(found[first], str):
            return found[first]
        said = telling.difference(found[first], right[first], self.rtol, self.atol)
        return f"It is right in {sum(near)} of {len(near)} cases; in another: {said}" if any(near) else said

    def mistakes(self, *data: Any) -> list[tuple[Any, str]]:
        return [(mistake.answer, mistake.says) for mistake in self.wrong]

    def expected(self, *data: Any) -> str:
        return f"```python\n{inspect.getsource(self.right)}```"

    @property
    def sentences(self) -> list[str]:
        return [mistake.says for mistake in self.wrong]


Exercise = Choice | Number | Function
