"""The rule on made-up signals, the signals against direct computation, and the whole diagnosis on tiny models."""

import json
import re
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from quantcliff import cli, models
from quantcliff.charts import verdict as charts
from quantcliff.diagnosis import diagnose, plan, report
from quantcliff.errors import InputError
from quantcliff.filecheck import Findings
from quantcliff.quantizers import planted
from quantcliff.stages import components, logit_lens, representations, verdict
from quantcliff.stages.verdict import EXIT_CODES, NO_SIGNALS, QUESTION, SIGNAL, Pair, causes, decide, evidence, weights
from quantcliff.stages.verdict.rule import joined
from quantcliff.stages.verdict.signals import (
    COLLAPSED,
    DEGRADED,
    INTACT,
    KEPT,
    NOTHING,
    SIGNALS,
    read,
    reading,
    severity,
)
from quantcliff.study import FULL, Study
from quantcliff.tracing import Runner, score, sweep

NAMES = [signal.name for signal in SIGNALS]
LAYERED = [signal.name for signal in SIGNALS if signal.layered]


def row(name: str, way: float, layer: int | None = None, kept: float = 0.5) -> dict[str, object]:
    """A signal as it stands at a given severity; NaN does not apply."""
    if name == KEPT:
        return {"signal": name, "layer": None, "value": kept, "low": kept, "high": kept, "n": 100}
    signal = next(signal for signal in SIGNALS if signal.name == name)
    perfect = 0.5 if signal.perfect is None else signal.perfect
    threshold = 30.0 if signal.threshold is None else signal.threshold
    value = perfect + way * (threshold - perfect)
    if signal.logarithmic:
        value = float(np.exp(np.log(perfect) + way * (np.log(threshold) - np.log(perfect))))
    number = dict.fromkeys(("value", "low", "high"), value)
    return {"signal": name, "layer": layer, **number, "n": 100, "perfect": perfect, "threshold": threshold, "note": ""}


def table(
    ways: dict[str, float], kept: float = 0.5, layers: list[tuple[str, int, float]] = (),
    asked: Mapping[str, float] = MappingProxyType({}),
) -> pd.DataFrame:
    """A verdict's table: signals at these severities, and questions with these values."""
    rows = [row(KEPT, 0, kept=kept), *(row(name, way) for name, way in ways.items())]
    rows += [row(name, way, layer) for name, layer, way in layers]
    signals = read(pd.DataFrame(rows, columns=evidence.COLUMNS).astype({"layer": "Int64"}))
    numbers = [dict.fromkeys(("value", "low", "high"), value) | {"signal": name} for name, value in asked.items()]
    questions = pd.DataFrame(numbers, columns=causes.COLUMNS).assign(n=50, note="").astype({"layer": "Int64"})
    return joined({SIGNAL: signals, QUESTION: questions})


ways = st.dictionaries(st.sampled_from(NAMES), st.floats(0, 3) | st.just(float("nan")), min_size=1)


@given(ways)
def test_severity_is_0_when_perfect_1_at_the_threshold_and_linear_between(given_ways):
    found = table(given_ways).set_index("signal")["severity"].drop(KEPT)
    np.testing.assert_allclose(found.to_numpy(), [given_ways[name] for name in found.index], atol=1e-9)


@pytest.mark.parametrize("name", NAMES)
def test_better_than_perfect_is_no_damage_except_for_a_signal_with_two_sides(name):
    found = severity(pd.DataFrame([row(name, -0.6)]))[0]
    assert found == pytest.approx(0.6 if name == "attention entropy" else 0)
    assert read(pd.DataFrame([row(name, -50.0)])).loc[0, "reading"] != COLLAPSED


@given(st.sampled_from(NAMES), st.floats(0, 3))
def test_reading_follows_severity(name, way):
    found = table({name: way}).iloc[1]["reading"]
    assert found == (COLLAPSED if way >= 1.001 else found if way > 0.999 else DEGRADED if way > 0.101 else found)
    assert way > 0.0999 or found == INTACT


