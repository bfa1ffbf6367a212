"""Text that a code cell computes."""

import re
from collections.abc import Iterable, Sequence
from textwrap import dedent

import pandas as pd
from IPython.display import Markdown, display

NO_NUMBER = re.compile(r"(?<![\w`])[+-]?nan%?(?![\w`])")
SIGNED_ZERO = re.compile(r"(?<![\w`.)\]])[+-](?=0(?:\.0+)?(?![\w`]|\.\d))")


def tidy(text: str) -> str:
    """Numbers as a reader wants them: no sign in front of a zero, a dash for a number that is none.

    What touches a backtick is code and stays.

    Example:
        >>> tidy(f"{-0.0004:.1%} of them, {-0.2:+.0f} points (-0.50 to {0.0:+.1f})")
        '0.0% of them, 0 points (-0.50 to 0.0)'
    """
    return NO_NUMBER.sub("–", SIGNED_ZERO.sub("", text))  # noqa: RUF001


def say(text: str | Markdown) -> None:
    """Show Markdown in the page: `say(f"At 4 bits {x:.1%} of the answers survive.")`; indented blocks are dedented.

    Numbers are shown as `tidy` has them.
    """
    display(text if isinstance(text, Markdown) else Markdown(tidy(dedent(text).strip())))


def ranged(estimate: float, low: float, high: float, style: str = ".0%") -> str:
    """A number with its 95% interval, as tables and sentences show it.

    >>> ranged(0.447, 0.372, 0.53)
    '45% (37 to 53)'
    >>> ranged(1.234, 1.1, 1.4, ".1f")
    '1.2 (1.1 to 1.4)'
    """
    ends = " to ".join(f"{end:{style}}".removesuffix("%") for end in (low, high))
    return tidy(f"{estimate:{style}} ({ends})")


def as_token(text: str) -> str:
    """A token as code, without the spaces around it; one that is nothing else goes by a name.

    >>> as_token(" Rome"), as_token("\\n"), as_token(" "), as_token("`a")
    ('`Rome`', '*line break*', '*space*', '`` `a ``')
    """
    word = text.strip()
    if not word:
        return "*line break*" if "\n" in text else "*space*" if text else "*nothing*"
    return f"`` {word} ``" if "`" in word else f"`{word}`"


def as_table(table: pd.DataFrame, formats: dict[str, str] | None = None) -> str:
    """A table as Markdown, one format string per column where given: `{"accuracy": "{:.1%}"}`.

    Columns without a format are shown as they print; missing values become `-`, other numbers are shown as by `tidy`.
    """
    shown = pd.DataFrame(
        {
            name: ["-" if pd.isna(value) else (formats or {}).get(str(name), "{}").format(value) for value in column]
            for name, column in table.items()
        }
    )
    return rows_as_table(list(map(str, shown.columns)), ([*map(tidy, row)] for row in shown.itertuples(index=False)))


def rows_as_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Rows of texts as a Markdown table, bars in them escaped."""
    line = "| {} |".format
    cells = (" | ".join(text.replace("|", "\\|") for text in row) for row in rows)
    return "\n".join([line(" | ".join(head)), "|" + "---|" * len(head), *map(line, cells)])


def folded_in(title: str, text: str) -> str:
    """Text in a closed dropdown."""
    return f"````{{dropdown}} {title}\n{text}\n````"


def say_table(
    table: pd.DataFrame, formats: dict[str, str] | None = None, *, folded: str = "", before: str = ""
) -> None:
    """Show a table in the page, as `as_table` writes it.

    Args:
        folded: a title; the table then stands in a closed dropdown of that name.
        before: text in front of the table, in the same dropdown.
    """
    text = "\n\n".join(part for part in (dedent(before).strip(), as_table(table, formats)) if part)
    display(Markdown(folded_in(folded, text) if folded else text))
