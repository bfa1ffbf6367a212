"""Text that a code cell computes."""

import re
from textwrap import dedent

import pandas as pd
from IPython.display import Markdown, display

NO_NUMBER = re.compile(r"(?<![\w`])[+-]?nan%?(?![\w`])")


def say(text: str | Markdown) -> None:
    """Show Markdown in the page: `say(f"At 4 bits {x:.1%} of the answers survive.")`; indented blocks are dedented.

    A number that is none, since there was nothing to count, is shown as a dash.
    """
    display(text if isinstance(text, Markdown) else Markdown(NO_NUMBER.sub("–", dedent(text).strip())))  # noqa: RUF001


def say_table(table: pd.DataFrame, formats: dict[str, str] | None = None) -> None:
    """Show a table as Markdown, one format string per column where given: `{"accuracy": "{:.1%}"}`.

    Columns without a format are shown as they print; missing values become `-`.
    """
    shown = pd.DataFrame(
        {
            name: ["-" if pd.isna(value) else (formats or {}).get(str(name), "{}").format(value) for value in column]
            for name, column in table.items()
        }
    )
    lines = ["| " + " | ".join(map(str, shown.columns)) + " |", "|" + "---|" * shown.shape[1]]
    lines += [
        "| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in shown.itertuples(index=False)
    ]
    display(Markdown("\n".join(lines)))
