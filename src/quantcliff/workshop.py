"""Commands that make again what ships with the package: the embedded model, and what SmolLM2 is asked."""

from pathlib import Path
from typing import Any

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


@atlas.command("mixture")
@click.argument("run", type=FILE)
@click.option("--device", default="auto", show_default=True, help="auto, cpu or cuda.")
def mixture_again(run: Path, device: str) -> None:
    """Make the embedded model's tables of the chapter on the mixture again, in RUN, and put them into the package.

    Half an hour on one core; a stopped run goes on from where it was.
    """
    _mixture("atlas", run, device, "quantcliff atlas mixture RUN")


def _mixture(model: str, run: Path, device: str, command: str) -> None:
    from quantcliff.models import check_device
    from quantcliff.stages import mixture

    mixture.ship(model, mixture.make(mixture.study_of(model, run, check_device(device))), _about(command))
    click.echo(f"The tables are shipped: {mixture.FOLDER}")


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


@atlas.command("smoothness")
@click.argument("run", type=FILE)
@click.option("--only", type=click.Choice(["cells", "trials"]), multiple=True, help="This table alone.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu or cuda.")
def smoothness_again(run: Path, only: tuple[str, ...], device: str) -> None:
    """Make the tables of the chapter on smoothness again, in RUN, and put them into the package.

    Half an hour on one core; a stopped run goes on from its cell, or its trial.
    """
    for name in only or ("cells", "trials"):
        _ship_smoothness(name, run, device, "quantcliff atlas smoothness RUN")


def _ship_smoothness(name: str, run: Path, device: str, command: str) -> None:
    from quantcliff.models import check_device
    from quantcliff.stages.smoothness import edition

    edition.ship(name, edition.TABLES[name](run, check_device(device)), _about(command))
    click.echo(f"The table is shipped: {edition.FOLDER / name}.parquet")


def _about(command: str) -> dict[str, str]:
    """What shipped tables were made by."""
    import subprocess
    from datetime import UTC, datetime

    commit = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
    return {"command": command, "commit": commit, "date": f"{datetime.now(UTC):%Y-%m-%d}"}


def _machine(device: str) -> str:
    """Chip and library that figures come from."""
    import platform

    import torch

    from quantcliff.models import check_device

    chip = torch.cuda.get_device_name() if check_device(device) == "cuda" else platform.machine()
    return f"{chip}, torch {torch.__version__}"


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


@smollm2_group.command("heal")
@click.argument("run", type=FILE)
@click.option("--method", "methods", multiple=True, default=("rtn", "gptq"), show_default=True)
@click.option("--only", multiple=True, metavar="ARM", help='Some arms alone, such as "healed 2048".')
@click.option("--diagnose", multiple=True, metavar="ARM", help="Give a verdict on the models of these arms instead.")
@click.option("--named", is_flag=True, help="Instead, what is kept of facts that the healing text does not name.")
@click.option("--ship", is_flag=True, help="Instead, put what lies in RUN into the package; with --named that alone.")
@click.option("--commit", default="", help="With --ship: of the code that made them.  [default: what is checked out]")
@click.option("--machine", default="", help="With --ship: what they were made on.  [default: this machine]")
@click.option("--device", default="auto", show_default=True, help="auto, cpu or cuda.")
def heal_smollm2(
    run: Path, methods: tuple[str, ...], only: tuple[str, ...], diagnose: tuple[str, ...], named: bool, ship: bool,
    commit: str, machine: str, device: str,
) -> None:  # fmt: skip
    """Heal SmolLM2 at 2 bits: answers kept by every arm, in RUN.

    Minutes on a GPU, days on a CPU. A stopped run goes on from where it was. What ships was made by four commands: this
    one; with --diagnose "as it is 0" --diagnose "healed 2048"; with --named; with --ship.
    """
    from quantcliff import tables
    from quantcliff.models import check_device
    from quantcliff.stages import healing
    from quantcliff.stages.healing import smollm2 as edition

    if ship:
        found = edition.collected(run)
        recipe = edition.chosen(found["rates"])
        command = "quantcliff smollm2 heal RUN" + (" --named" if named else "")
        about: dict[str, Any] = _about(command) | {"machine": machine or _machine(device)}
        about |= {"commit": commit} if commit else {}
        if named:
            healing.add("named", found["named"], about, edition.FOLDER)
            click.echo(f"The table is shipped: {edition.FOLDER / 'named.parquet'}")
            return
        about |= {"lr_grid": recipe.lr_grid, "lr_weight": recipe.lr_weight}
        about |= {"not_reached": edition.missing(found["healing"], recipe)}
        tables.ship(found, about, edition.FOLDER)
        click.echo(f"The tables are shipped: {edition.FOLDER}")
        return
    device = check_device(device)
    if named:
        click.echo(edition.was_read(run, device).to_string())
        return
    for method in methods:
        for arm in diagnose:
            name, _, sequences = arm.rpartition(" ")
            click.echo(edition.diagnosed(run, device, method, name, int(sequences)).to_string())
        if not diagnose:
            click.echo(edition.make(run, device, method, only).to_string())


