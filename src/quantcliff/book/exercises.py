"""Exercise pages: one source with solutions, from which come the list in the chapter and both editions.

A solution in code stands between `### BEGIN SOLUTION` and `### END SOLUTION` (nbgrader's marks), one in words between
the directives `{solution-start}` and `{solution-end}`.
"""

import ast
import re
from collections.abc import Iterator
from typing import NamedTuple

from nbformat import NotebookNode

BEGIN, END = "### BEGIN SOLUTION", "### END SOLUTION"
LEVELS = ("Concept", "Code", "Extension")

EXERCISE = re.compile(
    r"^```\{exercise\} (?P<title>.+)\n:label: (?P<label>\w+)\n\s*\*\*(?P<level>\w+), (?P<minutes>\d+) minutes\.\*\*",
    re.M,
)
OPENED, CLOSED = re.compile(r"^```\{solution-start\}"), re.compile(r"^```\{solution-end\}")


class Listed(NamedTuple):
    """An exercise as its page announces it; `level` is one of `LEVELS`."""

    label: str
    title: str
    level: str
    minutes: int


def listed(notebook: NotebookNode) -> list[Listed]:
    """The exercises of a page, in its order.

    Raises:
        ValueError: an exercise has no title, label, level or minutes, or a level that does not exist.
    """
    text = "\n\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    found = [Listed(m["label"], m["title"], m["level"], int(m["minutes"])) for m in EXERCISE.finditer(text)]
    if len(found) != text.count("```{exercise}") or any(one.level not in LEVELS for one in found):
        raise ValueError("an exercise must begin with a title, :label:, and **LEVEL, N minutes.**")
    return found


def asked(notebook: NotebookNode) -> Iterator[NotebookNode]:
    """The cells of a page as the student gets them: solutions in words left out, those in code stripped to a stub."""
    inside = False
    for cell in notebook.cells:
        if cell.cell_type == "code":
            source = stripped(cell.source)
        else:
            source, inside = _without_solutions(cell.source, inside)
        if source.strip():
            yield NotebookNode({**cell, "source": source})


def _without_solutions(text: str, inside: bool) -> tuple[str, bool]:
    """Text outside solutions, and whether one is open at its end; the directives themselves go, with their fences."""
    kept, fence = [], False
    for line in text.splitlines():
        if fence:
            fence = line.rstrip() != "```"
        elif OPENED.match(line):
            inside = fence = True
        elif CLOSED.match(line):
            inside, fence = False, True
        elif not inside:
            kept.append(line)
    return "\n".join(kept), inside


def stripped(source: str) -> str:
    """A code cell whose solutions are replaced by stubs, so that it still runs.

    >>> print(stripped("def f(x):\\n    ### BEGIN SOLUTION\\n    return x + 1\\n    ### END SOLUTION"))
    def f(x):
        ...  # your code here
    >>> print(stripped("### BEGIN SOLUTION\\na, b = 1, 2\\n### END SOLUTION\\nprint(a)"))
    a = ...  # your answer
    print(a)
    """
    kept: list[str] = []
    block: list[str] | None = None
    blocks: list[tuple[int, list[str]]] = []
    for line in source.splitlines():
        if line.strip() == BEGIN:
            block = []
            indent = line[: len(line) - len(line.lstrip())]
            if indent:
                kept.append(f"{indent}...  # your code here")
            blocks.append((-1 if indent else len(kept), block))
        elif line.strip() == END:
            block = None
        else:
            (kept if block is None else block).append(line)
    if block is not None:
        raise ValueError(f"{BEGIN} without {END}")
    needed = _used("\n".join(kept))
    for place, lines in reversed(blocks):
        if place >= 0:
            kept[place:place] = [f"{name} = ...  # your answer" for name in _assigned(lines) if name in needed]
    return "\n".join(kept).strip("\n")


def _used(source: str) -> set[str]:
    return {node.id for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Name)}


def _assigned(lines: list[str]) -> list[str]:
    """Names that a block assigns at its top level, in order, each once."""
    found = []
    for statement in ast.parse("\n".join(lines)).body:
        if isinstance(statement, ast.FunctionDef | ast.ClassDef):
            found.append(statement.name)
        elif isinstance(statement, ast.Assign):
            names = [node for target in statement.targets for node in ast.walk(target)]
            found += [node.id for node in names if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)]
    return list(dict.fromkeys(found))


def unmarked(source: str) -> str:
    """Code with its solutions but without the marks around them, as the site shows it."""
    return "\n".join(line for line in source.splitlines() if line.strip() not in (BEGIN, END))