def test_a_reading_is_sure_where_both_ends_of_the_interval_share_it():
    made = table({"FFN cosine": 0.9, "CKA diagonal": 0.9, "subspace": 2.0})
    made.loc[1, ["low", "high"]] = 0.45, 0.6
    made.loc[2, ["low", "high"]] = 0.52, 0.6
    assert read(made).set_index("signal")["sure"].to_dict() == {
        KEPT: True, "FFN cosine": False, "CKA diagonal": True, "subspace": True}  # fmt: skip


def test_limits_themselves_are_intact_and_collapsed():
    assert reading(pd.Series([0.1, 1.0])).tolist() == [INTACT, COLLAPSED]
    assert decide("v", table({"FFN cosine": 2.0}, kept=0.99)).mode == "intact"


@pytest.mark.parametrize(("low", "high", "sure"), [(0.98, 0.995, False), (0.99, 1.0, True), (0.9, 0.98, True)])
def test_the_share_kept_is_sure_where_its_interval_lies_on_one_side(low, high, sure):
    made = table({"FFN cosine": 0.5}, kept=0.985)
    made.loc[0, ["low", "high"]] = low, high
    made = read(made)
    assert made.loc[0, "sure"] == sure
    found = decide("v", made)
    assert (found.kept_low, found.kept, found.kept_high) == (low, 0.985, high)


def test_signals_that_call_an_intact_model_collapsed_are_outvoted_however_many():
    a, b, c = LAYERED[:3]
    assert set(decide("v", table({a: 2.0, b: 2.0, c: 0.5}, kept=1.0)).former.dissent) == {a, b}


ORDER = {"intact": 0, "signal degradation": 1, "mixed": 2, "computation collapse": 3}
values = st.floats(0, 1) | st.just(float("nan"))


@given(ways, values, values, st.data())
def test_a_worse_answer_never_makes_a_milder_verdict(given_ways, forms, responds, data):
    before = decide("v", table(given_ways, asked={"forms": forms, "responds": responds}))
    worse = {name: value * data.draw(st.floats(0, 1)) for name, value in (("forms", forms), ("responds", responds))}
    assert ORDER[decide("v", table(given_ways, asked=worse)).mode] >= ORDER[before.mode]


@given(ways, ways, values, values, values)
def test_neither_signals_nor_the_explaining_questions_change_the_mode(one, other, forms, responds, rest):
    asked = {"forms": forms, "responds": responds}
    more = asked | dict.fromkeys(("alone", "inherited", "repair"), rest)
    assert decide("v", table(one, asked=asked)).mode == decide("v", table(other, asked=more)).mode


@pytest.mark.parametrize(("forms", "responds", "mode"), [
    (0.75, 0.5, "signal degradation"), (0.7499, 0.4999, "computation collapse"), (0.75, 0.4999, "mixed"),
    (0.7499, 0.5, "mixed"), (1.0, None, "signal degradation"), (0.5, None, "mixed"), (None, 1.0, "signal degradation"),
    (None, 0.0, "mixed"), (None, None, "mixed"),
])  # fmt: skip
def test_two_questions_make_the_mode(forms, responds, mode):
    asked = {name: float("nan") if value is None else value for name, value in
             (("forms", forms), ("responds", responds))}  # fmt: skip
    found = decide("v", table({LAYERED[0]: 3.0}, asked=asked))
    assert found.mode == mode
    words = {1: "yes", 0: "no"}
    assert found.questions["answer"].tolist() == [
        "not asked" if value is None else words[value >= held]
        for value, held in ((forms, 0.75), (responds, 0.5))
    ]  # fmt: skip


