"""What is run: on the embedded model when the chapter is built, on SmolLM2 beforehand; and the tables that ship."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from quantcliff import models
from quantcliff.stages.activations import lookup, massive, tasks
from quantcliff.stages.activations.measures import asked_again, measure
from quantcliff.stages.activations.ways import Way, cache, inputs, repaired, static, together, weights_alone
from quantcliff.study import FULL, Study, preset_of

FOLDER = Path(__file__).parent / "tables"

TASKS = ("tasks:induction", "tasks:opposites", "tasks:plurals", "tasks:capitals", "tasks:comparison")

DOCUMENTS = 32
"""Of calibration text, on which the scales of static inputs are measured."""

LONGEST = 128
"""Tokens at which such a document is cut."""

WIDTHS = "8,4,3,2"

LOOKUP = "KV2"
"""The way that is searched for a lookup failure."""

AGAIN = ("W16A4", "W4A4", "K2", "KV2")
"""Ways of SmolLM2 whose deciding questions were asked again, of more answers."""

CIRCUIT = ("W16A8", "W16A4", "W16A4 rotated", "K2", "V2")
"""Ways in which induction heads and copying are looked at, beside weights alone."""

SIZES = {"n_facts": 150, "n_prompts": 24, "n_again": 100, "n_questions": 40}
"""Of SmolLM2, which takes long: facts asked, prompts looked into, questions of a task."""


def study_of(model: str, run: Path | str, n_facts: int, device: str = "auto", facts: str | None = None) -> Study:
    """A model's study with plainly rounded weights; `facts` in place of its own."""
    own = preset_of(model)
    return Study(
        model, method="rtn", bits=WIDTHS, group_size=own.group_size, facts=facts or own.facts, n_facts=n_facts,
        calibration=own.calibration, run=run, device=device,
    )  # fmt: skip


def scales(study: Study) -> dict[str, dict[str, float]]:
    """`massive.largest` on the study's calibration text."""
    texts = study.calibration_text[:DOCUMENTS]
    return massive.largest(study.base, [study.base.tokenizer(text).input_ids[:LONGEST] for text in texts])


def all_ways(study: Study) -> list[Way]:
    """Every way that is tried on a model, the embedded one by default."""
    head = study.runner(FULL).bridge.cfg.d_head
    by_bits = [
        weights_alone(),
        inputs(),
        static(scales(study)),
        together(),
        cache((4, 3, 2), head),
        cache((8,), head)[:1],
        repaired(),
    ]
    return [way for group in by_bits for way in group]


def some_ways(study: Study) -> list[Way]:
    """Those tried on SmolLM2, the telling ones first."""
    by_width = {width: cache((width,)) for width in (2, 3, 4)}
    return [
        *inputs((8, 4)), *static(scales(study), (8,)), *by_width[2], *repaired(), *_alone(by_width[3]), *together(),
        *_alone(by_width[4]), *weights_alone(),
    ]  # fmt: skip


def few_ways(study: Study) -> list[Way]:
    """Those tried on any other model while the page is built: enough for every rule but those about width."""
    head = study.runner(FULL).bridge.cfg.d_head
    return [
        *inputs((8, 4)), *static(scales(study), (8,)), *cache((2,), head), *together(((4, 8), (4, 4))),
        *weights_alone((4, 2)), *(way for way in repaired() if way.label in ("W16A4 -first", "W16A4 rotated")),
    ]  # fmt: skip


def _alone(ways: list[Way]) -> list[Way]:
    """Of the ways of a width, keys and values by token, each alone and both."""
    return [way for way in ways if way.how == "by token"]


def make(run: Path, device: str = "auto") -> dict[str, pd.DataFrame]:
    """SmolLM2's tables: `ways`, `massive`, `again`, `tasks`, `heads`, `lookup`, `circuit`; a stopped run goes on from
    its way.

    Raises:
        InputError: SmolLM2 is not on this machine.
    """
    models.folder_of("smollm2")
    study = study_of("smollm2", run, SIZES["n_facts"], device)
    labels, ways = weights_of(study, 8), some_ways(study)

    def asked(source: str) -> Study:
        return study_of("smollm2", run, SIZES["n_questions"], device, source)

    return {
        "ways": measure(study, ways, SIZES["n_prompts"]),
        "massive": massive.measure(study.runner(FULL), study.sample(SIZES["n_prompts"]), study.seed),
        "again": asked_again(study, [way for way in ways if way.label in AGAIN], SIZES["n_again"]),
        "tasks": tasks.falls(asked, [study.parameters.facts, *TASKS, "tasks:two-hop"], labels),
        "heads": tasks.heads(study, labels),
        "lookup": lookup.measure(study, LOOKUP, SIZES["n_prompts"]),
        "circuit": tasks.circuit(asked, study, [way for way in ways if way.label in CIRCUIT]),
    }


def weights_of(study: Study, below: int = 16) -> Sequence[str]:
    """Labels of the study's variants of plainly rounded weights with fewer bits than `below`."""
    return [label for label, variant in study.variants.items() if variant.served is None and variant.bits < below]
