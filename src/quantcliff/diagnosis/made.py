"""How a diagnosis was made, so that it can be made again: date, versions, the models' hashes, seed, command."""

import platform
import shlex
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

from quantcliff.study import Study

PACKAGES = ("quantcliff", "torch", "transformers")


def made(study: Study, label: str, n_facts: int, quick: bool) -> dict[str, Any]:
    """The facts of this run as plain values.

    Returns:
        date (UTC, to the minute); versions by package, and Python's; base and quantized (as given) and their hashes
        (16 hex digits over config.json and all weight files, `models.digest_of`); seed, device, dtype; command.
    """
    asked = study.parameters
    numbers = "" if asked.dtype == "float32" else f"-{asked.dtype}"
    hashes = [model.digest.removesuffix(numbers) for model in (study.base, study.model(label))]
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "versions": {name: version(name) for name in PACKAGES} | {"Python": platform.python_version()},
        "base": asked.model,
        "base_hash": hashes[0],
        "quantized": asked.quantized,
        "quantized_hash": hashes[1],
        "seed": asked.seed,
        "device": asked.device,
        "dtype": asked.dtype,
        "command": command(study, n_facts, quick),
    }


def command(study: Study, n_facts: int, quick: bool) -> str:
    """The line that makes the diagnosis again, ready for a shell."""
    asked = study.parameters
    source = ["--text", asked.text] if asked.text else ["--facts", asked.facts]
    words = [
        "quantcliff", "diagnose", asked.model, asked.quantized, *source, "--n-facts", str(n_facts), "--seed",
        str(asked.seed), "--device", asked.device, "--dtype", asked.dtype, "--out", str(asked.run),
    ]  # fmt: skip
    return shlex.join([*words, *(["--quick"] if quick else [])])