def test_an_answer_is_sure_where_both_ends_of_the_interval_share_it():
    made = table({}, asked={"forms": 0.8, "responds": 0.9, "alone": 0.9})
    here = made["signal"]
    made.loc[here == "forms", ["low", "high"]] = 0.7, 0.9
    made.loc[here == "responds", ["low", "high"]] = 0.6, 1.0
    made.loc[here == "alone", ["low", "high"]] = 0.4, 1.0
    found = decide("v", made)
    assert found.questions.set_index("question")["sure"].to_dict() == {"forms": False, "responds": True, "alone": False}
    assert not found.sure
    made.loc[here == "forms", "low"] = 0.75
    assert decide("v", made).sure
    made.loc[here == "forms", ["value", "low", "high"]] = 0.7, 0.6, 0.75
    assert not decide("v", made).sure


@given(ways)
def test_former_votes_and_outvoted_signals_add_up(given_ways):
    found = decide("v", table(given_ways)).former
    collapsed, applicable = found.votes
    share = collapsed / applicable if applicable else 0
    expected = "computation collapse" if share >= 2 / 3 else "signal degradation" if share <= 1 / 3 else "mixed"
    assert found.mode == expected
    assert applicable == sum(not np.isnan(way) for way in given_ways.values())
    assert len(found.dissent) == min(collapsed, applicable - collapsed)
    readings = decide("v", table(given_ways)).signals.set_index("signal")["reading"]
    assert len({readings[name] == COLLAPSED for name in found.dissent}) <= 1


@given(ways, st.floats(0, 1), values, values)
def test_a_model_that_keeps_its_answers_is_intact_whatever_else(given_ways, kept, forms, responds):
    found = decide("v", table(given_ways, kept, asked={"forms": forms, "responds": responds}))
    assert (found.mode == "intact") == (found.former.mode == "intact") == (kept >= 0.99)


@given(ways, st.floats(0, 1))
def test_a_fault_in_the_weights_stands_beside_the_mode(given_ways, kept):
    without, found = (decide("v", table(given_ways, kept), Findings(faults)) for faults in ((), ("layer 3",)))
    assert (found.mode, found.former, found.exit_code) == (without.mode, without.former, 13)
    assert found.headline == f"format bug, {found.mode}"
    assert report.summary(found).startswith(f"v: format bug, {found.mode}. ")
    quick = decide("v", NO_SIGNALS, Findings(("x",)))
    assert (quick.mode, quick.headline, quick.exit_code) == ("format bug", "format bug", 13)
    odd = decide("v", table(given_ways, kept), Findings(odd=("layer 3, mlp.up_proj: ...",)))
    assert (odd.headline, odd.exit_code) == (without.mode, without.exit_code)
    assert "Odd, harmless:\n- layer 3" in report.summary(odd)


def test_exit_codes_are_distinct_and_only_intact_is_0():
    assert len(set(EXIT_CODES.values())) == len(EXIT_CODES) == 7
    assert [name for name, code in EXIT_CODES.items() if code == 0] == ["intact"]
    assert not {1, 2} & set(EXIT_CODES.values())


def test_first_layers_need_half_of_the_signals_that_speak_about_layers():
    a, b, c = LAYERED[:3]
    layers = [(a, 0, 0.5), (b, 0, 0.0), (c, 0, 0.0), (a, 1, 1.5), (b, 1, 0.5), (c, 1, 0.0), (a, 2, 1.5), (b, 2, 1.5),
              (c, 2, 0.0), ("patching recovery", 0, 3.0), ("patching recovery", 1, 3.0)]  # fmt: skip
    found = decide("v", table(dict.fromkeys((a, b, c, "patching recovery"), 0.5), layers=layers))
    assert found.first == {DEGRADED: 1, COLLAPSED: 2}
    own = found.signals.set_index("signal")
    assert own.loc[a, ["first_degraded", "first_collapsed"]].tolist() == [0, 1]
    assert own.loc[b, ["first_degraded", "first_collapsed"]].tolist() == [1, 2]
    assert own.loc[[c, "patching recovery"], ["first_degraded", "first_collapsed"]].isna().all(axis=None)
    assert decide("v", table({a: 0.5})).first == {DEGRADED: None, COLLAPSED: None}
    nothing = float("nan")
    half = [(a, 0, 0.5), (b, 0, 0.0), (c, 0, nothing), (a, 1, 2.0), (b, 1, nothing), (c, 1, nothing)]
    assert decide("v", table(dict.fromkeys((a, b, c), 0.5), layers=half)).first == {DEGRADED: 0, COLLAPSED: 1}


