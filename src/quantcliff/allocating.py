"""The command `quantcliff allocate`: a checkpoint in which units that need more bits have more."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from quantcliff.errors import InputError

if TYPE_CHECKING:
    from quantcliff.stages.mixture import Subject

FILE = click.Path(path_type=Path)


@click.command()
@click.argument("base")
@click.argument("out", type=FILE)
@click.option("--bits", default=3.5, show_default=True, help="Bits per weight in all, scales and zero points counted.")
@click.option(
    "--beta", default=0.7, show_default=True, help="Weight of the answers of facts; the rest is running text."
)
@click.option("--method", default="gptq", show_default=True, help="gptq or rtn (plain round-to-nearest).")
@click.option("--group-size", type=int, help="Weights that share a scale; -1 for a whole row. [default: preset]")
@click.option("--facts", metavar="SOURCE", help="Facts to ask; see `facts --help`. [default: preset]")
@click.option("--calibration", metavar="TEXT", help="General text: a file, atlas or self. [default: preset]")
@click.option("--run", type=FILE, metavar="FOLDER", help="Where measurements are kept. [default: runs/NAME OF BASE]")
@click.option("--device", default="auto", show_default=True, help="auto, cpu or cuda.")
def allocate(
    base: str, out: Path, bits: float, beta: float, method: str, group_size: int | None, facts: str | None,
    calibration: str | None, run: Path | None, device: str,
) -> None:  # fmt: skip
    """Quantize the model in BASE into a new folder OUT, with 2 to 8 bits a module and BITS on average.

    Each module (of models with more than 64, each layer) is quantized alone, and what that costs in answers of facts
    and in running text decides (see the chapter on the mixture). For atlas that is known already; for other
    models it takes a pass over a few thousand tokens for each unit and width. A stopped run goes on from its width.

    OUT is an ordinary compressed-tensors checkpoint, which plain transformers loads.
    """
    from quantcliff import quantizers
    from quantcliff.models import check_device
    from quantcliff.stages import mixture
    from quantcliff.study import Study, preset_of

    if not 0 <= beta <= 1:
        raise InputError(f"beta is {beta:g}; give a share from 0 (running text alone) to 1 (facts alone)")
    if method not in ("gptq", "rtn"):
        raise InputError(f"method is {method!r}; choose gptq or rtn")
    if out.exists():
        raise InputError(f"{out} exists already; give a folder that does not")
    own = preset_of(base)
    study = Study(
        base, method=method, bits="4", group_size=own.group_size if group_size is None else group_size,
        facts=facts or own.facts, n_facts=own.n_facts, calibration=calibration or own.calibration,
        run=run or Path("runs") / Path(base).resolve().name, device=check_device(device),
    )  # fmt: skip
    subject = mixture.subject_of(study, method)
    mixture.check(subject, bits)
    known = None if facts or calibration else mixture.shipped_sensitivity(base, method, study.parameters.group_size)
    scheme = mixture.allotted(subject, bits, beta, known)
    text = [] if method == "rtn" else subject.calibration
    quantizers.export(base, scheme, text, out)
    click.echo(_said(subject, scheme.plan(study.base.hf.config)))
    click.echo(f"The quantized model is ready: {out.resolve()}")


def _said(subject: "Subject", plan: dict[str, int]) -> str:
    """How many units have which width."""
    counts: dict[int, list[str]] = {}
    for unit, names in subject.units.items():
        counts.setdefault(plan[names[0]], []).append(unit)
    return "\n".join(f"{bits} bits: {len(units)} of {len(subject.units)}" for bits, units in sorted(counts.items()))
