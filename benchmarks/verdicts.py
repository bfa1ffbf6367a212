"""Is the verdict right? Diagnose pairs whose truth is known, and count.

    python benchmarks/verdicts.py run        # hours on two cores; finished pairs survive a kill, run it again to go on
    python benchmarks/verdicts.py take CACHE --commit C     # what `run --part 2/8` made elsewhere
    python benchmarks/verdicts.py read BOOK --commit C      # SmolLM2's verdicts, out of its book's run folder
    python benchmarks/verdicts.py show
    python benchmarks/verdicts.py ship       # the table that comes with the package

What follows was written down before any pair was diagnosed. One way of counting was mended after that: a pair that a
rule was not asked about is no wrong answer of that rule.

**Models.** The embedded one (atlas, 8 layers), SmolLM2 (30 layers), and two that are no Llama, trained for minutes on
600 of atlas' facts by the recipe in `proof/small.py`: GPT-NeoX (4 layers) and Qwen 3 (5 layers).

**Healthy pairs** (`proof/pairs.py`): GPTQ, AWQ and plain rounding at 8, 4, 3 and 2 bits on every model (AWQ does not
know GPT-NeoX), more group sizes, dampings and symmetric ones on atlas. The file check must not accuse any module of
them.

**Labels** come of outcomes, never of signals (`proof/labels.py`):

- *intact*: at least 99% of full precision's right answers are kept;
- *degraded*: not intact, and a cheap training brings back at least half of the lost answers;
- *collapsed*: not intact, and it does not.

The cheap training freezes the integers of all weights and trains the scales of their groups and the norms: 60 steps of
16 x 64 tokens (SmolLM2: 8 x 64), Adam, a rate of 0.005 (SmolLM2: 0.002) that falls to 0, passes in bfloat16, the loss
the divergence from full precision on running text in which no question stands. That is a definition with limits: a
larger budget would bring back more, so that "collapsed" means beyond *this* budget; a model that is broken in a single
place may come back fully while nothing of its computation worked before; and a label near one half is a matter of
chance, which the interval beside it tells. The verdict's own words map to labels so: "signal degradation" is right for
degraded, "computation collapse" for collapsed; "mixed" is right for neither and counted as its own column.

That label was seen to fail on the first three models that were labelled, before any other: atlas with GPTQ at 4 bits
keeps 97% of its answers and would be "collapsed", since most of the 27 lost ones stay lost. So a second label stands
beside the first, which stays: *degraded* if at least half of *all* of full precision's right answers are right after
the same training, else *collapsed*. Both are counted for every rule.

**Planted faults** (`proof/pairs.py`): eighteen kinds at three strengths, with a healthy twin each. One is *found* if
the headline begins with "format bug" (a finetuned base: "not made from this base") and a sentence of the file check
names the right place. Smaller than any strength here is not looked at; a fault weaker than rounding may well be
missed.

**The cosine rule**, which stands for tools that compare layers one by one: mean cosine of the two models' residual
streams at the last token of the questions, after every layer. *Intact* if it is .99 or more after every layer,
*collapsed* if it is below .5 after any, else *degraded*.

**Agreement**, on eight checkpoints of atlas: the mode with another seed, with 1,000 facts, and with next tokens of a
text instead of facts, beside the mode with 100 facts.
"""

import json
import re
import time
from collections.abc import Callable, Collection, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import click
from proof import small, table
from proof.pairs import Pair, everything
from proof.runs import checked, diagnosed, kept, labelled, tabled, taken
from tqdm import tqdm

from quantcliff import smollm2
from quantcliff.atlas import Writer, load_facts
from quantcliff.quantizers import Scheme

CACHE = Path.home() / ".cache" / "quantcliff" / "verdicts"

TWICE = [("rtn", 4, 128), ("rtn", 3, 128), ("rtn", 2, 128), ("gptq", 4, 128), ("gptq", 3, 128), ("gptq", 2, 128),
         ("rtn", 3, 32), ("rtn", 2, 32)]  # fmt: skip
"""Checkpoints of atlas that are diagnosed in more than one way."""

Task = tuple[Path, Callable[[], dict[str, Any]]]


def tasks(cache: Path, only: Collection[str] = ("",)) -> Iterator[Task]:
    """Every file of results and what makes it, in an order in which the first are worth most."""
    pairs = [pair for pair in everything() if any(part in pair.name for part in only)]
    for big in (False, True):
        some = [pair for pair in pairs if (pair.model == smollm2.NAME) == big]
        faulty, sound = ([pair for pair in some if bool(pair.fault) == wrong] for wrong in (True, False))
        yield from ((_file(cache, pair, "verdict"), partial(diagnosed, pair, cache)) for pair in faulty)
        for pair in sound:
            yield _file(cache, pair, "verdict"), partial(diagnosed, pair, cache)
            yield _file(cache, pair, "label"), partial(labelled, pair, cache)
        if not big:
            yield from again(cache, only)


def again(cache: Path, only: Collection[str]) -> Iterator[Task]:
    """Other ways to ask about the checkpoints in `TWICE`."""
    for method, bits, size in TWICE:
        pair = Pair("atlas", Scheme(method, bits, size))
        ways: dict[str, dict[str, Any]] = {
            "seed": {"seed": 1},
            "many": {"n_facts": 1000},
            "text": {"text": _text(cache)},
        }
        for way, change in ways.items():
            if any(part in pair.name for part in only):
                yield _file(cache, pair, way), partial(diagnosed, pair, cache, **change)


