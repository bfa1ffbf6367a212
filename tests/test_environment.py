"""One set of packages: pyproject.toml pins it, environment.yml repeats it, the code imports nothing else."""

import ast
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]


def test_conda_environment_is_the_same_set():
    listed = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    packages = next(entry["pip"] for entry in listed if isinstance(entry, dict))
    assert f"python={sys.version_info[0]}.{sys.version_info[1]}" in listed
    assert packages[-1] == "-e ."
    assert [Requirement(line) for line in packages[:-1]] == [
        Requirement(line) for line in PROJECT["dependencies"] + EXTRAS["test"]
    ]


def test_torch_comes_first_and_exactly():
    assert PROJECT["dependencies"][0].startswith("torch==")


@pytest.mark.parametrize("line", PROJECT["dependencies"] + EXTRAS["test"] + EXTRAS["gptqmodel"] + EXTRAS["grid"])
def test_every_package_is_pinned(line):
    requirement = Requirement(line)
    exact = [clause.operator for clause in requirement.specifier] == ["=="]
    assert exact or requirement.name == "numpy", "only numpy may float: the gptqmodel extra needs an older one"


def imports(folder: Path) -> set[str]:
    """Top-level modules that the files of a folder import."""
    found = set()
    for file in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                found |= {name.name.split(".")[0] for name in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                found.add(node.module.split(".")[0])
    return found


@pytest.mark.parametrize(("folder", "extras"), [("src", []), ("tests", EXTRAS["test"])])
def test_nothing_undeclared_is_imported(folder, extras):
    declared = {canonicalize_name(Requirement(line).name) for line in PROJECT["dependencies"] + extras}
    local = {"quantcliff", "gptqmodel"} | {file.stem for file in (ROOT / folder).glob("*.py")}
    known = packages_distributions()
    missing = {
        module
        for module in imports(ROOT / folder) - set(sys.stdlib_module_names) - local
        if not declared & {canonicalize_name(name) for name in known.get(module, [])}
    }
    assert not missing, f"declare in pyproject.toml what provides {sorted(missing)}"
