"""What the commands of both groups share: a chapter's tables put into the package, and what they were made by."""

from pathlib import Path

import click


def about(command: str, commit: str = "") -> dict[str, str]:
    """What shipped tables were made by; the commit is the one that is checked out, unless told otherwise."""
    import subprocess
    from datetime import UTC, datetime

    head = ["git", "rev-parse", "HEAD"]
    commit = commit or subprocess.run(head, capture_output=True, text=True, check=True).stdout.strip()
    return {"command": command, "commit": commit, "date": f"{datetime.now(UTC):%Y-%m-%d}"}


def machine(device: str) -> str:
    """Chip and library that figures come from."""
    import platform

    import torch

    from quantcliff.models import check_device

    chip = torch.cuda.get_device_name() if check_device(device) == "cuda" else platform.machine()
    return f"{chip}, torch {torch.__version__}"


def mixture(model: str, run: Path, device: str, command: str) -> None:
    """Make the tables of the chapter on the mixture about one model, and put them into the package."""
    from quantcliff.models import check_device
    from quantcliff.stages import mixture

    mixture.ship(model, mixture.make(mixture.study_of(model, run, check_device(device))), about(command))
    click.echo(f"The tables are shipped: {mixture.FOLDER}")


def smoothness(name: str, run: Path, device: str, command: str) -> None:
    """Make one table of the chapter on smoothness, and put it into the package."""
    from quantcliff.models import check_device
    from quantcliff.stages.smoothness import edition

    edition.ship(name, edition.TABLES[name](run, check_device(device)), about(command))
    click.echo(f"The table is shipped: {edition.FOLDER / name}.parquet")
