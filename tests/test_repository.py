"""What stands around the library: citation, changelog, hooks, workflow, container; held to pyproject.toml and .ci/run.

`nox -s package` holds CITATION.cff and the workflow to their published schemas.
"""

import json
import re
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
WORKFLOW = yaml.safe_load((ROOT / ".github" / "workflows" / "book.yml").read_text())
JOBS = WORKFLOW["jobs"]


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def runs(job: str) -> list[str]:
    return [step["run"] for step in JOBS[job]["steps"] if "run" in step]


def test_citation_and_changelog_name_this_version():
    cited = yaml.safe_load(read("CITATION.cff"))
    assert cited["version"] == PROJECT["version"]
    assert " AND ".join(cited["license"]) == PROJECT["license"]
    versions = re.findall(r"^## (\S+)", read("CHANGELOG.md"), re.MULTILINE)
    assert versions[0] == "Unreleased" and versions[1] == PROJECT["version"]


def test_the_paper_is_cited_as_in_the_bibliography():
    (paper,) = yaml.safe_load(read("CITATION.cff"))["references"]
    entry = re.search(r"@\w+\{zhou2026signal,.*?\}\}", read("book/references.bib"), re.DOTALL)[0]
    authors = re.search(r"author = \{(.*?)\}", entry, re.DOTALL)[1].split(" and ")
    assert [f"{author['given-names']} {author['family-names']}" for author in paper["authors"]] == authors
    assert paper["title"] == re.search(r"title = \{(.*?)\},\n", entry)[1].replace("{", "").replace("}", "")
    assert paper["url"].endswith(re.search(r"eprint = \{(.*?)\}", entry)[1])


def test_the_workflow_checks_what_ci_checks_and_publishes_what_it_leaves():
    assert (ROOT / ".ci" / "run").stat().st_mode & 0o111
    assert ".ci/run" in runs("check"), "one list of checks, in one place"
    site = re.search(r"^SITE=(\S+)", read(".ci/run"), re.MULTILINE)[1]
    uploads = {step["uses"].split("@")[0]: step["with"] for step in JOBS["check"]["steps"] if "with" in step}
    assert uploads["actions/upload-pages-artifact"]["path"] == site
    assert PROJECT["requires-python"].startswith(f">={uploads['actions/setup-python']['python-version']},")
    assert JOBS["publish"]["needs"] == "check" and "refs/heads/main" in JOBS["publish"]["if"]
    assert any("quantcliff notebooks" in line and "pip wheel" in line for line in runs("check"))
    assert any(line.strip().endswith(" notebooks") for line in runs("publish"))


def test_only_the_job_that_publishes_may_write():
    assert WORKFLOW["permissions"] == {"contents": "read"}
    assert "permissions" not in JOBS["check"]
    assert JOBS["publish"]["permissions"] == {"contents": "write", "pages": "write", "id-token": "write"}


def test_hooks_are_local_and_those_of_make_test():
    repos = yaml.safe_load(read(".pre-commit-config.yaml"))["repos"]
    assert [repo["repo"] for repo in repos] == ["local"]
    hooks = [hook for repo in repos for hook in repo["hooks"]]
    assert {hook["language"] for hook in hooks} == {"system"}
    target = re.search(r"^test:.*\n((?:\t.*\n)+)", read("Makefile"), re.MULTILINE)[1]
    commands = [line.strip() for line in target.splitlines() if "pytest" not in line]
    assert [hook["entry"].replace(".venv/bin", "$(BIN)") for hook in hooks] == commands


def test_the_container_installs_pinned_torch_first_and_the_devcontainer_is_built_from_it():
    docker = read("Dockerfile")
    pin = re.search(r"sed -n '(s/\S+)' ?", docker)[1]
    assert pin in read("Makefile").replace("\\(", "\\(")
    assert docker.index("torch==") < docker.index("COPY . /source")
    assert re.search(r"FROM python:(\S+?)-slim", docker)[1] in PROJECT["requires-python"]
    container = json.loads(read(".devcontainer/devcontainer.json"))
    assert (ROOT / ".devcontainer" / container["build"]["dockerfile"]).resolve() == ROOT / "Dockerfile"


@pytest.mark.parametrize("name", ["book/own_model.md", "README.md"])
def test_the_pin_of_torch_is_said_right(name):
    pins = re.findall(r"torch==[\d.]+\d", read(name))
    assert set(pins) <= {PROJECT["dependencies"][0]}
    assert pins or name == "README.md"
