"""A Sphinx extension for the reference of the library, which autodoc makes from docstrings.

A package passes on constants of its modules; the words below such a constant stand where it is defined, and autodoc
looks for them where it is passed on. Here they are found. And docstrings are plain text with names in backticks, where
reStructuredText would take some signs for its own.
"""

import ast
import re
from functools import cache
from typing import Any

from sphinx.application import Sphinx
from sphinx.pycode import ModuleAnalyzer

PACKAGE = "quantcliff"


@cache
def words_of(module: str, name: str) -> list[str]:
    """The lines of words below a constant of this package, in a module or in the one that it imports the constant from.

    Example:
        >>> words_of("quantcliff.study", "FULL")
        ['Label of the full-precision model.']
        >>> words_of("quantcliff.study", "NOTHING")
        []
    """
    if module.partition(".")[0] != PACKAGE:
        return []
    analyzer = ModuleAnalyzer.for_module(module)
    found = analyzer.find_attr_docs().get(("", name), [])
    if not found and (source := _imports(module).get(name)):
        return words_of(*source)
    return [line for line in found if line.strip()]


@cache
def _imports(module: str) -> dict[str, tuple[str, str]]:
    """Name -> module and name that a module imports it from."""
    nodes = ast.parse(ModuleAnalyzer.for_module(module).code).body
    return {
        alias.asname or alias.name: (node.module, alias.name)
        for node in nodes
        if isinstance(node, ast.ImportFrom) and node.module
        for alias in node.names
    }


def _keep(app: Sphinx, what: str, name: str, member: Any, skipped: bool, options: Any) -> bool | None:
    """Constants that have words are no undocumented members; fields of a named tuple that have none are."""
    if what == "class" and str(getattr(member, "__doc__", "")).startswith("Alias for field number"):
        return True
    module = app.env.temp_data.get("autodoc:module", "")
    return False if skipped and what == "module" and words_of(module, name) else None


def as_rst(lines: list[str]) -> list[str]:
    """Lines of a docstring with bars, and with word endings behind backticks, escaped; examples stay as they are.

    Example:
        >>> print(*as_rst(["|A| of all `Row`s, in `a|b`", ">>> 4 | 3"]), sep="; ")
        \\|A\\| of all `Row`\\ s, in `a|b`; >>> 4 | 3
    """
    example, found = False, []
    for line in lines:
        example = bool(line.strip()) and (example or line.lstrip().startswith(">>>"))
        found.append(line if example else _escaped(line))
    return found


def _escaped(line: str) -> str:
    text, *rest = re.split(r"(`[^`]+`)", line)  # names in backticks, and after each the text up to the next
    text = text.replace("|", r"\|")
    for name, after in zip(rest[::2], rest[1::2], strict=True):
        text += name + ("\\ " if re.match(r"\w", after) else "") + after.replace("|", r"\|")
    return text


VALUES = ("attribute", "data", "property")
"""Whose words are one paragraph, in which napoleon would take what stands before a colon for a type."""


def _keep_words(app: Sphinx, what: str, name: str, member: Any, options: Any, lines: list[str]) -> None:
    app.env.temp_data["quantcliff:words"] = list(lines)


def _describe(app: Sphinx, what: str, name: str, member: Any, options: Any, lines: list[str]) -> None:
    if what in VALUES:
        words = words_of(*name.rsplit(".", 1)) if what == "data" else []
        lines[:] = words or app.env.temp_data["quantcliff:words"]
    lines[:] = as_rst(lines)


def setup(app: Sphinx) -> dict[str, Any]:
    """What Sphinx calls; napoleon, which reads the sections of docstrings, comes between the last two."""
    app.connect("autodoc-skip-member", _keep)
    app.connect("autodoc-process-docstring", _keep_words, priority=400)
    app.connect("autodoc-process-docstring", _describe, priority=600)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
