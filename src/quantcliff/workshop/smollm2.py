"""`quantcliff smollm2`: what SmolLM2 is asked, chosen again, and the tables about it that ship with the package."""

from pathlib import Path
from typing import Any

import click

from quantcliff.errors import InputError
from quantcliff.workshop import shipped

FILE = click.Path(path_type=Path)


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
        about: dict[str, Any] = shipped.about(command, commit) | {"machine": machine or shipped.machine(device)}
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
    tables.ship(found, shipped.about("quantcliff smollm2 activations RUN", commit), activations.FOLDER)
    click.echo(f"The tables are shipped: {activations.FOLDER}")


@smollm2_group.command("mixture")
@click.argument("run", type=FILE)
@click.option("--device", default="auto", show_default=True, help="auto, cpu or cuda.")
def mixture_smollm2(run: Path, device: str) -> None:
    """Make SmolLM2's tables of the chapter on the mixture again, in RUN, and put them into the package.

    Half an hour on two cores where RUN has the checkpoints of its book; a stopped run goes on from where it was.
    """
    shipped.mixture("smollm2", run, device, "quantcliff smollm2 mixture RUN")


@smollm2_group.command("smoothness")
@click.argument("run", type=FILE)
@click.option("--device", default="auto", show_default=True, help="auto, cpu or cuda.")
def smoothness_smollm2(run: Path, device: str) -> None:
    """Measure the smoothness of SmolLM2, in short, in the RUN folder of its book, and put the table into the package.

    A quarter of an hour on one core, where the quantized models are there; a stopped run goes on from its model.
    """
    shipped.smoothness("smollm2", run, device, "quantcliff smollm2 smoothness RUN")


@smollm2_group.command("dissect")
@click.argument("run", type=FILE)
@click.option("--commit", default="", help="Of the code that made the tables.  [default: the one checked out here]")
@click.option("--device", default="auto", show_default=True, help="auto, cpu or cuda.")
def dissect_smollm2(run: Path, commit: str, device: str) -> None:
    """Dissect a few facts in all models of SmolLM2, in the RUN folder of its book, and put the tables into the package.

    Half an hour on one core, where the quantized models are there; a stopped run goes on from its model.
    """
    from quantcliff import tables
    from quantcliff.diagnosis import dissect
    from quantcliff.models import check_device

    found = dissect.make(run, check_device(device))
    tables.ship(found, shipped.about("quantcliff smollm2 dissect RUN", commit), dissect.FOLDER)
    click.echo(f"The tables are shipped: {dissect.FOLDER}")


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
    from quantcliff.stages import smollm2 as stage
    from quantcliff.study import Study, preset_of

    about = shipped.about("quantcliff build -p model smollm2", commit)
    if only:
        stage.ship_again(run, only, about["commit"])
    else:
        own = preset_of("smollm2")
        study = Study(
            "smollm2", method=own.methods, bits=own.widths, group_size=own.group_size, facts=own.facts,
            n_facts=own.n_facts, calibration=own.calibration, run=run,
        )  # fmt: skip
        stage.ship(run, study, {**about, "later": {}})
    click.echo(f"The tables are shipped: {stage.FOLDER}")