@pytest.fixture(scope="module")
def gathered(pair: Pair) -> pd.DataFrame:
    return evidence.gather(pair)


def whole(gathered: pd.DataFrame, name: str) -> pd.Series:
    return gathered[(gathered["signal"] == name) & gathered["layer"].isna()].iloc[0]


def by_layer(gathered: pd.DataFrame, name: str) -> pd.Series:
    rows = gathered[(gathered["signal"] == name) & gathered["layer"].notna()]
    return rows.set_index("layer")["value"]


def test_every_signal_has_one_row_inside_its_interval(gathered: pd.DataFrame):
    rows = gathered[gathered["layer"].isna()]
    assert rows["signal"].tolist() == [KEPT, *NAMES]
    there = rows[rows["value"].notna()]
    assert len(there) >= 9
    assert ((there["low"] <= there["value"] + 1e-9) & (there["value"] <= there["high"] + 1e-9)).all()
    assert (rows["value"].notna() | (rows["note"] != "")).all()
    assert there["threshold"].drop(there.index[there["signal"] == KEPT]).notna().all()


def test_answers_are_counted_over_the_known(pair: Pair, gathered: pd.DataFrame):
    ranks = pair.study.scores(pair.label)["rank"]
    assert whole(gathered, KEPT)["value"] == pytest.approx((ranks == 1).mean())
    assert whole(gathered, "answer rank")["value"] == pytest.approx(ranks[ranks > 1].median())
    assert whole(gathered, "answer rank")["threshold"] == pytest.approx(320 / 128)
    assert set(pair.lost) <= set(np.flatnonzero(ranks > 1))
    assert len(pair.lost) == min(40, (ranks > 1).sum())


def test_the_lens_in_the_last_layer_is_the_models_own_answer(pair: Pair, gathered: pd.DataFrame):
    probes = pair.study.sample(40)
    control = logit_lens.shuffled_answers(probes, pair.study.seed)
    signal = {}
    for label in (FULL, pair.label):
        runner = Runner(pair.study.model(label))
        wrong = score(runner, probes.select(range(len(probes))))["probability"].to_numpy()
        other = np.array([
            score(runner, type(probes)([ids], [tokens], np.full((1, 2), -1), probes.table[:1], probes.dropped))
            ["probability"][0] for ids, tokens in zip(probes.input_ids, control, strict=True)
        ])  # fmt: skip
        signal[label] = (wrong - other).mean()
    assert by_layer(gathered, "lens signal")[2] == pytest.approx(signal[pair.label] / signal[FULL], rel=1e-3)


def test_patching_the_lower_half_equals_a_model_whose_lower_half_is_clean(pair: Pair, gathered: pd.DataFrame):
    """Giving every token full precision's stream after layer 0 is running layer 0 in full precision."""
    study, lost = pair.study, pair.study.known.select(pair.lost)
    own = study.model(pair.label)
    clean = models.splice(own, study.base, lambda name: ".layers.0." in name)
    patched = score(Runner(clean), lost)
    before, goal = (study.scores(label)["probability"].to_numpy()[pair.lost] for label in (pair.label, FULL))
    expected = (patched["probability"].to_numpy() - before).mean() / (goal - before).mean()
    assert whole(gathered, "patching recovery")["value"] == pytest.approx(expected, abs=1e-4)
    assert list(by_layer(gathered, "patching recovery").index) == [0, 1]


