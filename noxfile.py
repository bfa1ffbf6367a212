"""Tests of what can only live in an environment of its own, a session for each such extra: `make extras`."""

import os
import re
import shutil
from pathlib import Path

import nox

nox.options.default_venv_backend = "venv"
nox.options.reuse_existing_virtualenvs = True

TORCH = re.findall(r'"(torch==[^"]+)"', Path("pyproject.toml").read_text(encoding="utf-8"))


@nox.session(python="3.11")
def gptqmodel(session: nox.Session) -> None:
    """GPTQModel as a second reader of GPTQ and AWQ checkpoints; it wants another numpy than the book."""
    index = os.environ.get("TORCH_INDEX")
    session.install("--quiet", *TORCH, *(["--index-url", index] if index else []))
    session.install("--quiet", "--editable", ".[test,gptqmodel]")
    session.run("pytest", "-q", "tests/models/test_gptqmodel.py", *session.posargs)


@nox.session(python="3.11")
def package(session: nox.Session) -> None:
    """What would go to the package index, as it would be made and checked there; citation and workflow as published."""
    session.install("--quiet", "build==1.6.1", "twine==7.0.0", "check-jsonschema==0.39.0")
    dist = Path(session.create_tmp()) / "dist"
    shutil.rmtree(dist, ignore_errors=True)
    session.run("python", "-m", "build", "--outdir", str(dist), ".")
    session.run("twine", "check", "--strict", *map(str, dist.iterdir()))
    for schema, file in (("citation-file-format", "CITATION.cff"), ("github-workflows", ".github/workflows/book.yml")):
        session.run("check-jsonschema", "--builtin-schema", f"vendor.{schema}", file)
