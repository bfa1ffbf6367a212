"""Every repair does what it says, costs what it says, and stands beside its control."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from own_answers import OwnAnswers
from tiny import TEXT

from quantcliff import stats
from quantcliff.charts import repair as charts
from quantcliff.errors import InputError
from quantcliff.models import linears
from quantcliff.quantizers import Scheme, average_bits, quantize
from quantcliff.stages.repair import (
    Bench,
    Trial,
    by_kurtosis,
    difference,
    halves,
    measure,
    share,
    summarise,
    within_budget,
)
from quantcliff.stages.repair.amplify import candidates, confidence
from quantcliff.stages.repair.eora import compensated, corrections, second_moments
from quantcliff.study import Study
from quantcliff.tracing import Runner, score


class OwnText(OwnAnswers):
    """The same, calibrated on a few sentences."""

    def calibration_for(self, method: str) -> list[str]:
        return TEXT


def one(table: pd.DataFrame, **where: object) -> pd.Series:
    rows = table
    for name, value in where.items():
        rows = rows[rows[name] == value]
    assert len(rows) == 1, (where, len(rows))
    return rows.iloc[0]


@pytest.fixture(scope="module")
def study(tiny_llama: Path, tmp_path_factory: pytest.TempPathFactory) -> Study:
    return OwnText(tiny_llama, method="rtn", bits="4,2", group_size=16, run=tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def table(study: Study) -> pd.DataFrame:
    return measure(study, layers=(1, 2), eora_ranks=(2, 16), alphas=(0.0, 1.0))


def accuracy(table: pd.DataFrame, **where: object) -> float:
    where = {"measure": "accuracy", "half": "all", "part": "known"} | where
    return float(one(table, **where)["estimate"])


def test_every_cell_is_there_once(table: pd.DataFrame, study: Study) -> None:
    keys = ["variant", "repair", "setting", "part", "half", "measure"]
    assert not table.duplicated(keys).any()
    assert set(table["variant"]) == {"rtn-4bit-g16", "rtn-2bit-g16"}
    assert set(table["repair"]) == {
        "none",
        "protection",
        "amplification",
        "amplification curve",
        "compensation",
        "domino",
    }
    assert (study.run / "repair.parquet").exists()
    shares = table[table["measure"] == "accuracy"].dropna(subset="estimate")
    assert shares["low"].le(shares["estimate"] + 1e-9).all()
    assert shares["high"].ge(shares["estimate"] - 1e-9).all()


def test_the_4_bit_model_has_its_failures_by_definition(table: pd.DataFrame) -> None:
    assert accuracy(table, bits=4, repair="none", part="failure") == 0
    assert accuracy(table, bits=4, repair="none", part="robust") == 1


@pytest.mark.parametrize("bits", [4, 2])
def test_domino_runs_from_full_precision_to_the_quantized_model(table: pd.DataFrame, bits: int) -> None:
    here = table[(table["bits"] == bits) & (table["repair"] == "domino")]
    whole = accuracy(table, bits=bits, repair="none")
    for side in ("first", "last"):
        assert accuracy(here, setting=f"{side} 0") == 1
        assert set(here.loc[here["setting"].str.startswith(side), "control"]) == {side == "last"}
        assert accuracy(here, setting=f"{side} 3") == whole
        assert one(here, setting=f"{side} 0", measure="accuracy", half="all", part="known")["average_bits"] == 16
        cost = one(here, setting=f"{side} 3", measure="accuracy", half="all", part="known")["average_bits"]
        assert cost == pytest.approx(bits + (16 + bits) / 16)


def test_domino_quantizes_the_layers_it_names(table: pd.DataFrame, study: Study, tmp_path: Path) -> None:
    """Round-to-nearest of the first layer alone, quantized and run on its own, gives the same answers."""
    for setting, layers in (("first 1", (0,)), ("last 1", (2,))):
        folder = quantize(study.parameters.model, Scheme("rtn", 2, 16, layers=layers), (), tmp_path)
        assert accuracy(table, bits=2, repair="domino", setting=setting) == pytest.approx(share_right(study, folder))


def share_right(study: Study, folder: Path) -> float:
    from quantcliff import models

    hf = models.load(folder).hf
    rows = zip(study.probes.input_ids, study.probes.answers, strict=True)
    return float(np.mean([int(hf(torch.tensor([ids])).logits[0, -1].argmax()) in right for ids, right in rows]))


@pytest.mark.parametrize("setting", ["first 1 layer", "first 2 layers", "last 1 layer", "last 2 layers"])
def test_protection_keeps_the_layers_it_names_in_8_bits(
    table: pd.DataFrame, study: Study, tmp_path: Path, setting: str
) -> None:
    n = int(setting.split()[1])
    layers = range(n) if setting.startswith("first") else range(3 - n, 3)
    scheme = Scheme("rtn", 2, 16, bits_by_layer=tuple((layer, 8) for layer in layers))
    row = one(table, bits=2, repair="protection", setting=setting, measure="accuracy", half="all", part="known")
    assert row["estimate"] == pytest.approx(share_right(study, quantize(study.parameters.model, scheme, (), tmp_path)))
    assert row["average_bits"] == pytest.approx(average_bits(study.base.hf.config, scheme))
    assert row["average_bits"] == pytest.approx((n * (8 + 24 / 16) + (3 - n) * (2 + 18 / 16)) / 3)
    assert row["control"] == setting.startswith("last")


def test_compensation_brings_the_model_nearer(table: pd.DataFrame) -> None:
    none = accuracy(table, bits=2, repair="none")
    ours = accuracy(table, bits=2, repair="compensation", setting="EoRA, rank 16")
    assert ours > none
    bits = one(
        table, bits=2, repair="compensation", setting="EoRA, rank 2", measure="accuracy", half="all", part="known"
    )
    factors = 2 * 16 * (2 * 64 + 2 * 48 + 3 * 96)
    weights = 32 * (2 * 32 + 2 * 16 + 3 * 64)
    assert bits["average_bits"] == pytest.approx(2 + 18 / 16 + factors / weights)


def test_amplification_is_tuned_on_one_half_and_reported_on_the_other(table: pd.DataFrame, study: Study) -> None:
    rows = table[table["repair"] == "amplification"]
    assert set(rows["half"]) == {"test"}
    assert set(rows["tuned"]) == {"failure", "known"}
    assert set(rows["amount"]) <= {0.0, 1.0}
    curve = table[table["repair"] == "amplification curve"]
    assert set(curve["half"]) == {"validation"}
    zero = curve[(curve["amount"] == 0) & (curve["bits"] == 2) & (curve["part"] == "known")]
    zero = zero[(zero["measure"] == "accuracy") & zero["setting"].str.startswith("alone, peak")]
    assert len(zero) == 2
    test = accuracy(table, bits=2, repair="none", half="test")
    n_test = one(table, bits=2, repair="none", measure="accuracy", half="test", part="known")["n"]
    n = len(study.probes)
    whole = accuracy(table, bits=2, repair="none")
    for row in zero.itertuples():
        assert row.estimate * row.n + test * n_test == pytest.approx(whole * n)


def test_tuning_finds_the_best_of_the_curve(table: pd.DataFrame) -> None:
    accuracies = table[(table["measure"] == "accuracy") & ~table["control"]]
    curve = accuracies[accuracies["repair"] == "amplification curve"]
    chosen = accuracies[(accuracies["repair"] == "amplification") & (accuracies["part"] == "known")]
    assert len(chosen) == 2 * 2 * 2 * 2  # bits, base, rule, tuned on
    for row in chosen[chosen["setting"].str.contains("peak")].itertuples():
        base = row.setting.split(",")[0]
        here = curve[(curve["bits"] == row.bits) & (curve["part"] == row.tuned) & curve["setting"].str.startswith(base)]
        top = here[here["estimate"] == here["estimate"].max()]
        assert row.amount == top["amount"].min()
        assert 0 <= row.layer <= 1


def test_amplification_after_protection_starts_from_the_model_with_most_layers_protected(table: pd.DataFrame) -> None:
    accuracies = table[(table["measure"] == "accuracy") & (table["bits"] == 2) & (table["part"] == "known")]
    test, whole = (
        one(accuracies, repair="protection", setting="first 2 layers", half=half) for half in ("test", "all")
    )
    curve = accuracies[accuracies["repair"] == "amplification curve"]
    start = one(curve, setting="after protection, peak, alpha 0")
    assert start["estimate"] * start["n"] == pytest.approx(
        whole["estimate"] * whole["n"] - test["estimate"] * test["n"]
    )
    after = table[(table["bits"] == 2) & table["setting"].str.startswith("after protection")]
    np.testing.assert_allclose(after["average_bits"], whole["average_bits"])


def test_amplification_adds_what_the_chosen_layer_says_and_its_control_what_it_says_elsewhere(study: Study) -> None:
    bench = Bench(study, "rtn-2bit-g16", 40)
    n, alphas = len(bench.probes), [1.0, 4.0]
    trials = {trial.setting: trial for trial in bench.amplification("x", bench.streams, 2.0, alphas, ["peak", "tuned"])}
    logits = bench.own.unembed(bench.streams.reshape(-1, 32)).reshape(n, 3, -1)
    peak = candidates(confidence(bench.own, bench.streams), "peak", bench.validation)[0]

    def right(donor: np.ndarray, layer: np.ndarray, alpha: float) -> np.ndarray:
        first = (logits[:, -1] + alpha * logits[donor, layer[donor]]).argmax(-1)
        return np.array([int(token) in answers for token, answers in zip(first, bench.probes.answers, strict=True)])

    for setting, donor in (("x, peak", np.arange(n)), ("x, peak, other lens", bench.donors)):
        found = trials[f"{setting}, known"]
        assert (found.right == right(donor, peak, found.amount)).all()
        assert found.layer == pytest.approx(peak.mean())
        tuned = trials[f"{setting.replace('peak', 'tuned')}, known"]
        every = {(layer, alpha): right(donor, np.full(n, layer), alpha) for layer in range(2) for alpha in alphas}
        assert (tuned.right == every[tuned.layer, tuned.amount]).all()
        assert tuned.right[bench.validation].sum() == max(flags[bench.validation].sum() for flags in every.values())
    assert (bench.donors != np.arange(n)).all()


def test_the_layer_for_all_is_chosen_on_the_validation_half(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    bench, seen = Bench(study, "rtn-2bit-g16", 12), []
    spy = lambda *args: seen.append(args[2]) or candidates(*args)  # noqa: E731
    monkeypatch.setattr("quantcliff.stages.repair.bench.candidates", spy)
    list(bench.amplification("x", bench.streams, 2.0, [0.0], ["common"]))
    assert (seen[0] == bench.validation).all()


def test_where_no_other_fact_fits_the_next_prompt_is_the_control(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("quantcliff.stages.repair.bench.other_facts", lambda relation, *_: np.full(len(relation), -1))
    assert Bench(study, "rtn-2bit-g16", 5).donors.tolist() == [1, 2, 3, 4, 0]


def test_modules_of_heaviest_tails_are_kept_in_8_bits_and_random_ones_beside_them(
    table: pd.DataFrame, study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shapes = linears(study.base.hf.config)
    sizes = {name: rows * columns for name, (rows, columns) in shapes.items()}
    weights = {name: study.base.hf.get_submodule(name).weight for name in shapes}
    draw = np.random.default_rng(study.seed)
    orders = [by_kurtosis(weights), *([str(name) for name in draw.permutation(list(shapes))] for _ in range(2))]
    found = []
    for order in orders:
        kept = tuple((name, 8) for name in within_budget(order, sizes, 1 / 3))
        scheme = Scheme("rtn", 2, 16, bits_by_module=kept)
        right = share_right(study, quantize(study.parameters.model, scheme, (), tmp_path))
        found.append((right, average_bits(study.base.hf.config, scheme)))
    here = {"bits": 2, "repair": "protection", "measure": "accuracy", "half": "all", "part": "known"}
    heavy, random = (one(table, setting=f"{name}, 33%", **here) for name in ("heaviest tails", "random modules"))
    assert (heavy["estimate"], heavy["average_bits"]) == pytest.approx(found[0])
    assert (random["estimate"], random["average_bits"]) == pytest.approx(np.mean(found[1:], axis=0))
    assert (heavy["control"], random["control"]) == (False, True)
    bench, chosen = Bench(study, "rtn-2bit-g16", 5), []
    monkeypatch.setattr(bench, "_modules", lambda names: chosen.append(names) or np.zeros(5))
    list(bench.heavy_modules(1 / 3))
    assert sorted(chosen) == sorted(within_budget(order, sizes, 1 / 3) for order in orders)


def test_a_protected_module_has_its_8_bit_weights_and_the_others_their_own(
    study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench, ran = Bench(study, "rtn-2bit-g16", 5), []
    monkeypatch.setattr(bench, "_run", lambda model: ran.append(model) or np.zeros(5))
    names = list(linears(study.base.hf.config))
    bench._modules(names[3:4])
    found, eight, own = (model.hf.state_dict() for model in (*ran, bench.eight_model, bench.model))
    for name in names:
        assert torch.equal(found[f"{name}.weight"], (eight if name == names[3] else own)[f"{name}.weight"])


def test_eora_is_tried_against_the_plain_svd(study: Study) -> None:
    bench = Bench(study, "rtn-2bit-g16", 40)
    moments = second_moments(study.base.hf, [torch.tensor([ids]) for ids in study.probes.input_ids])
    ours, plain = bench.compensation([4], lambda: moments)
    for trial, seen in ((ours, moments), (plain, None)):
        runner = Runner(compensated(bench.model, corrections(study.base, bench.model, 4, seen), 4))
        expected = (score(runner, bench.probes)["rank"] == 1).to_numpy()
        assert (trial.right == expected).all()
    assert (ours.setting, ours.against, plain.control) == ("EoRA, rank 4", plain.setting, True)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"layers": (4,)}, "4 layers cannot be protected; the model has 3"),
        ({"layers": (0,)}, "0 layers cannot be protected"),
        ({"eora_ranks": (17,)}, "rank 17 does not fit the weights of this model; choose 1 to 16"),
        ({"eora_ranks": (0,)}, "rank 0"),
        ({"rules": ("peak", "loudest")}, "unknown rule"),
        ({"rules": (2,)}, "layer 2 cannot be amplified"),
    ],
)
def test_what_does_not_fit_is_said_at_once(study: Study, options: dict, words: str) -> None:
    with pytest.raises(InputError, match=words):
        measure(study, **options)


# one's own quantized model, and AWQ


@pytest.mark.parametrize("method", ["gptq", "awq"])
def test_a_checkpoint_of_ones_own(tiny_llama: Path, tmp_path: Path, method: str) -> None:
    own = quantize(tiny_llama, Scheme(method, 3, 16), TEXT, tmp_path)
    study = OwnText(tiny_llama, quantized=own, run=tmp_path / "run")
    table = measure(study, layers=(1,), eora_ranks=(16,), alphas=(0.0, 1.0))
    assert not table["setting"].str.contains("again").any()
    assert accuracy(table, repair="none", part="failure") == 0
    none = accuracy(table, repair="none")
    assert accuracy(table, repair="compensation", setting="EoRA, rank 16") > none
    assert accuracy(table, repair="domino", setting="first 0") == 1
    row = one(table, repair="none", measure="accuracy", half="all", part="known")
    assert row["average_bits"] == pytest.approx(3 + 19 / 16)


def test_gptq_is_also_quantized_again(tiny_llama: Path, tmp_path: Path) -> None:
    study = OwnText(tiny_llama, method="gptq", bits=2, group_size=16, run=tmp_path)
    table = measure(study, layers=(1, 2), eora_ranks=(2,), alphas=(0.0,))
    row = one(table, setting="first 2 layers, again", measure="accuracy", half="all", part="known")
    scheme = Scheme("gptq", 2, 16, bits_by_layer=((0, 8), (1, 8)))
    assert row["estimate"] == pytest.approx(
        share_right(study, quantize(tiny_llama, scheme, TEXT, tmp_path / "quantized"))
    )


# the parts


def test_heavy_tails_come_first() -> None:
    draw = np.random.default_rng(0)
    weights = {
        "flat": draw.uniform(-1, 1, (50, 40)),
        "normal": draw.normal(0, 9, (50, 40)),
        "heavy": draw.laplace(0, 0.1, (50, 40)),
    }
    assert by_kurtosis({name: torch.tensor(value) for name, value in weights.items()}) == ["heavy", "normal", "flat"]


@settings(max_examples=50)
@given(st.lists(st.integers(1, 50), min_size=1, max_size=12), st.floats(0, 1))
def test_a_budget_is_kept_and_used(sizes: list[int], share: float) -> None:
    named = {str(number): size for number, size in enumerate(sizes)}
    chosen = within_budget(list(named), named, share)
    spent = sum(named[name] for name in chosen)
    assert spent <= share * sum(sizes) + 1e-9
    for name in set(named) - set(chosen):
        before = sum(named[other] for other in chosen if int(other) < int(name))
        assert before + named[name] > share * sum(sizes) - 1e-9


@settings(max_examples=50)
@given(st.lists(st.booleans(), max_size=40), st.integers(0, 99))
def test_halves_share_out_each_group(failure: list[bool], seed: int) -> None:
    flags = np.array(failure, dtype=bool)
    validation = halves(flags, seed)
    assert validation[flags].sum() == flags.sum() // 2
    assert validation[~flags].sum() == (~flags).sum() // 2
    assert np.array_equal(validation, halves(flags, seed))


def test_summary_by_hand() -> None:
    none, fixed = np.array([1.0, 1, 0, 0, 0, 0]), np.array([1.0, 0, 1, 1, 1, 0])
    failure = np.array([False, False, True, True, True, True])
    groups = pd.DataFrame({"known": True, "robust": ~failure, "failure": failure, "weight": 1.0})
    validation = np.array([True, False, True, True, False, False])
    trials = [Trial("none", "", 0, 4.0, none), Trial("magic", "on", 1, 5.0, fixed, against="off"),
              Trial("magic", "off", 1, 5.0, np.array([1.0, 1, 0.5, 0.5, 0, 0]), control=True),
              Trial("tuned", "best", 2, 4.0, fixed, tuned="failure", half="test")]  # fmt: skip
    table = summarise(trials, groups, validation)
    assert accuracy(table, setting="on", part="failure") == pytest.approx(3 / 4)
    assert accuracy(table, setting="on", part="robust") == pytest.approx(1 / 2)
    assert accuracy(table, setting="on", half="test", part="failure") == pytest.approx(1 / 2)
    assert accuracy(table, setting="off", part="failure") == pytest.approx(1 / 4)
    assert accuracy(table, setting="on", part="lost") == pytest.approx(3 / 4)
    assert accuracy(table, repair="none", part="lost") == 0
    gain = one(table, setting="on", measure="gain", part="known")
    assert gain["estimate"] == pytest.approx((4 - 2) / 6)
    over = one(table, setting="on", measure="over_control", part="lost")
    assert over["estimate"] == pytest.approx((3 - 1) / 4)
    tuned = table[table["repair"] == "tuned"]
    assert set(tuned["half"]) == {"test"}
    assert one(tuned, part="lost", measure="gain")["estimate"] == pytest.approx(1 / 2)
    assert one(table, repair="none", half="all", part="failure", measure="accuracy")["n"] == 4
    assert not ((table["repair"] == "none") & (table["measure"] == "gain")).any()


def test_weights_stand_for_the_facts_that_were_not_drawn() -> None:
    """Two failures of two, two robust facts of ten: of twelve known facts 2/2 failures and 1/2 robust make 7 right."""
    groups = pd.DataFrame({"known": True, "robust": [False, False, True, True], "weight": [1.0, 1.0, 5.0, 5.0]})
    groups["failure"] = ~groups["robust"]
    trials = [
        Trial("none", "", 0, 4.0, np.array([0.0, 0, 1, 1])),
        Trial("magic", "on", 1, 4.0, np.array([1.0, 1, 1, 0]), against="off"),
        Trial("magic", "off", 1, 4.0, np.array([0.0, 1, 1, 1]), control=True),
    ]
    table = summarise(trials, groups, np.array([True, False, True, False]))
    over = one(table, setting="on", measure="over_control", part="known")
    assert (over["estimate"], over["n"]) == (pytest.approx((1 - 5) / 12), 4)
    assert accuracy(table, setting="on") == pytest.approx(7 / 12)
    assert accuracy(table, setting="on", part="robust") == 0.5
    assert one(table, setting="on", measure="gain", part="known")["estimate"] == pytest.approx((7 - 10) / 12)


@settings(max_examples=50)
@given(st.lists(st.booleans(), min_size=1, max_size=60), st.floats(0.1, 50))
def test_equal_weights_give_the_plain_wilson_interval(flags: list[bool], weight: float) -> None:
    found = share(np.array(flags, dtype=float), np.full(len(flags), weight))
    assert found == pytest.approx(stats.share(flags))


def test_unequal_weights_are_worth_fewer_prompts() -> None:
    right = np.array([1.0, 0.0] * 50)
    plain, skewed = share(right, np.ones(100)), share(right, np.array([1.0, 1.0] * 49 + [50.0, 50.0]))
    assert skewed.estimate == plain.estimate
    assert skewed.high - skewed.low > 2 * (plain.high - plain.low)


def test_difference_is_paired_and_weighted() -> None:
    a, b = np.array([1.0, 1, 0, 0]), np.array([0.0, 1, 0, 1])
    found = difference(a, b, np.array([3.0, 1, 1, 1]))
    assert found.estimate == pytest.approx((3 - 1) / 6)
    assert found.low <= found.estimate <= found.high
    assert difference(a, a, np.ones(4)) == (0, 0, 0)
    assert np.isnan(difference(a[:0], b[:0], a[:0]).estimate)


def test_a_sample_is_weighted_back_to_all_known_facts(study: Study, table: pd.DataFrame) -> None:
    whole = one(table, bits=2, repair="none", measure="accuracy", half="all", part="known")
    bench = Bench(study, "rtn-2bit-g16", 12)
    assert len(bench.probes) == len(bench.groups) == 12
    groups = study.groups[study.groups["known"]]
    assert bench.groups["failure"].sum() == min(6, groups["failure"].sum())
    assert bench.groups["weight"].sum() == pytest.approx(whole["n"])
    for flag in ("robust", "failure"):
        assert bench.groups.loc[bench.groups[flag], "weight"].sum() == pytest.approx(groups[flag].sum())


# charts


@pytest.mark.parametrize("draw", [charts.remedies, charts.cost, charts.domino, charts.alphas])
def test_charts_say_what_they_show(table: pd.DataFrame, draw: Callable) -> None:
    spec = draw(table).to_dict()
    assert len(spec["description"]) > 80
    assert "nan" not in spec["description"]
    assert spec["title"]
    assert spec["datasets"]


def test_a_chart_shows_each_remedy_once(table: pd.DataFrame) -> None:
    rows = charts.select(table, "known")
    assert not rows.duplicated(["bits", "name"]).any()
    assert set(rows["repair"]) == {"none", "protection", "amplification", "compensation"}
    assert set(rows[rows["repair"] == "amplification"]["half"]) == {"test"}
    assert set(rows[rows["repair"] != "amplification"]["half"]) == {"all"}
    one_sided = charts.remedies(table, "known", repairs=("compensation",)).to_dict()
    drawn = [row for rows in one_sided["datasets"].values() for row in rows]
    names = {f"{kind}, rank {rank}" for kind in ("EoRA", "plain SVD") for rank in (2, 16)}
    assert {row["name"] for row in drawn} == names
    assert {row["row"] for row in drawn} == {"EoRA, rank 2", "EoRA, rank 16"}
    assert {row["place"] for row in drawn if row["control"]} == {f"{bits} control" for bits in set(table["bits"])}


def test_a_control_stands_in_the_row_of_its_repair(table: pd.DataFrame) -> None:
    spec = charts.remedies(table, "known", ("protection", "amplification"), title="known facts right").to_dict()
    drawn = pd.DataFrame([row for rows in spec["datasets"].values() for row in rows])
    own, controls = (set(drawn.loc[drawn["control"] == control, "row"]) for control in (False, True))
    assert controls <= own and "8 bits: first 1 layer" in controls and "amplified alone, tuned" in controls
    assert not any("after" in name or "last" in name or "random" in name for name in own)
    axes = {layer["encoding"]["x"]["title"] for layer in spec["layer"]}
    assert axes == {"known facts right"}


def test_repairs_beside_the_line_of_models_without(table: pd.DataFrame) -> None:
    rows = [("none", 2, 2.0, 0.2), ("none", 4, 4.0, 0.8), ("protection", 2, 3.0, 0.4), ("compensation", 4, 5.0, 0.9),
            ("amplification", 2, 3.0, 0.9)]  # fmt: skip
    made = table.iloc[: len(rows)].assign(
        part="known", measure="accuracy", half="all", control=False, setting="x", low=0.0, high=1.0, method="rtn",
        tuned=["", "", "", "", "known"], n=9,
        repair=[row[0] for row in rows], bits=[row[1] for row in rows], average_bits=[row[2] for row in rows],
        estimate=[row[3] for row in rows],
    )  # fmt: skip
    beside = charts.beside_line(made)
    assert list(beside["repair"]) == ["protection", "compensation"]
    assert beside["line"].tolist()[0] == pytest.approx(0.5) and np.isnan(beside["line"].tolist()[1])
    assert (
        "Of 1 repairs that cost bits and lie where that line reaches, 0 lie above it"
        in charts.cost(made).to_dict()["description"]
    )
