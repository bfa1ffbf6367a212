"""Tests of what can only live in an environment of its own, a session for each such extra: `make extras`."""

import os
import re
from pathlib import Path

import nox

nox.options.default_venv_backend = "venv"
nox.options.reuse_existing_virtualenvs = True

TORCH = re.findall(r'"(torch==[^"]+)"', Path("pyproject.toml").read_text(encoding="utf-8"))


@nox.session(python="3.11")
def gptqmodel(session: nox.Session) -> None:
    """Published GPTQ and AWQ checkpoints, which GPTQModel reads; it wants another numpy than the book."""
    index = os.environ.get("TORCH_INDEX")
    session.install("--quiet", *TORCH, *(["--index-url", index] if index else []))
    session.install("--quiet", "--editable", ".[test,gptqmodel]")
    session.run("pytest", "-q", "tests/models/test_gptqmodel.py", *session.posargs)
