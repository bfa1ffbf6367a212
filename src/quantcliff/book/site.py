"""Build the book: execute chapters, assemble the executed notebooks, render the site.

Execution (papermill) and rendering (jupyter-book) are apart. A chapter that was executed before with the same source,
parameters, library and model is not executed again, so a build that was killed or stopped goes on where it was.
"""

import contextlib
import copy
import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import nbformat
import pandas as pd
import yaml
from sphinx_external_toc.parsing import parse_toc_yaml
from tqdm import tqdm

from quantcliff import disk
from quantcliff.book import execution, running, slides, twins
from quantcliff.book.chapters import Book, Chapter
from quantcliff.book.parameters import as_markdown as parameter_table
from quantcliff.errors import BuildError, InputError

PACKAGE = Path(__file__).parents[1]


DEFAULT = "atlas"
"""The model that the book is about unless told otherwise."""


def build(book: Book, parameters: Mapping[str, Any], out: Path) -> Path:
    """Execute what changed, render everything, and return the site's `index.html`.

    `out` gets the folders `notebooks` (executed chapters), `tables` (the parquet file each of them wrote), `source`
    (what is rendered) and `html` (the site). The last site stays whole until the new one is complete.

    Args:
        parameters: checked ones (`chapters.check_parameters`); each chapter is given those it has.

    Raises:
        InputError, BuildError: as `execute` and `render`.
    """
    with disk.working_in(out):
        return _build(book, parameters, out)


def _build(book: Book, parameters: Mapping[str, Any], out: Path) -> Path:
    model = str(parameters.get("model", DEFAULT))
    book = book.of(model)
    executed = _execute_all(book, parameters, out)
    editions = [] if model != DEFAULT else sorted(out.resolve().parent.glob("*/html/index.html"))
    links = {page.parents[1].name: os.path.relpath(page, out.resolve() / "html") for page in editions}
    links.pop(out.resolve().name, None)
    assemble(book, executed, out / "source", "" if model == DEFAULT else Path(model).name, links)
    index = render(out / "source", out / "html")
    slides.make(out / "html", out / "html" / slides.FOLDER)
    return index


def _execute_all(book: Book, parameters: Mapping[str, Any], out: Path) -> dict[Chapter, Path]:
    """Every page that runs, in order. Pages that leave nothing run beside those that come after them: most of their
    time is the start of a kernel, on one core."""
    start, *others = book.chapters  # the start page sums up the others, so it runs last
    chapters = [chapter for chapter in (*others, start) if chapter.runs]
    out, beside = out.resolve(), ThreadPoolExecutor(1)
    waiting: list[Future[None]] = []

    def run(number: int, chapter: Chapter, alone: bool) -> None:
        label = f"[{number}/{len(chapters)}] {chapter.name}"
        notebook, mark = out / "notebooks" / f"{chapter.name}.ipynb", digest(chapter, parameters)
        if _mark_of(notebook) == mark:
            tqdm.write(f"{label}: unchanged, not executed again", file=sys.stderr)
            return
        with _results(chapter, parameters, book.work, alone):
            execute(chapter, parameters, notebook, book.work, mark, label, alone)
            keep_table(chapter, parameters, book.work, out / "tables")

    try:
        with contextlib.chdir(Path.cwd()):  # papermill works in its folder, and two of it would leave us there
            for number, chapter in enumerate(chapters, start=1):
                for done in filter(Future.done, waiting):
                    done.result()
                if chapter.is_exercise or not _run_of(chapter, parameters):
                    waiting.append(beside.submit(run, number, chapter, alone=False))
                else:
                    run(number, chapter, alone=True)
            for one in waiting:
                one.result()
    finally:
        beside.shutdown(cancel_futures=True)
    return {chapter: out / "notebooks" / f"{chapter.name}.ipynb" for chapter in chapters}


