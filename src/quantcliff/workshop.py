"""Commands that make again what ships with the package: the embedded model, and what SmolLM2 is asked."""

from pathlib import Path

import click

from quantcliff.errors import InputError

FILE = click.Path(path_type=Path)


@click.group()
def atlas() -> None:
    """Rebuild or examine the model that ships with this package."""


@atlas.command()
@click.argument("pararel", type=FILE)
@click.argument("out", type=FILE)
def collect(pararel: Path, out: Path) -> None:
    """Choose the facts to learn from a PARAREL checkout and write them to the CSV file OUT."""
    from quantcliff.training.collect import collect as choose

    if not (pararel / "data" / "trex_lms_vocab").is_dir():
        raise InputError(f"{pararel} holds no data/trex_lms_vocab; give the root folder of a ParaRel checkout")
    click.echo(f"{choose(pararel, out)} facts written to {out}")


@atlas.command()
@click.argument("folder", type=FILE)
@click.option("--device", default="auto", show_default=True, help="auto, cpu or cuda.")
def train(folder: Path, device: str) -> None:
    """Train the model again into FOLDER/model; a killed training goes on from FOLDER/checkpoint."""
    from quantcliff.models import check_device
    from quantcliff.training.train import Recipe
    from quantcliff.training.train import train as learn

    learn(folder, Recipe(), device=check_device(device))
    click.echo(f"The model is ready: {(folder / 'model').resolve()}")


@atlas.command()
@click.argument("model", default="atlas")
@click.option("--group-size", "sizes", type=int, multiple=True, default=[128], show_default=True)
@click.option("--facts", "n_facts", default=6000, show_default=True, help="How many facts to ask.")
@click.option("--card", type=FILE, help="Folder to write a model card with these figures to.")
def evaluate(model: str, sizes: tuple[int, ...], n_facts: int, card: Path | None) -> None:
    """Print what MODEL answers at full precision and what survives at 8, 4, 3 and 2 bits by every method.

    --group-size can be given several times; -1 is one group per row.
    """
    from quantcliff.models import config_of
    from quantcliff.training.card import write_card
    from quantcliff.training.evaluate import evaluate as measure
    from quantcliff.training.evaluate import requirements

    full, variants = measure(model, group_sizes=sizes, n_facts=n_facts)
    if card:
        write_card(card, full, variants)
    lines = requirements(full, variants, config_of(model).vocab_size)
    for table in (full, variants, lines):
        click.echo(table.to_string(index=False, float_format="{:.3f}".format, na_rep="") + "\n")


@atlas.command("heal")
@click.argument("run", type=FILE)
@click.option("--device", default="auto", show_default=True, help="auto, cpu or cuda.")
def heal_again(run: Path, device: str) -> None:
    """Make the tables of the chapter on healing again, in RUN, and put them into the package.

    Ten minutes on one core; a stopped run goes on from where it was.
    """
    from quantcliff import tables
    from quantcliff.models import check_device
    from quantcliff.stages import healing

    tables.ship(healing.make(run, check_device(device)), _about("quantcliff atlas heal RUN"), healing.FOLDER)
    click.echo(f"The tables are shipped: {healing.FOLDER}")


@atlas.command("boundary")
@click.argument("run", type=FILE)
@click.option("--device", default="auto", show_default=True, help="auto, cpu or cuda.")
def boundary_again(run: Path, device: str) -> None:
    """Make the tables of the chapter on the boundary again, in RUN, and put them into the package.

    An hour on one core, and some more for SmolLM2's checkpoints; a stopped run goes on from its cell.
    """
    from quantcliff import tables
    from quantcliff.models import check_device
    from quantcliff.stages import boundary

    found = boundary.make(run, check_device(device))
    tables.ship(found, _about("quantcliff atlas boundary RUN"), boundary.FOLDER)
    click.echo(f"The tables are shipped: {boundary.FOLDER}")


