"""The command `quantcliff predict`: what will happen at which bits, before any fact is asked."""

from typing import TYPE_CHECKING

import click

from quantcliff.errors import InputError

if TYPE_CHECKING:
    import pandas as pd


@click.command()
@click.argument("base")
@click.option("--text", metavar="TEXT", help="What the model is used on: a file, atlas or self. [default: preset]")
@click.option("--bits", default="4,3,2", show_default=True, help="Bits per weight, one or several.")
@click.option("--method", default="rtn", show_default=True, help="rtn, gptq or awq, one or several.")
@click.option("--group-size", type=int, help="Weights that share a scale; -1 for a whole row. [default: preset]")
@click.option("--calibration", metavar="TEXT", help="For GPTQ and AWQ: a text file, atlas or self. [default: preset]")
@click.option("--device", default="auto", show_default=True, help="auto, cpu or cuda.")
def predict(
    base: str, text: str | None, bits: str, method: str, group_size: int | None, calibration: str | None, device: str
) -> None:
    """Say how many answers the model in BASE will keep at which bits, from its weights and a text alone.

    Both models read about a thousand tokens; one number that is taken from that is looked up on a curve which was
    fitted on the book's grid of quantized models (see the chapter on the boundary). Plain rounding takes seconds; GPTQ
    and AWQ are calibrated first.
    """
    from quantcliff import quantizers
    from quantcliff.models import check_device
    from quantcliff.stages import boundary
    from quantcliff.study import preset_of

    own, device = preset_of(base), check_device(device)
    size = own.group_size if group_size is None else group_size
    schemes = [quantizers.Scheme(name.strip(), width, size) for name in method.split(",") for width in _widths(bits)]
    boundary.check(base, schemes)
    source, learned = text or own.calibration, calibration or own.calibration
    quantizers.check_calibration(source)
    calibrated = any(scheme.method != "rtn" for scheme in schemes)
    if calibrated:
        quantizers.check_calibration(learned)
    grid = boundary.shipped_grid()
    found = boundary.outlook(
        base, quantizers.calibration_text(source, model=base), schemes, grid,
        quantizers.calibration_text(learned, model=base) if calibrated else (), device,
    )  # fmt: skip
    click.echo(_page(found, len(grid), grid["model"].nunique()))


def _widths(bits: str) -> list[int]:
    try:
        return [int(part) for part in bits.split(",")]
    except ValueError as error:
        raise InputError(f"bits is {bits!r}; give whole numbers such as 4,3,2") from error


def _page(found: "pd.DataFrame", cells: int, models: int) -> str:
    """The table in words, and how far to trust it."""
    first = found.iloc[0]
    lines = [f"{'method':8}{'bits':>5}{'with scales':>13}{first['number']:>14}{'answers kept':>14}"]
    for row in found.itertuples():
        kept = f"{row.kept:.0%}"
        lines.append(f"{row.method:8}{row.bits:>5}{row.average_bits:>13.2f}{row.value:>14.2f}{kept:>14}")
    return "\n".join(lines) + (
        f"\n\nRead off {first['tokens']:,} tokens of text, on a curve of {cells} quantized models. Where one of their "
        f"{models} base models was left out, the prediction was off by {100 * first['error']:.0f} points on average, "
        f"and in nine cases of ten by less than {100 * first['worst']:.0f}."
    )
