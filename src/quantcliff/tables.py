"""Tidy tables on disk: parquet, written whole or not at all."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from quantcliff import disk
from quantcliff.errors import InputError


def write(table: pd.DataFrame, path: str | Path) -> Path:
    """Write a table so that a reader sees the old file or the new one, never half of one.

    Raises:
        InputError: the disk is full, or the folder cannot be written to; tables written before stay whole.
    """
    path = Path(path)
    with disk.whole(path) as part:
        table.to_parquet(part, index=False)
    return path


def read(path: str | Path) -> pd.DataFrame:
    """Read a table that `write` made.

    Raises:
        InputError: there is no such table.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"there is no table {path}; run the chapter that makes it first")
    return pd.read_parquet(path)


def shipped(folder: Path, name: str, kind: str, hashes: Mapping[str, str]) -> Path:
    """File of a table that comes with the package, after a look whether it is the one that was shipped.

    Args:
        kind: "parquet" or "csv".
        hashes: name of every table -> sha256 of its file, as `made.json` beside them has it.

    Raises:
        InputError: there is no such table, or its file has another hash.
    """
    path = folder / f"{name}.{kind}"
    if name not in hashes or not path.is_file():
        raise InputError(f"there is no shipped table {name!r}; the tables are {', '.join(hashes)}")
    if disk.sha256(path) != hashes[name]:
        raise InputError(f"{path} is not the file that made.json beside it speaks of; install the package again")
    return path


def ship(found: Mapping[str, pd.DataFrame], about: Mapping[str, Any], out: Path) -> None:
    """Write tables into the package, and beside them in `made.json` what they were made by and the hash of each file.

    Args:
        about: command, commit and date; `files`, where it has them, are tables that lie there already and stay.
    """
    paths = {name: write(table, out / f"{name}.parquet") for name, table in found.items()}
    hashes = {name: disk.sha256(path) for name, path in paths.items()}
    made = {**about, "files": {**about.get("files", {}), **hashes}}
    (out / "made.json").write_text(json.dumps(made, indent=1) + "\n", encoding="utf-8")
