"""Text that a code cell computes."""

from textwrap import dedent

import pandas as pd
from IPython.display import Markdown, display


def say(text: str | Markdown) -> None:
    """Show Markdown in the page: `say(f"At 4 bits {x:.1%} of the answers survive.")`; indented blocks are dedented."""
    display(text if isinstance(text, Markdown) else Markdown(dedent(text).strip()))


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
