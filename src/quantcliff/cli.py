"""The command `quantcliff`.

Exit codes: 0 done; 1 a chapter or the rendering failed; 2 the input cannot be used. Everything heavy is imported inside
a command, so that `--help` answers at once.
"""

import sys
from pathlib import Path
from typing import Any

import click

from quantcliff.errors import BuildError, InputError

FILE = click.Path(path_type=Path)

parameter = click.option(
    "-p",
    "--parameter",
    "given",
    nargs=2,
    multiple=True,
    metavar="NAME VALUE",
    help="Set a parameter of the chapters, e.g. -p bits 8,4 -p method awq. Repeat for more.",
)
parameter_file = click.option("--params", type=FILE, metavar="FILE", help="YAML or JSON file with `name: value` lines.")


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="quantcliff")
def app() -> None:
    """Why do language models fail at 2 or 3 bits? Build the book that measures it, or ask it of your own models.

    \b
    quantcliff build                      the whole book, as a site in _build/atlas/html
    quantcliff run macro -p bits 2        one chapter with other parameters
    quantcliff diagnose BASE QUANTIZED    what went wrong between two models on this machine

    A model is always a folder on this machine in Hugging Face form; nothing is ever downloaded. "atlas" names the small
    model that ships with this package.
    """


@app.command()
@parameter
@parameter_file
@click.option("--out", type=FILE, metavar="FOLDER", help="Where to build. [default: _build/NAME OF THE MODEL]")
def build(given: tuple[tuple[str, str], ...], params: Path | None, out: Path | None) -> None:
    """Execute the chapters that changed and render the site.

    Start it in the root folder of a checkout. Chapters come from _toc.yml alone. With -p model FOLDER (and perhaps
    -p facts FILE) the same book is written about your model, into a site of its own.
    """
    from quantcliff import book
    from quantcliff.chapters import Book

    whole = Book.read()
    parameters = _parameters(given, params, whole.chapters)
    name = Path(parameters.get("model", "atlas")).resolve().name
    if "model" in parameters:
        parameters.setdefault("run", f"runs/{name}")
    out = out or Path("_build") / name
    page = book.build(whole, parameters, out)
    if table := book.summary(out):
        click.echo(f"\nAccuracy by method and bits\n{table}\n")
    click.echo(f"The site is ready: {page.resolve()}")


@app.command()
@click.argument("chapter")
@parameter
@parameter_file
@click.option("-o", "--out", type=FILE, metavar="FILE", help="The executed notebook. [default: CHAPTER.ipynb]")
def run(chapter: str, given: tuple[tuple[str, str], ...], params: Path | None, out: Path | None) -> None:
    """Execute one CHAPTER, with other parameters if you like, and keep it as a notebook."""
    from quantcliff import book
    from quantcliff.chapters import Book

    page = Book.read()
    chosen = page.chapter(chapter)
    parameters = _parameters(given, params, [chosen])
    out = out or Path(f"{chapter}.ipynb")
    book.execute(chosen, parameters, out, page.root)
    click.echo(f"The executed chapter is ready: {out.resolve()}")


@app.group()
def atlas() -> None:
    """Rebuild or examine the model that ships with this package."""


def _parameters(given: tuple[tuple[str, str], ...], params: Path | None, chapters: Any) -> dict[str, Any]:
    from quantcliff.chapters import check_parameters, read_parameter_file

    values = {**(read_parameter_file(params) if params else {}), **dict(given)}
    return check_parameters(values, chapters)


def main() -> None:
    try:
        app()
    except InputError as error:
        click.echo(f"quantcliff: {error}", err=True)
        sys.exit(2)
    except BuildError as error:
        click.echo(f"quantcliff: {error}", err=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
