"""`quantcliff atlas`: the embedded model made again, and the tables about it that ship with the package."""

from pathlib import Path

import click

from quantcliff.errors import InputError
from quantcliff.workshop import shipped

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
@click.option("--facts", "n_facts", type=int, metavar="N", help="Learn N facts; beyond the real ones invented ones.")
@click.option("--layers", type=int, metavar="L", help="Layers, as wide as keeps the number of parameters.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu or cuda.")
def train(folder: Path, n_facts: int | None, layers: int | None, device: str) -> None:
    """Train the model again into FOLDER/model; a killed training goes on from FOLDER/checkpoint.

    With --facts or --layers another model comes of the same recipe, with the same tokenizer; what it learned stands in
    FOLDER/facts.csv, a fact file as `quantcliff facts` reads it.
    """
    from quantcliff.models import check_device
    from quantcliff.training import density
    from quantcliff.training.train import train as learn

    recipe, told = density.recipe(n_facts, layers), None
    if n_facts is not None:
        told = density.facts(n_facts)
        density.write(told, folder)
    learn(folder, recipe, device=check_device(device), facts=told)
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
@click.option("--further", is_flag=True, help="Instead, other ways to spend the same text, for a table of their own.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu or cuda.")
def heal_again(run: Path, further: bool, device: str) -> None:
    """Make the tables of the chapter on healing again, in RUN, and put them into the package.

    Ten minutes on one core; a stopped run goes on from where it was.
    """
    from quantcliff import tables
    from quantcliff.models import check_device
    from quantcliff.stages import healing

    device, command = check_device(device), "quantcliff atlas heal RUN"
    if further:
        found, about = healing.further.make(run, device), shipped.about(f"{command} --further")
        healing.add("further", found, about, healing.FOLDER)
    else:
        tables.ship(healing.make(run, device), shipped.about(command), healing.FOLDER)
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
    tables.ship(found, shipped.about("quantcliff atlas boundary RUN"), boundary.FOLDER)
    click.echo(f"The tables are shipped: {boundary.FOLDER}")


@atlas.command("mixture")
@click.argument("run", type=FILE)
@click.option("--device", default="auto", show_default=True, help="auto, cpu or cuda.")
def mixture_again(run: Path, device: str) -> None:
    """Make the embedded model's tables of the chapter on the mixture again, in RUN, and put them into the package.

    Half an hour on one core; a stopped run goes on from where it was.
    """
    shipped.mixture("atlas", run, device, "quantcliff atlas mixture RUN")


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
    tables.ship({"density": found}, shipped.about("quantcliff atlas density MODELS RUN"), boundary.TRAINED)
    click.echo(f"The table is shipped: {boundary.TRAINED}")


@atlas.command("smoothness")
@click.argument("run", type=FILE)
@click.option("--only", type=click.Choice(["cells", "trials"]), multiple=True, help="This table alone.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu or cuda.")
def smoothness_again(run: Path, only: tuple[str, ...], device: str) -> None:
    """Make the tables of the chapter on smoothness again, in RUN, and put them into the package.

    Half an hour on one core; a stopped run goes on from its cell, or its trial.
    """
    for name in only or ("cells", "trials"):
        shipped.smoothness(name, run, device, "quantcliff atlas smoothness RUN")