@smollm2_group.command("activations")
@click.argument("run", type=FILE)
@click.option("--commit", default="", help="Of the code that made the tables.  [default: the one checked out here]")
@click.option("--device", default="auto", show_default=True, help="auto, cpu or cuda.")
def activations_smollm2(run: Path, commit: str, device: str) -> None:
    """Quantize SmolLM2's inputs and cache while it runs, ask it tasks, in RUN; and put the tables into the package.

    Half an hour on two cores; a stopped run goes on from its way.
    """
    from quantcliff import tables
    from quantcliff.models import check_device
    from quantcliff.stages import activations

    found = activations.make(run, check_device(device))
    about = _about("quantcliff smollm2 activations RUN") | ({"commit": commit} if commit else {})
    tables.ship(found, about, activations.FOLDER)
    click.echo(f"The tables are shipped: {activations.FOLDER}")


@smollm2_group.command("mixture")
@click.argument("run", type=FILE)
@click.option("--device", default="auto", show_default=True, help="auto, cpu or cuda.")
def mixture_smollm2(run: Path, device: str) -> None:
    """Make SmolLM2's tables of the chapter on the mixture again, in RUN, and put them into the package.

    Half an hour on two cores where RUN has the checkpoints of its book; a stopped run goes on from where it was.
    """
    _mixture("smollm2", run, device, "quantcliff smollm2 mixture RUN")


@smollm2_group.command("smoothness")
@click.argument("run", type=FILE)
@click.option("--device", default="auto", show_default=True, help="auto, cpu or cuda.")
def smoothness_smollm2(run: Path, device: str) -> None:
    """Measure the smoothness of SmolLM2, in short, in the RUN folder of its book, and put the table into the package.

    A quarter of an hour on one core, where the quantized models are there; a stopped run goes on from its model.
    """
    _ship_smoothness("smollm2", run, device, "quantcliff smollm2 smoothness RUN")


@smollm2_group.command()
@click.argument("run", type=FILE)
def calibrate(run: Path) -> None:
    """Quantize SmolLM2 by GPTQ on other texts too, in the RUN folder of its book, and write RUN/calibration.parquet.

    Half an hour on two cores; a stopped run goes on from where it was.
    """
    from quantcliff import tables
    from quantcliff.stages import smollm2 as stage
    from quantcliff.study import Study, preset_of

    own = preset_of("smollm2")
    studies = (
        Study(
            "smollm2", method="gptq", bits="4,3,2", group_size=own.group_size, facts=own.facts, n_facts=own.n_facts,
            calibration=text, run=run,
        )
        for text in stage.TEXTS
    )  # fmt: skip
    click.echo(f"The table is there: {tables.write(stage.compare(studies), run / 'calibration.parquet')}")


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
