"""Sentences of the chapters read well where there is nothing to tell of: no lost answer, no subject, no lists."""

import ast
import os
import re
import shutil
from pathlib import Path

import pytest
from IPython.display import Markdown

from quantcliff.atlas import FOLDER
from quantcliff.book import Book, Chapter
from quantcliff.book import text as book_text

ROOT = Path(__file__).parents[2]
ODD = {
    "empty brackets": r"\(\s*\)|(?<!\w)\[\s*\](?!\()",
    "a sign before zero": r"(?<![\w`.)\]])[+-]0(?:\.0+)?(?![\w`]|\.\d)",
    "no number": r"(?<![\w`])(?:nan|NaT|inf|None(?! of))%?(?![\w`])",
    "another place": r"see (?:below|above)",
    "advice to another reader": r"another as a parameter|if there are so many|where there are any",
    "two spaces": r"(?<=\S)  +(?=\S)",
    "a word is missing": r"\bat (?:bits|layers?)\b|\b(?:[Ii]n|of) layers? ?[.,;:]|\b(?:of|at|are|by) ?[.,;:](?!\d)",
    "a list is missing": r"[:;,] ?[.;,]|\( *[,;]|[,;] *\)",
}
"""What must not be found in a sentence of the book -> as a regular expression."""


def odd(text: str) -> list[str]:
    """What reads badly in Markdown, code, formulas and tables left aside: `"empty brackets: ...text around..."`."""
    plain = re.sub(r"```.*?```|`[^`]*`|\$[^$]*\$|\]\([^)]*\)", "X", text, flags=re.DOTALL)
    plain = re.sub(r"(?m)^[ >*-]+|^\|.*\|$", "", plain)
    found = []
    for paragraph in re.split(r"\n\s*\n", plain):
        line = " ".join(part.rstrip() for part in paragraph.splitlines())
        for name, pattern in ODD.items():
            found += [
                f"{name}: ...{line[max(m.start() - 40, 0) : m.end() + 20]}..." for m in re.finditer(pattern, line)
            ]
    return found


BAD = ["Lost: ().", "It moves by -0.0%.", "In nan of them.", "Here see below.", "at  bits 3", "It is, at bits, lost.",
       "In layers .", "They are: .", "It is (, 3).", "The method is gptq; pass another as a parameter."]  # fmt: skip


@pytest.mark.parametrize("text", BAD)
def test_what_reads_badly_is_seen(text):
    assert odd(f"At 3 bits it is well. {text}")


def test_what_reads_well_is_not():
    assert not odd("At 4 bits (GPTQ) it is -0.5 [0.3], as [macro](macro) `f()` says: 3, 4.\n\n- one\n- two\n\n| a |  |")


@pytest.mark.parametrize("chapter", Book.read(ROOT).chapters, ids=lambda chapter: chapter.name)
def test_written_text(chapter):
    prose = [cell.source for cell in chapter.notebook.cells if cell.cell_type == "markdown"]
    wrong = ("another place", "advice to another reader")
    assert not [words for part in prose for words in odd(part) if words.startswith(wrong)]


def said_by(chapter: Chapter, parameters: dict[str, object], monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """All Markdown that a chapter's cells show, run in this process in place of a kernel."""
    seen: list[object] = []
    monkeypatch.setattr(book_text, "display", seen.append)
    namespace: dict[str, object] = {"display": seen.append, "__name__": "chapter"}
    for cell in chapter.notebook.cells:
        if cell.cell_type != "code":
            continue
        tree = ast.parse(cell.source)
        last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
        exec(compile(tree, chapter.name, "exec"), namespace)
        if last is not None:
            seen.append(eval(compile(ast.Expression(last.value), chapter.name, "eval"), namespace))
        if "parameters" in cell.metadata.get("tags", []):
            namespace |= chapter.own(parameters)
    return [thing.data for thing in seen if isinstance(thing, Markdown)]


LONG = {"activations", "intro", "smoothness"}
"""Take long by themselves, and are tried by `make matrix`."""

ABOUT_ANY = [chapter for chapter in Book.read(ROOT).chapters if "model" in chapter.defaults and not chapter.about]
TRIED = [chapter for chapter in ABOUT_ANY if os.environ.get("MATRIX") or chapter.name not in LONG]


@pytest.fixture(scope="module")
def few(tmp_path_factory):
    """Parameters of a short look at another model, which at 8 bits loses no answer: a copy of the embedded one."""
    folder = tmp_path_factory.mktemp("any")
    shutil.copytree(FOLDER / "model", folder / "mine")
    return {"model": str(folder / "mine"), "method": "rtn", "bits": "8", "n_facts": 24, "n_prompts": 6, "n_patched": 6,
            "run": str(folder / "run")}  # fmt: skip


@pytest.mark.parametrize("chapter", TRIED, ids=lambda chapter: chapter.name)
def test_a_model_that_lost_nothing(chapter, few, monkeypatch):
    monkeypatch.chdir(ROOT)
    said = said_by(chapter, few, monkeypatch)
    assert said
    assert not [words for part in said for words in odd(part)]
