"""A two-page book to build in tests: its chapters count how often they run, and need no model."""

import shutil
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[1]

HEAD = """\
---
jupytext:
  text_representation: {extension: .md, format_name: myst}
kernelspec: {name: python3, display_name: Python 3, language: python}
---

"""

CHAPTER = """\
# Chapter NAME

A formula: $e^{i\\pi} = -1$.

```{code-cell} ipython3
:tags: [parameters]

bits = 4
run = "runs/x"
```

```{code-cell} ipython3
from pathlib import Path

Path("count").open("a").write("NAME\\n");
```

```{code-cell} ipython3
print("bits are", bits)
```
"""

EXERCISES = """\
# Exercises

```{exercise} First title
:label: one_1

**Concept, 5 minutes.** What is it?
```

```{solution-start} one_1
:class: dropdown
```

The hidden reason.

```{note}
A box in the hidden reason.
```

```{code-cell} ipython3
### BEGIN SOLUTION
answer = "b"
### END SOLUTION
course.check("one_1", answer)
```

More that is hidden.

```{solution-end}
```

```{exercise} Second title
:label: one_2

**Code, 15 minutes.** And how?
```

```{solution-start} one_2
```

```{code-cell} ipython3
### BEGIN SOLUTION
print(1)
### END SOLUTION
```

```{solution-end}
```

Text at the end.
"""


def write(folder: Path, **chapters: str) -> Path:
    """Write a book of a start page and chapters (name to MyST text without its head), rendered as the real one is."""
    (folder / "book").mkdir(parents=True)
    shutil.copy(ROOT / "_config.yml", folder)
    shutil.copytree(ROOT / "book" / "_static", folder / "book" / "_static")
    shutil.copy(ROOT / "book" / "references.bib", folder / "book")
    (folder / "book" / "intro.md").write_text("# The start\n\n```sh\nnot a cell\n```\n")
    for name, text in chapters.items():
        (folder / "book" / f"{name}.md").write_text(HEAD + text.replace("NAME", name))
    toc = {"format": "jb-book", "root": "book/intro", "chapters": [{"file": f"book/{name}"} for name in chapters]}
    (folder / "_toc.yml").write_text(yaml.safe_dump(toc))
    return folder