def _file(cache: Path, pair: Pair, what: str) -> Path:
    return cache / "found" / what / f"{pair.name.replace('/', '--')}.json"


def _text(cache: Path) -> Path:
    """Documents of atlas as a text file."""
    file = cache / "atlas.txt"
    if not file.is_file():
        file.parent.mkdir(parents=True, exist_ok=True)
        texts = Writer(load_facts()).texts(seed=5)
        file.write_text("\n\n".join(next(texts) for _ in range(600)), encoding="utf-8")
    return file


@click.group(help=__doc__)
@click.option("--cache", type=click.Path(path_type=Path), default=CACHE, show_default=True, help="Models and results.")
@click.pass_context
def main(context: click.Context, cache: Path) -> None:
    context.obj = cache


@main.command()
@click.option("--minutes", type=float, default=float("inf"), help="Begin nothing new after this time.")
@click.option("--only", multiple=True, default=[""], help="Pairs with this in their name; can be repeated.")
@click.option("--part", metavar="I/N", default="1/1", help="Every N-th pair from the I-th on; each needs a --cache.")
@click.pass_obj
def run(cache: Path, minutes: float, only: tuple[str, ...], part: str) -> None:
    """Train the small models, make the checkpoints, diagnose and label every pair."""
    first, parts = _part(part)
    until = time.time() + 60 * minutes
    for name, recipe in small.RECIPES.items():
        if not small.train(cache / "models" / name, recipe, until):
            return
    left = [task for task in tasks(cache, only) if not task[0].is_file() and not _broken(cache, task[0]).is_file()]
    pairs = list(dict.fromkeys(file.stem for file, _ in left))
    left = [task for task in left if pairs.index(task[0].stem) % parts == first - 1]
    for file, work in tqdm(left, desc="verdicts", mininterval=5):
        if time.time() > until:
            return
        try:
            kept(file, work)
        except Exception as error:
            _note(cache, file, error)


def _part(part: str) -> tuple[int, int]:
    """`"2/8"` -> `(2, 8)`"""
    found = re.fullmatch(r"(\d+)/(\d+)", part)
    if not found or not 1 <= int(found[1]) <= int(found[2]):
        raise click.BadParameter(f"{part!r} is no part; write 2/8 for the second of eight", param_hint="--part")
    return int(found[1]), int(found[2])


def _note(cache: Path, file: Path, error: Exception) -> None:
    """A pair that breaks is told, kept for the table, and does not stop the others."""
    click.echo(f"{file.parent.name} {file.stem}: {type(error).__name__}: {error}", err=True)
    broken = _broken(cache, file)
    broken.parent.mkdir(parents=True, exist_ok=True)
    broken.write_text(json.dumps({"error": f"{type(error).__name__}: {error}"}) + "\n", encoding="utf-8")


def _broken(cache: Path, file: Path) -> Path:
    return cache / "broken" / file.parent.name / file.name


@main.command()
@click.argument("checkpoints", nargs=-1, type=click.Path(path_type=Path, exists=True))
@click.option("--minutes", type=float, default=float("inf"), help="Begin nothing new after this time.")
@click.pass_obj
def files(cache: Path, checkpoints: tuple[Path, ...], minutes: float) -> None:
    """Look at the files of healthy CHECKPOINTS of SmolLM2, and at nothing else."""
    until = time.time() + 60 * minutes
    for folder in tqdm(checkpoints, desc="files", mininterval=5):
        if time.time() < until:
            kept(cache / "found" / "file" / f"{folder.name}.json", partial(checked, folder, cache))


@main.command()
@click.argument("book", type=click.Path(path_type=Path, exists=True))
@click.option("--commit", required=True, help="Of the package that made its verdicts.")
@click.pass_obj
def read(cache: Path, book: Path, commit: str) -> None:
    """Take SmolLM2's verdicts from the run folder BOOK of `make book-smollm2`, instead of diagnosing it again."""
    for pair in everything():
        if pair.model == smollm2.NAME and not pair.fault:
            try:
                kept(_file(cache, pair, "verdict"), partial(tabled, pair, book, commit))
            except FileNotFoundError as error:
                click.echo(error, err=True)


@main.command()
@click.argument("folders", nargs=-1, type=click.Path(path_type=Path, exists=True))
@click.option("--commit", required=True, help="Of the package that made them there.")
@click.pass_obj
def take(cache: Path, folders: tuple[Path, ...], commit: str) -> None:
    """Take results of the same bench from the caches FOLDERS, where this one has none."""
    click.echo(f"{sum(taken(folder, cache, commit) for folder in folders)} results taken")


@main.command()
@click.pass_obj
def show(cache: Path) -> None:
    """Print what has been found so far."""
    click.echo(table.report(table.gather(cache)))


@main.command()
@click.option("--before", type=click.Path(path_type=Path), help="The same by an earlier check that never saw them.")
@click.option("--commit", required=True, help="Of the package that made the results.")
@click.option("--later", help="Of the package that looked at files only, where that is another.")
@click.option("--other", nargs=2, multiple=True, metavar="COMMIT MACHINE", help="Of results taken from elsewhere.")
@click.pass_obj
def ship(cache: Path, before: Path | None, commit: str, later: str | None, other: tuple[tuple[str, str], ...]) -> None:
    """Write the table that comes with the package, with what it was made by."""
    about = {"commit": commit} | ({"files only": later} if later else {}) | ({"other": dict(other)} if other else {})
    click.echo(table.ship(cache, before, about))


if __name__ == "__main__":
    main()