@atlas.command("density")
@click.argument("folder", type=FILE, metavar="MODELS")
@click.argument("run", type=FILE)
@click.option("--n-facts", default=2000, show_default=True, help="How many of its facts each model is asked.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu or cuda.")
def density_again(folder: Path, run: Path, n_facts: int, device: str) -> None:
    """Measure how much knowledge per weight the models in the folder MODELS hold, and put the table into the package.

    For each it needs NAME/model and NAME/facts.csv. A stopped run goes on from its model, with what it left in RUN.
    """
    from quantcliff import tables
    from quantcliff.models import check_device
    from quantcliff.stages import boundary

    found = boundary.density(folder, run, n_facts, check_device(device))
    tables.ship({"density": found}, _about("quantcliff atlas density MODELS RUN"), boundary.TRAINED)
    click.echo(f"The table is shipped: {boundary.TRAINED}")


def _about(command: str) -> dict[str, str]:
    """What shipped tables were made by."""
    import subprocess
    from datetime import UTC, datetime

    commit = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
    return {"command": command, "commit": commit, "date": f"{datetime.now(UTC):%Y-%m-%d}"}


@click.group("smollm2")
def smollm2_group() -> None:
    """Choose again what SmolLM2 is asked: long runs, whose results ship with this package."""


@smollm2_group.command()
@click.argument("pool", type=FILE)
@click.argument("out", type=FILE)
def wordings(pool: Path, out: Path) -> None:
    """Put the wordings in POOL (a CSV file: relation, template) in order of how many facts are answered in them."""
    import pandas as pd

    from quantcliff.models import load
    from quantcliff.training.wordings import rate

    if not pool.is_file():
        raise InputError(f"there is no file {pool}")
    rate(load("smollm2", dtype="bfloat16"), pd.read_csv(pool)).to_csv(out, index=False, lineterminator="\n")
    click.echo(f"The wordings are in order: {out}")


@smollm2_group.command("facts")
@click.argument("out", type=FILE)
@click.option("--pararel", type=FILE, metavar="FOLDER", help="Ask this ParaRel folder's facts in its own patterns.")
def known_facts(out: Path, pararel: Path | None) -> None:
    """Ask the embedded facts, keep those it knows in the CSV file OUT, and say beside it how they were chosen.

    About 80,000 questions. A stopped run goes on from the folder OUT with .work added.
    """
    from quantcliff.models import load
    from quantcliff.probes import facts as fact_sources
    from quantcliff.training import knowledge

    asked = fact_sources.load(pararel) if pararel else fact_sources.embedded()
    model, coarse = load("smollm2"), load("smollm2", dtype="bfloat16")
    known = knowledge.select(model, coarse, asked, out.with_suffix(".work"))
    command = "quantcliff smollm2 facts" + (" --pararel FOLDER" if pararel else "")
    knowledge.write(model, asked, known, out, command)
    click.echo(f"{len(known)} of {len(asked)} facts are known: {out}")


@smollm2_group.command()
@click.argument("run", type=FILE)
@click.option("--only", multiple=True, metavar="TABLE", help="Replace this table alone; can be given several times.")
@click.option("--commit", default="", help="Of the code that made the tables.  [default: the one checked out here]")
def ship(run: Path, only: tuple[str, ...], commit: str) -> None:
    """Copy the tables of a finished `quantcliff build -p model smollm2` from its RUN folder into the package."""
    import subprocess
    from datetime import UTC, datetime

    from quantcliff.stages import smollm2 as stage
    from quantcliff.study import Study, preset_of

    head = ["git", "rev-parse", "HEAD"]
    commit = commit or subprocess.run(head, capture_output=True, text=True, check=True).stdout.strip()
    if only:
        stage.ship_again(run, only, commit)
    else:
        own = preset_of("smollm2")
        study = Study(
            "smollm2", method=own.methods, bits=own.widths, group_size=own.group_size, facts=own.facts,
            n_facts=own.n_facts, calibration=own.calibration, run=run,
        )  # fmt: skip
        about = {"command": "quantcliff build -p model smollm2", "commit": commit, "later": {}}
        stage.ship(run, study, about | {"date": f"{datetime.now(UTC):%Y-%m-%d}"})
    click.echo(f"The tables are shipped: {stage.FOLDER}")