def execute(
    chapter: Chapter,
    parameters: Mapping[str, Any],
    out: Path,
    root: Path,
    mark: str = "",
    label: str = "",
    alone: bool = True,
) -> None:
    """Run a chapter in the folder `root` and write the notebook to `out` once every cell has run.

    Args:
        parameters: those the chapter does not have are left out.
        mark: kept in the notebook's metadata, to tell later what it was made from.
        label: what the progress bar calls the chapter.
        alone: wait until no other command works in its run folder; else it only reads there, and shows no progress.

    Raises:
        InputError: the chapter refused its input, or the disk is full or cannot be written to.
        BuildError: a cell failed; the message names chapter and cell. The cells up to there are kept in a file beside
            `out` that ends in `.failed.ipynb`.
    """
    import papermill
    from papermill.exceptions import PapermillExecutionError

    notebook = copy.deepcopy(chapter.notebook)
    notebook.metadata["quantcliff"] = {"made_from": mark}
    running.timed(notebook)
    part, failed = out.with_suffix(".running.ipynb"), out.with_suffix(".failed.ipynb")
    out.parent.mkdir(parents=True, exist_ok=True)
    failed.unlink(missing_ok=True)
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    run = _run_of(chapter, parameters)
    try:
        held = _results(chapter, parameters, root, alone)
        with held, running.watching(root / run if run and alone else None) as seen:
            executed = papermill.execute_notebook(
                notebook,
                str(part).replace("{", "{{").replace("}", "}}"),  # papermill formats its output path
                chapter.own(parameters),
                kernel_name="python3",
                cwd=root,
                progress_bar={"desc": label or chapter.name} if alone else False,
                extra_arguments=["--log-level=ERROR"],
            )
    except PapermillExecutionError as error:
        part.replace(failed)
        if error.ename == "InputError":
            raise InputError(f"chapter {chapter.name}: {error.evalue}") from None
        if told := disk.refusal(error.evalue):
            raise InputError(f"chapter {chapter.name}: {told}") from None
        first = next(iter(error.source.strip().splitlines()), "")
        cell = max(error.exec_count - 1, 1)  # the first is that of the imports
        raise BuildError(
            f"{error}\nchapter {chapter.name} stopped in code cell {cell}, which begins `{first}`, with "
            f"{error.ename}: {error.evalue} (cells so far: {failed})"
        ) from None
    nbformat.write(running.noted(executed, seen), part)
    part.replace(out)


def _results(chapter: Chapter, parameters: Mapping[str, Any], root: Path, alone: bool) -> AbstractContextManager[None]:
    """Alone in the chapter's run folder, if asked; a chapter that has none needs no other to stay away."""
    run = _run_of(chapter, parameters)
    return disk.working_in(root / run) if run and alone else nullcontext()


def _run_of(chapter: Chapter, parameters: Mapping[str, Any]) -> str:
    return str({**chapter.defaults, **parameters}.get("run", "")) if "run" in chapter.defaults else ""


def keep_table(chapter: Chapter, parameters: Mapping[str, Any], root: Path, folder: Path) -> None:
    """Copy the tables that bear the chapter's name, which a later run with other parameters would replace."""
    for table in sorted((root / _run_of(chapter, parameters)).glob(f"{chapter.name}*.parquet")):
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(table, folder)


def assemble(
    book: Book,
    executed: Mapping[Chapter, Path],
    out: Path,
    subtitle: str = "",
    editions: Mapping[str, str] | None = None,
) -> None:
    """Make `out` a folder that jupyter-book renders without executing anything.

    Args:
        editions: name -> address of the same book about other models, which the start page links to.
    """
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    config = yaml.safe_load((book.root / "_config.yml").read_text(encoding="utf-8"))
    config["execute"] = {**config.get("execute", {}), "execute_notebooks": "off"}
    links = ", ".join(f'<a href="{address}">{name}</a>' for name, address in (editions or {}).items())
    also = f"The same book about other models, built beside this one: {links}." if links else ""
    sphinx = config.setdefault("sphinx", {}).setdefault("config", {})
    told = execution.parts(book, executed)
    sphinx["myst_substitutions"] = {"editions": also, "parameters": parameter_table(book), **told}
    pages = {Path(page).name for page in parse_toc_yaml(book.root / "_toc.yml")}
    sphinx["pages_left_out"] = sorted(pages - {chapter.name for chapter in book.chapters})
    sphinx["html_extra_path"] = [*sphinx.get("html_extra_path", []), twins.EXTRA]
    sphinx.setdefault("html_theme_options", {}).update(twins.launching(url := twins.repository(config)))
    twins.write(book, out / twins.EXTRA, url)
    if subtitle:
        config["title"] = f"{config['title']}: {subtitle}"
    (out / "_config.yml").write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")
    toc = yaml.safe_load((book.root / "_toc.yml").read_text(encoding="utf-8"))
    kept = {str(chapter.file.relative_to(book.root).with_suffix("")) for chapter in book.chapters}
    (out / "_toc.yml").write_text(yaml.safe_dump(_only(toc, kept), sort_keys=False), encoding="utf-8")
    for static in sphinx.get("html_static_path", []):
        shutil.copytree(book.root / static, out / static)
    for works in sphinx.get("bibtex_bibfiles", []):
        (out / works).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(book.root / works, out / works)
    for chapter in book.chapters:
        target = out / chapter.file.relative_to(book.root)
        target.parent.mkdir(parents=True, exist_ok=True)
        if chapter in executed:
            shutil.copy(executed[chapter], target.with_suffix(".ipynb"))
        else:
            shutil.copy(chapter.file, target)