def test_the_control_of_patching_is_another_lost_fact_and_its_recovery_is_in_the_note(
    pair: Pair, gathered: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
):
    seen = {}

    def spy(*args):
        seen["probes"], seen["partner"], seen["found"] = args[2], args[4], sweep(*args)
        return seen["found"]

    monkeypatch.setattr(verdict.pair, "sweep", spy)
    evidence.recovery(replace(pair))
    found, lost = seen["found"], pair.study.known.select(pair.lost)
    assert seen["probes"].digest == lost.digest
    assert all(other != own for own, other in enumerate(seen["partner"]))
    mixed = found[(found["donor"] == "other") & (found["layer"] == 0)].set_index("prompt")["probability"]
    facts = pair.lost[mixed.index]
    before, goal = (pair.study.scores(label)["probability"].to_numpy()[facts] for label in (pair.label, FULL))
    share = (mixed - before).mean() / (goal - before).mean()
    assert whole(gathered, "patching recovery")["note"] == f"after layer 0; {share:.2f} with another fact's stream"


def test_the_lens_signal_is_read_where_full_precisions_is_largest(pair: Pair, gathered: pd.DataFrame):
    probes = pair.study.sample(40)
    found = logit_lens.read(pair.study.runner(FULL), probes, logit_lens.shuffled_answers(probes, pair.study.seed))
    strength = (found["probability"] - found["control"]).mean(0)
    assert list(by_layer(gathered, "lens signal").index) == np.flatnonzero(strength >= 0.1 * strength.max()).tolist()
    assert whole(gathered, "lens signal")["value"] == by_layer(gathered, "lens signal")[strength.argmax()]


def test_the_lens_leaves_out_layers_in_which_full_precision_shows_next_to_nothing(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
):
    control = np.full((40, 4), 0.1)
    answers = iter(control + np.array([[0.9, 0.1, 0.2, 0.4], [0.05, 0.2, 0.8, 0.4]])[:, None])
    monkeypatch.setattr(logit_lens, "read_recorded", lambda *_: {"probability": next(answers), "control": control})
    total, *profile = evidence.lens(pair)
    assert {row["layer"]: round(row["value"], 6) for row in profile} == {1: 0.5, 2: 0.25, 3: 1.0}
    assert (total["layer"], round(total["value"], 6), total["note"]) == (None, 0.25, "in layer 2")


def test_repair_of_the_last_layers_is_in_the_note(pair: Pair, gathered: pd.DataFrame):
    last = (".layers.1.", ".layers.2.")
    own, base = pair.study.model(pair.label), pair.study.base
    mirror = models.splice(own, base, lambda name: any(part in name for part in last))
    right = (score(Runner(mirror), pair.study.known.select(pair.lost))["rank"] == 1).mean()
    note = f"first 2 of 3 layers; the last would bring back {right:.0%}"
    assert whole(gathered, "repair gain")["note"] == note


def test_streams_are_compared_layer_by_layer_without_their_means(pair: Pair, gathered: pd.DataFrame):
    made = representations.compare(pair.study, pair.label, n_blocks=10)
    same = made[(made["layer_fp"] == made["layer_q"]) & made["centred"] & (made["measure"] == "cka_debiased")]
    np.testing.assert_allclose(by_layer(gathered, "CKA diagonal"), same.sort_values("layer_fp")["estimate"])


def test_ten_lost_answers_are_enough(pair: Pair):
    few = replace(pair)
    for n, words in ((10, ""), (9, "only 9 answers are lost")):
        vars(few)["lost"] = np.arange(n)
        assert few.few == words


def made_up(entropy: dict[str, list[float]]) -> pd.DataFrame:
    """A table of components of six layers: entropies by condition, 0, 1, ... 5 tenths for everything else."""
    rows = []
    for measure in ("entropy", "sign_flips", "jaccard", "ffn_cosine"):
        for condition in ("in_situ", "clean"):
            for layer in range(6):
                value = entropy[condition][layer] if measure == "entropy" else layer / 10
                number = dict.fromkeys(("estimate", "low", "high"), value)
                row = {"measure": measure, "condition": condition, "head": None, "layer": layer, "n": 9, **number}
                rows += [row | {"position": "last"}, row | {"position": "subject_last", "estimate": 0.9}]
    return pd.DataFrame(rows)


