"""A MyST page as a notebook that reads well where no MyST is: in Jupyter, Colab, VS Code.

Directives become Markdown, roles their text, captions of charts a line below them, links to pages those to notebooks.
"""

import re
from collections.abc import Iterable

from nbformat import NotebookNode, v4

from quantcliff.book.chapters import Chapter

FENCE = re.compile(r"^(?P<fence>`{3,}|:{3,})\{(?P<name>[\w:.-]+)\} *(?P<title>.*)$")
OPTION = re.compile(r"^:[\w-]+:")
BOXES = {"note": "Note", "warning": "Careful", "tip": "Tip", "important": "Important", "seealso": "See also"}
DROPPED = ("bibliography", "tableofcontents", "toctree", "raw", "include")

ROLE_WITH_TARGET = re.compile(r"\{(?:ref|doc|numref|term|cite:\w+)\}`([^`<]+?) *<[^`>]*>`")
ROLES = (
    (ROLE_WITH_TARGET, r"\1"),
    (re.compile(r"\{numref\}`[^`]*`"), "the chart"),
    (re.compile(r"\{eq\}`[^`]*`"), "the equation"),
    (re.compile(r"\{cite:\w+\}`([^`]*)`"), r"[\1]"),
    (re.compile(r"\{math\}`([^`]*)`"), r"$\1$"),
    (re.compile(r"\{(?:ref|doc|term|abbr)\}`([^`]*)`"), r"\1"),
    (re.compile(r"^\$\$ *\([\w:.-]+\) *$", re.M), "$$"),
    (re.compile(r"^\([\w:.-]+\)= *\n?", re.M), ""),
    (re.compile(r" *\{\{ *\w+ *\}\}"), ""),
)
LINK = re.compile(r"(?<!!)\[(?P<text>[^\]\[]+)\]\((?!\w+:)(?P<page>[\w./-]+?)(?:\.md)?(?P<anchor>#[\w-]+)?\)")


def notebook(chapter: Chapter, names: Iterable[str], cells: Iterable[NotebookNode] | None = None) -> NotebookNode:
    """A page as a notebook without outputs.

    Args:
        names: of the pages that a link may lead to, as file names without ending; other links lose their address.
        cells: what to write in place of the page's own cells, such as those without solutions.
    """
    pages = set(names)
    found = v4.new_notebook(metadata={key: chapter.notebook.metadata[key] for key in ("kernelspec", "language_info")
                                      if key in chapter.notebook.metadata})  # fmt: skip
    figures = 0
    for cell in chapter.notebook.cells if cells is None else cells:
        if cell.cell_type != "code":
            text = linked(markdown(cell.source, chapter.file.stem), pages)
            if text.strip():
                found.cells.append(v4.new_markdown_cell(text))
            continue
        found.cells.append(v4.new_code_cell(cell.source, metadata={"tags": cell.metadata.get("tags", [])}))
        if caption := cell.metadata.get("mystnb", {}).get("figure", {}).get("caption"):
            figures += 1
            found.cells.append(v4.new_markdown_cell(f"*Figure {figures}. {markdown(str(caption))}*".replace("\n", " ")))
    for number, cell in enumerate(found.cells):
        cell["id"] = f"cell-{number}"  # the same in every edition, where nbformat draws at random
    return found


def markdown(text: str, page: str = "") -> str:
    """MyST text without its directives and roles; code fences stay as they are.

    >>> print(markdown("```{note}\\nThe {term}`rank` is 1.\\n```"))
    > **Note.** The rank is 1.
    """
    parts, lines, plain = [], text.splitlines(), []
    while lines:
        line = lines.pop(0)
        opened = FENCE.match(line)
        if opened is None and not line.startswith("```"):
            plain.append(line)
            continue
        parts.append(_roles("\n".join(plain)))
        plain = []
        fence = opened["fence"] if opened else line[: len(line) - len(line.lstrip("`"))]
        body = _until(lines, fence)
        code = "\n".join([line, *body, fence])
        parts.append(_directive(opened["name"], opened["title"], body, page) if opened else code)
    parts.append(_roles("\n".join(plain)))
    return re.sub(r"\n{3,}", "\n\n", "\n".join(parts)).strip("\n")


def _until(lines: list[str], fence: str) -> list[str]:
    """Take the lines up to the one that closes the fence, which goes too."""
    body = []
    while lines and (line := lines.pop(0)).rstrip() != fence:
        body.append(line)
    return body


def _roles(text: str) -> str:
    for role, plain in ROLES:
        text = role.sub(plain, text)
    return text


def _directive(name: str, title: str, body: list[str], page: str) -> str:
    while body and OPTION.match(body[0]):
        body = body[1:]
    inner, title = markdown("\n".join(body), page), _roles(title)
    if name in DROPPED:
        return ""
    if name == "exercises":
        return f"[The exercises on this chapter](exercises/{page}.md) are a notebook of their own."
    if name == "exercise":
        return f"## {title}\n\n{inner}"
    if name == "math":
        return f"$$\n{inner}\n$$"
    if name in BOXES or name == "admonition":
        return "> " + f"**{BOXES.get(name, title)}.** {inner}".replace("\n", "\n> ")
    if name == "solution-start":
        return "**Solution**"
    return f"**{title}**\n\n{inner}" if title and name in ("dropdown", "card", "tab-item") else inner


def linked(text: str, pages: set[str]) -> str:
    """Links to pages of the book as links to their notebooks; one to a page that is not among them becomes plain text.

    >>> linked("See [that](patching.md#how), [this](intro).", {"patching"})
    'See [that](patching.ipynb), this.'
    """

    def link(match: re.Match[str]) -> str:
        if "." in match["page"].replace("../", ""):  # a picture or another file
            return match[0]
        known = match["page"].split("/")[-1] in pages
        return f"[{match['text']}]({match['page']}.ipynb)" if known else match["text"]

    return LINK.sub(link, text)
