"""One command for two local models: what is wrong with the quantized one, and how do we know?"""

import json
from collections.abc import Callable
from pathlib import Path

import pandas as pd

from quantcliff import disk, models
from quantcliff.diagnosis import report
from quantcliff.diagnosis.examples import COLUMNS, examples
from quantcliff.diagnosis.made import made
from quantcliff.diagnosis.page import page
from quantcliff.stages import verdict
from quantcliff.stages.components import experts
from quantcliff.stages.verdict import NO_SIGNALS, Verdict, weights
from quantcliff.study import FULL, Study
from quantcliff.tracing import Runner

N_FACTS = 400


def diagnose(
    base: str | Path,
    quantized: str | Path,
    *,
    facts: str | Path = "atlas",
    text: str | Path | None = None,
    out: str | Path | None = None,
    n_facts: int = N_FACTS,
    device: str = "auto",
    dtype: str = "float32",
    seed: int = 0,
    quick: bool = False,
    say: Callable[[str], object] = lambda line: None,
) -> Verdict:
    """The verdict on a quantized model, and its evidence on disk.

    The files are looked at first, then all signals are measured. Writes `verdict.json`, `verdict.html` (one page that
    opens without a network), `weights.parquet`, `verdict.parquet` (signals, questions and next steps, as a whole and by
    layer) and `examples.parquet`. What was measured before is read back from the same folder.

    Args:
        base, quantized: folders of models on this machine; "atlas" is the embedded base.
        facts: what to ask, as `facts.load`; `text`: a text file, asks for next tokens instead.
        out: folder of the results; None for runs/NAME OF QUANTIZED.
        quick: stop after the files if something is wrong with them.
        say: is told, at the end, what it cost.

    Raises:
        InputError: the two are not a pair, base answers none of the facts, or an argument that cannot be used.
    """
    folder = Path(out) if out else Path("runs") / models.folder_of(quantized).resolve().name
    with disk.working_in(folder):
        return _diagnose(base, quantized, facts, text, folder, n_facts, device, dtype, seed, quick, say)


def _diagnose(
    base: str | Path, quantized: str | Path, facts: str | Path, text: str | Path | None, folder: Path, n_facts: int,
    device: str, dtype: str, seed: int, quick: bool, say: Callable[[str], object],
) -> Verdict:  # fmt: skip
    before = Runner.work
    study = Study(
        base, quantized=quantized, facts=facts, text=text, n_facts=n_facts, device=device, dtype=dtype, seed=seed,
        run=folder,
    )  # fmt: skip
    label = next(iter(study.variants))
    stored = weights.measure(study)
    file = weights.findings(study, label, stored)
    stop = not file.comparable or (quick and (file.faults or file.origin))
    found = verdict.decide(label, measured := NO_SIGNALS if stop else verdict.measure(study), file)
    about, how = _about(study, base, quantized), made(study, label, n_facts, quick)
    if not stop and (beyond := " ".join(filter(None, (_experts(study), _not_measured(study.runner(FULL)))))):
        about = f"{about} {beyond}"
        say(beyond)
    shown = pd.DataFrame(columns=COLUMNS) if stop else examples(study, label)
    blamed = pd.DataFrame() if stop or not study.variants[label].served else verdict.blame.of_variant(study, label)
    if words := verdict.blame.sentence(blamed):
        about = f"{about} {words}"
        say(words)
    content = {"about": about, "made": how, **report.as_json(found), "blame": report.records(blamed)}
    content |= {"examples": report.records(shown)}
    disk.write(folder / "verdict.json", json.dumps(content, indent=1) + "\n")
    disk.write(folder / "verdict.html", page(found, measured, stored, shown, about, how))
    if not stop:
        say(_cost(study, Runner.work - before))
    return found


def _cost(study: Study, work: float) -> str:
    """What has been computed, in plain forward passes over the prompts; what was read back from the folder is free."""
    passes = work / study.runner(FULL).plain_work(study.probes.lengths)
    return f"Computed as much as {passes:.1f} plain forward passes over the {len(study.probes):,} prompts."


def _experts(study: Study) -> str:
    """What is seen of a mixture's experts, in words; "" where there are none."""
    return experts.said(experts.measure(study)) if experts.stacked(study.runner(FULL)) else ""


def _not_measured(runner: Runner) -> str:
    """What the architecture keeps from being measured in all layers, in words; "" where nothing."""
    found = []
    many = runner.of_experts and runner.n_layers - len(runner.layers_of("post")) - len(experts.stacked(runner))
    if many:
        found.append(f"The experts of {many} of {runner.n_layers} layers cannot be read, so they are not compared.")
    if (with_attention := len(runner.layers_of("pattern"))) < runner.n_layers:
        found.append(f"Attention is measured in the {with_attention} of {runner.n_layers} layers that have it.")
    return " ".join(found)


def _about(study: Study, base: str | Path, quantized: str | Path) -> str:
    variant = next(iter(study.variants.values()))
    stated = models.quantization_of(quantized) or {}
    groups = "one group per row" if variant.group_size == -1 else f"groups of {variant.group_size}"
    if block := stated.get("block"):
        groups = f"blocks of {block[0]} by {block[1]}"
    bits = f"{variant.bits}-bit floats" if "kind" in stated else f"{variant.bits} bits"
    asked = f"next tokens of {study.parameters.text}" if study.parameters.text else f"facts of {study.parameters.facts}"
    served = f"; {variant.served.words}, as it is served" if variant.served else ""
    return (
        f"{quantized} ({variant.method}, {bits}, {groups}{served}) beside {base}, asked "
        f"{len(study.probes)} {asked}, seed {study.seed}."
    )