@pytest.mark.parametrize(("third", "fourth"), [(0.2, 0.6), (0.7, 0.85), (0.8, 0.9)])
def test_entropy_is_that_of_the_middle_third_against_full_precisions_own(
    pair: Pair, monkeypatch: pytest.MonkeyPatch, third: float, fourth: float
):
    own = made_up({"in_situ": [0, 0, 0.3, 0.5, 0, 0], "clean": [0, 0, 0.2, 0.3, 0, 0]})
    full = [0.0, 0.0, third, fourth, 0.0, 0.0]
    monkeypatch.setattr(components, "of_variant", lambda *_: own)
    rows = evidence.parts(replace(pair, full_components=lambda: made_up({"in_situ": full, "clean": full})))
    found = pd.DataFrame(rows)
    entropy = whole(found, "attention entropy")
    below = {layer: value for layer, value in ((2, third), (3, fourth)) if value < 0.8}
    layered = [row for row in rows if row["signal"] == "attention entropy" and row["layer"] is not None]
    assert {row["layer"]: row["perfect"] for row in layered} == below
    if (third + fourth) / 2 < 0.8:
        assert (entropy["value"], entropy["perfect"]) == pytest.approx((0.4, (third + fourth) / 2))
        assert entropy["note"] == "0.25 on clean input"
    else:
        assert np.isnan(entropy["value"])
        assert entropy["note"] == "full precision itself has 0.85"
    assert whole(found, "FFN cosine")["value"] == pytest.approx(0.25)


def test_a_model_without_a_gate_of_its_own_has_no_sign_flips(pair: Pair, monkeypatch: pytest.MonkeyPatch):
    """As a mixture of experts, whose gates are not compared: the signal does not apply, and says so."""
    own = made_up({"in_situ": [0.3] * 6, "clean": [0.2] * 6})
    own.loc[own["measure"] == "sign_flips", "estimate"] = np.nan
    monkeypatch.setattr(components, "of_variant", lambda *_: own)
    found = pd.DataFrame(evidence.parts(replace(pair, full_components=lambda: own)))
    flips = found[found["signal"] == "sign flips"]
    assert flips["note"].tolist() == ["no layer has it"] and flips["value"].isna().all()
    assert whole(found, "FFN cosine")["note"] == "0.25 on clean input"


def test_means_over_layers(gathered: pd.DataFrame):
    for name in ("sign flips", "Jaccard", "FFN cosine", "CKA diagonal", "subspace", "error alignment"):
        assert whole(gathered, name)["value"] == pytest.approx(by_layer(gathered, name).mean())
        assert len(by_layer(gathered, name)) == 3
    assert whole(gathered, "error alignment")["perfect"] == pytest.approx(2 / 32)


def test_a_model_beside_itself_is_perfect(base: Path, text: Path, quantized, tmp_path: Path):
    """Eight bits of a tiny model change next to nothing: signals about lost answers do not apply, others are intact."""
    study = Study(base, quantized=quantized(8), text=text, n_facts=60, run=tmp_path)
    found = next(iter(verdict.verdicts(verdict.measure(study, 30), weights.measure(study)).values()))
    readings = found.signals.set_index("signal")["reading"]
    for name in ("answer rank", "patching recovery", "repair gain"):
        assert readings[name] == NOTHING
    for name in ("lens signal", "sign flips", "FFN cosine", "CKA diagonal"):
        assert readings[name] == INTACT
    assert found.former.votes[0] == 0
    assert found.ladder.empty