def _only(entry: Any, kept: set[str]) -> Any:
    """A table of contents without the pages that are not kept; pages below them go with them, and parts left empty."""
    if isinstance(entry, dict):
        parts = {name: _only(value, kept) for name, value in entry.items()}
        return {name: part for name, part in parts.items() if part != []}
    if not isinstance(entry, list):
        return entry
    rest = [_only(part, kept) for part in entry if not isinstance(part, dict) or part.get("file", "") in kept | {""}]
    return [part for part in rest if not isinstance(part, dict) or {"file", "chapters"} & part.keys()]


def render(source: Path, html: Path) -> Path:
    """Render an assembled book, any warning an error; `html` is replaced only by a complete site.

    Raises:
        BuildError: jupyter-book warned or failed; the message ends with what it said.
    """
    work = html.with_name(".rendering")
    shutil.rmtree(work, ignore_errors=True)
    jupyter_book = [sys.executable, "-c", "from jupyter_book.cli.main import main; main()"]
    command = [*jupyter_book, "build", str(source), "--path-output", str(work), "-W", "--keep-going", "-q"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        if told := disk.refusal(done.stdout + done.stderr, html):
            raise InputError(told)
        raise BuildError(
            f"{(done.stdout + done.stderr)[-4000:]}\njupyter-book could not render {source} without warnings"
        )
    shutil.rmtree(html, ignore_errors=True)
    (work / "_build" / "html").rename(html)
    shutil.rmtree(work)
    return html / "index.html"


def summary(out: Path) -> str:
    """Accuracy by bits and method, as the `macro` chapter of a built book measured it; empty where it has none."""
    file = out / "tables" / "macro.parquet"
    if not file.is_file():
        return ""
    table = pd.read_parquet(file)
    table = table[(table["measure"] == "accuracy") & (table["split"] == "group") & (table["part"] == "all")]
    wide = table.pivot(index="method", columns="bits", values="estimate")
    return wide[sorted(wide.columns, reverse=True)].to_string(float_format="{:.1%}".format, na_rep="")


def digest(chapter: Chapter, parameters: Mapping[str, Any]) -> str:
    """Stands for what an executed chapter depends on: source, parameters, package with its model, files it is given."""
    own = {**chapter.defaults, **chapter.own(parameters)}
    total = hashlib.sha256(chapter.file.read_bytes())
    total.update(json.dumps(own, sort_keys=True).encode())
    for file in sorted(path for path in PACKAGE.rglob("*") if path.is_file() and "__pycache__" not in path.parts):
        total.update(str(file.relative_to(PACKAGE)).encode())
        with file.open("rb") as handle:
            total.update(hashlib.file_digest(handle, "sha256").digest())
    for value in (value for name, value in own.items() if name != "run" and isinstance(value, str) and value):
        given = Path(value).expanduser()
        for file in sorted(path for path in [given, *given.rglob("*")] if path.is_file()):
            total.update(f"{file} {file.stat().st_size} {file.stat().st_mtime_ns}".encode())
    return total.hexdigest()


def _mark_of(notebook: Path) -> str | None:
    if not notebook.is_file():
        return None
    return nbformat.read(notebook, as_version=4).metadata.get("quantcliff", {}).get("made_from")