@pytest.fixture(scope="module")
def diagnosed(base: Path, text: Path, quantized, tmp_path_factory: pytest.TempPathFactory):
    """The verdict at 2 bits, and the folder it was written to."""
    out, said = tmp_path_factory.mktemp("diagnosis"), []
    found = diagnose(base, quantized(2), text=text, n_facts=60, out=out, say=said.append)
    (passes,) = re.findall(r"as much as (\d+\.\d) plain forward passes over the 60 prompts", " ".join(said))
    told = plan.diagnosis(plan.Size.of(base), plan.Prompts.of(base, "", str(text), 60), 1e-6, "float32")
    assert float(passes) == pytest.approx(told["passes"], rel=0.35)
    return found, out


def test_a_damaged_model_gets_a_ladder_of_next_steps(diagnosed):
    found, _ = diagnosed
    assert found.ladder["step"].iloc[0] == "as it is" and len(found.ladder) > 2


def test_a_diagnosis_is_written_down_whole(diagnosed):
    found, out = diagnosed
    assert found.mode in ("signal degradation", "mixed", "computation collapse")
    assert found.exit_code in (10, 11, 12)
    stored = json.loads((out / "verdict.json").read_text(), parse_constant=pytest.fail)
    assert (stored["mode"], stored["exit_code"]) == (found.mode, found.exit_code)
    assert [entry["signal"] for entry in stored["signals"]] == NAMES
    assert {entry["chosen"] for entry in stored["signals"]} == {True, False}
    assert len(pd.read_parquet(out / "weights.parquet")) == 21
    kept = pd.read_parquet(out / "verdict.parquet").groupby("kind")["signal"].agg(set)
    assert kept["signal"] == {KEPT, *NAMES}
    assert kept["question"] == {question.name for question in verdict.QUESTIONS}
    assert "as it is" in kept["step"]


def test_the_page_needs_nothing_beside_it(diagnosed):
    found, out = diagnosed
    page = (out / "verdict.html").read_text()
    assert not re.findall(r"""(?:src|href)\s*=\s*["']""", page.split("<script>")[0])
    assert found.mode in page
    assert all(f"<td>{name}</td>" in page for name in NAMES)
    specs = re.findall(r'<script type="application/json" id="spec\d">(.*?)</script>', page, re.DOTALL)
    assert len(specs) == 3
    for spec in map(json.loads, specs):
        assert len(spec["description"]) > 40
        assert spec["width"] == "container"


CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@pytest.mark.skipif(not CHROMIUM, reason="no Chromium on this machine")
def test_the_page_draws_in_a_browser_without_network(diagnosed, tmp_path: Path):
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--virtual-time-budget=5000",
             "--host-resolver-rules=MAP * ~NOTFOUND", f"--user-data-dir={tmp_path}"]  # fmt: skip
    command = [CHROMIUM, *flags, "--dump-dom", (diagnosed[1] / "verdict.html").resolve().as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=200)
    assert "CONSOLE" not in done.stderr
    assert len(re.findall(r'<svg[^>]*class="marks"', done.stdout)) == 3
    assert len(re.findall(r'aria-label="(?:One point|One column)', done.stdout)) == 3


def test_the_words_hold_the_numbers(diagnosed):
    found, _ = diagnosed
    said = report.text(found)
    assert f"{found.kept:.1%} of the {found.n_known} answers" in said
    assert all(name in said for name in NAMES)
    assert all(name in said for name in found.questions["asks"])


def test_planted_faults_end_a_quick_diagnosis_at_once(
    base: Path, text: Path, quantized, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(verdict, "measure", lambda *_: pytest.fail("signals were measured"))
    bad = planted.scaled(quantized(4), tmp_path / "bad", 1)
    arguments = ["diagnose", base, bad, "--text", text, "--n-facts", 40, "--out", tmp_path / "out", "--quick"]
    result = CliRunner().invoke(cli.app, list(map(str, arguments)))
    assert result.exit_code == 13, result.output
    assert "format bug" in result.output
    assert "layer 1, self_attn.q_proj: 32 of 32 groups have the wrong scale" in result.output
    stored = json.loads((tmp_path / "out" / "verdict.json").read_text(), parse_constant=pytest.fail)
    assert stored["mode"] == "format bug"
    assert stored["accuracy_kept"]["estimate"] is None
    assert all(line.startswith("layer 1, ") for line in stored["faults"])
    assert "wrong scale" in (tmp_path / "out" / "verdict.html").read_text()


def test_planted_faults_are_a_finding_beside_the_mode(base: Path, text: Path, quantized, tmp_path: Path):
    found = diagnose(base, planted.scaled(quantized(4), tmp_path / "bad", 1), text=text, n_facts=40, out=tmp_path / "o")
    assert found.exit_code == 13
    assert found.n_known and found.mode != "format bug"
    assert all(line.startswith("layer 1, ") for line in found.file.faults)
    assert found.headline in (tmp_path / "o" / "verdict.html").read_text()


def test_the_same_scheme_without_the_fault_is_no_bug(base: Path, quantized):
    for bits in (8, 4, 3, 2):
        stated = models.quantization_of(quantized(bits))
        found = weights.inspect(models.load(base), models.load(quantized(bits)), stated)
        assert list(weights.faulty(found)) == []


def test_the_command_exits_with_the_verdict(diagnosed, base: Path, text: Path, quantized):
    found, out = diagnosed
    arguments = ["diagnose", base, quantized(2), "--text", text, "--n-facts", 60, "--out", out]
    result = CliRunner().invoke(cli.app, list(map(str, arguments)))
    assert result.exit_code == found.exit_code
    assert report.summary(found) in result.output


def test_models_that_cannot_be_diagnosed(base: Path, text: Path, tiny_gemma: Path, quantized, tmp_path: Path):
    with pytest.raises(InputError, match="states no quantization"):
        diagnose(base, base, text=text, out=tmp_path)
    with pytest.raises(InputError, match="not a pair"):
        diagnose(tiny_gemma, quantized(2), text=text, out=tmp_path)
    with pytest.raises(InputError, match="quantized already"):
        diagnose(quantized(2), quantized(2), text=text, out=tmp_path)
    with pytest.raises(InputError, match="no text file"):
        diagnose(base, quantized(2), text="nothing.txt", out=tmp_path)
    with pytest.raises(InputError, match="is not a folder"):
        diagnose(base, "nothing", text=text, out=tmp_path)
    half = tmp_path / "half"
    shutil.copytree(quantized(2), half)
    (half / "model.safetensors").write_bytes((half / "model.safetensors").read_bytes()[:5000])
    with pytest.raises(InputError):
        diagnose(base, half, text=text, out=tmp_path)


def test_charts_say_in_words_what_they_show():
    layers = [(LAYERED[0], 0, 0.0), (LAYERED[0], 1, 0.5), (LAYERED[0], 2, 1.5)]
    made = table({LAYERED[0]: 1.5, NAMES[0]: 0.5, NAMES[2]: float("nan")}, layers=layers)
    made = made.assign(variant="v", method="rtn", bits=2, group_size=32)
    everything = charts.readings(made).to_dict()
    assert "rtn 2: 1 degraded, 1 collapsed, 1 not applicable" in everything["description"]
    profile = charts.by_layer(made, "v").to_dict()
    assert f"{LAYERED[0]}: intact in layer 0, degraded in layer 1, collapsed in layer 2" in profile["description"]
    points = charts.severities(decide("v", made).signals).to_dict()
    assert f"{LAYERED[0]} 1.50" in points["description"]
    (drawn,) = [part for part in points["datasets"].values() if len(part) > 1]
    assert all(row["a"] <= row["shown"] <= row["b"] for row in drawn), "a bar that leaves out its own point"
    columns = {"layer": [0, 1], "module": ["a", "b"], "excess": [1.0, 7.0], "match": 1.0, "stretch": 1.0, "shift": 0.0,
               "fault": ["", "scale"], "faulty": [0, 3], "groups": 8}  # fmt: skip
    assert "layer 1 b: scale" in charts.modules(pd.DataFrame(columns)).to_dict()["description"]
