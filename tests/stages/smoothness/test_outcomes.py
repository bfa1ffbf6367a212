"""Rules say what they are written to say, on tables made for it; what ships is whole, and a cell comes out again."""

from dataclasses import replace
from pathlib import Path
from zlib import crc32

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

from quantcliff import cli, stats
from quantcliff.charts import smoothness as charts
from quantcliff.quantizers.healing import Recipe
from quantcliff.stages import boundary, smoothness
from quantcliff.stages.smollm2 import Shipped
from quantcliff.stages.smoothness import INSIDE, MATCHED, NAMED, NEAR, PLAIN, RADIUS, RANDOM, Told, edition, principle
from quantcliff.stages.smoothness import outcomes as module
from quantcliff.stages.smoothness.rules import WEIGHTS
from quantcliff.study import Study

BITS = (8, 4, 3, 2)


def made_up(values: dict[tuple[str, str, float | None], tuple[float, ...]]) -> pd.DataFrame:
    """A table of one method: estimate and ratio at 8, 4, 3 and 2 bits, each give or take .01."""
    rows = []
    for (measure, part, at), numbers in values.items():
        for bits, number in zip(BITS, numbers, strict=True):
            for twin in (PLAIN, MATCHED):
                rows.append({"variant": f"rtn-{bits}", "method": "rtn", "bits": bits, "measure": measure, "part": part,
                             "at": np.nan if at is None else at, "twin": twin, "n": 5})  # fmt: skip
                rows[-1] |= dict.fromkeys(("estimate", "ratio"), number)
                rows[-1] |= dict.fromkeys(("low", "ratio_low"), number - 0.01)
                rows[-1] |= dict.fromkeys(("high", "ratio_high"), number + 0.01)
    return pd.DataFrame(rows)


USUAL = {
    ("slope", "", RADIUS): (1.0, 0.9, 1.3, 2.0), ("direction", INSIDE, None): (0.99, 0.9, 0.5, 0.1),
    ("union", NEAR, None): (1.0, 1.0, 0.9, 0.5), ("nodes", "", 6.0): (1.0, 1.0, 1.2, 0.5),
    ("distinct", "", None): (1.0, 1.0, 0.9, 0.8), ("survival", NEAR, None): (0.99, 0.9, 0.6, 0.4),
    ("survival", RANDOM, None): (0.99, 0.95, 0.7, 0.5), ("survival_chance", NEAR, None): (0.1, 0.1, 0.1, 0.1),
}  # fmt: skip


def outcome(changes: dict) -> dict[str, str]:
    told = Told(made_up(USUAL | changes), methods=("rtn",))
    return {claim: said for claim, said, _ in smoothness.of_measures(told)}


def test_measures_by_their_rules() -> None:
    found = outcome({})
    assert found["Smoothness falls with the bits"] == module.HOLDS
    assert found[f"Candidates around a sequence get fewer ({MATCHED})"] == module.HOLDS
    assert found[f"The decoding tree gets sparser ({PLAIN})"] == module.NOT, "it grows at 3 bits"
    assert found["Candidates are lost, beyond calibration"] == module.HOLDS
    assert found["The loss is one of neighbourhoods, more than of random replacements"] == module.HOLDS


def test_what_is_cut_off_cannot_be_told() -> None:
    sparse, dense = "The decoding tree gets sparser (plain)", "Distinct continuations get fewer (plain)"
    limits = {"nodes": smoothness.STANDARD.cap, "distinct": smoothness.STANDARD.samples}
    for share, wanted in ((0.95, module.OPEN), (0.85, module.NOT)):
        full = pd.DataFrame([
            {"method": "full", "measure": name, "part": "", "at": 6.0 if name == "nodes" else np.nan, "twin": PLAIN,
             "estimate": share * limit} for name, limit in limits.items()
        ])  # fmt: skip
        grown = {("nodes", "", 6.0): (1.0, 1.0, 1.2, 1.0), ("distinct", "", None): (1.0, 1.0, 1.0, 1.0)}
        told = Told(pd.concat([made_up(USUAL | grown), full]), methods=("rtn",))
        found = {claim: said for claim, said, _ in smoothness.of_measures(told)}
        assert found[sparse] == found[dense] == wanted
    less = pd.concat([made_up(USUAL | {("distinct", "", None): (1.0, 1.0, 0.9, 0.8)}), full.assign(estimate=99.0)])
    found = {claim: said for claim, said, _ in smoothness.of_measures(Told(less, methods=("rtn",)))}
    assert found[dense] == module.HOLDS, "a loss that is seen is seen"


def test_claims_are_about_the_low_widths_there_are() -> None:
    four = made_up(USUAL).query("bits >= 4")
    told = Told(four, methods=("rtn",), bits=(8, 4))
    assert list(told.low) == [4] and list(Told(four, bits=(8, 4, 3, 2)).low) == [3, 2]
    assert smoothness.claims_of(told)["figures"].str.contains("4 bits").any()
    one = smoothness.claims_of(Told(made_up(USUAL).query("bits == 8"), methods=("rtn",), bits=(8,)))
    assert one["outcome"].iloc[0] == module.OPEN, "one width has no steps"


def test_smollm2s_table_is_taken_where_it_is_asked_for(tmp_path: Path) -> None:
    def asked(**changed: object) -> pd.DataFrame | None:
        own = {"model": "smollm2", "group_size": 64, "calibration": "self:64x256", "seed": 0}
        return edition.known(replace(Study("atlas", run=tmp_path).parameters, **(own | changed)))

    found = asked()
    assert found is not None and len(found) == len(Shipped(smoothness.FOLDER).table("smollm2"))
    assert asked(model="atlas") is None and asked(group_size=32) is None and asked(seed=1) is None


@pytest.mark.parametrize(
    ("changes", "claim"),
    [
        ({("slope", "", RADIUS): (1.0, 0.9, 0.95, 2.0)}, "Smoothness falls with the bits"),
        ({("direction", INSIDE, None): (0.99, 0.9, 0.2, 0.3)}, "Smoothness falls with the bits"),
        ({("union", NEAR, None): (1.0, 1.0, 0.9, 0.995)}, "Candidates around a sequence get fewer (matched)"),
        ({("survival", NEAR, None): (0.99, 0.9, 0.6, 0.11)}, "Candidates are lost, beyond calibration"),
        ({("survival", NEAR, None): (0.99, 0.9, 0.6, 0.7)}, "Candidates are lost, beyond calibration"),
        ({("survival", RANDOM, None): (0.9, 0.9, 0.61, 0.5)},
         "The loss is one of neighbourhoods, more than of random replacements"),
    ],
)  # fmt: skip
def test_a_rule_that_is_not_met(changes: dict, claim: str) -> None:
    assert outcome(changes)[claim] == module.NOT


def test_words_name_bits_methods_and_intervals() -> None:
    told = Told(made_up(USUAL), methods=("rtn",))
    assert told.words("union", NEAR) == "3 bits: rtn 0.90 (0.89 to 0.91); 2 bits: rtn 0.50 (0.49 to 0.51)"
    assert told.depth == 6


def correlations(apart: dict[tuple[str, str], bool]) -> pd.DataFrame:
    rows = [
        {"number": number, "kind": "smoothness", "given": given, "estimate": 0.5,
         "low": 0.1 if apart.get((number, given)) else -0.1, "high": 0.9}
        for number in NAMED for given in ("nothing", "divergence", "all errors")
    ]  # fmt: skip
    return pd.DataFrame(
        [*rows, {**rows[0], "number": "stream_snr", "kind": "error", "given": "divergence", "low": 0.4}]
    )


def test_more_than_error_asks_for_both() -> None:
    both = {("direction", "divergence"): True, ("direction", "all errors"): True}
    assert module.more_than_error(correlations(both))[0] == module.HOLDS
    one = {("direction", "divergence"): True, ("survival", "all errors"): True, ("survival", "nothing"): True}
    said, words = module.more_than_error(correlations(one))
    assert said == module.NOT and words.endswith("given the divergence alone: direction") and "errors: none" in words


def trials(kept: dict[tuple[str, float], float], learned: bool = True) -> pd.DataFrame:
    """Two methods, two seeds, 400 facts; validation falls with the weight, the heaviest reconstructs badly."""
    rows = []
    for method in principle.METHODS:
        for (along, weight), share in kept.items():
            for seed in (0, 1):
                luck = np.random.default_rng((crc32(along.encode()), int(100 * weight), seed)).random(400)
                gradient = 0.5 if weight and learned else 0.6
                rows.append(pd.DataFrame({
                    "method": method, "along": along, "weight": weight, "seed": seed, "fact": range(400),
                    "kept": luck < share, "reconstruction": 1.5 if weight == 1 else 1.01 if weight else 1.0,
                    "gradient": gradient, "validation": 3 - weight, "test": 3.0,
                }))  # fmt: skip
    return pd.concat(rows, ignore_index=True)


SHARES = {
    ("gradient", 0.0): 0.2,
    ("gradient", 0.01): 0.2,
    ("gradient", 0.1): 0.5,
    ("gradient", 1.0): 0.6,
    ("random", 0.1): 0.2,
}


def test_the_weight_is_chosen_at_equal_reconstruction() -> None:
    found = trials(SHARES).query("method == 'rtn'")
    assert principle.chosen(found) == 0.1
    assert principle.chosen(found.assign(reconstruction=np.where(found["weight"] > 0, 2.0, 1.0))) == 0.01
    assert principle.chosen(found.assign(reconstruction=1.0)) == 1.0
    assert principle.chosen(found.assign(validation=found["weight"])) == 0.01


def test_a_term_must_beat_both_controls() -> None:
    found = trials(SHARES)
    gap = principle.difference(found, "rtn", "none")
    assert gap.low > 0.2 and gap.high < 0.4
    assert module.of_trials(found)[0][1] == module.HOLDS and module.of_trials(found)[1][1] == module.OPEN
    assert module.of_trials(trials(SHARES | {("random", 0.1): 0.6}))[0][1] == module.NOT
    assert module.of_trials(trials(SHARES, learned=False))[0][1] == module.OPEN
    half = pd.concat(
        [found.query("method == 'rtn'"), trials(SHARES | {("gradient", 0.1): 0.2}).query("method == 'gptq'")]
    )
    assert module.of_trials(half)[0][1] == module.OPEN


def test_differences_are_in_pairs_of_facts_and_of_seeds() -> None:
    found = trials(SHARES).query("method == 'rtn'")
    term = found.query("along == 'gradient' and weight == 0.1").groupby("fact")["kept"].mean().to_numpy()
    bare = found.query("weight == 0").groupby("fact")["kept"].mean().to_numpy()
    assert principle.difference(found, "rtn", "none") == stats.paired_difference(term, bare)
    one = found[(found["along"] == "gradient") | (found["seed"] == 0)]
    own = found.query("along == 'gradient' and weight == 0.1 and seed == 0")["kept"].to_numpy(float)
    other = found.query("along == 'random' and seed == 0")["kept"].to_numpy(float)
    assert principle.difference(one, "rtn", "random") == stats.paired_difference(own, other)


def test_a_trial_is_an_arm_of_its_own() -> None:
    arms = [principle.Trial(weight, along, seed).arm(7) for weight, along, seed in
            ((0.0, "gradient", 0), (0.1, "gradient", 0), (0.1, "random", 0), (0.1, "random", 1))]  # fmt: skip
    assert len({arm.name for arm in arms}) == 4 and {arm.sequences for arm in arms} == {7}
    assert arms[2].recipe == Recipe(along="random", smooth=0.1) and arms[3].recipe.seed == 1


def test_the_chart_of_correlations_says_its_numbers() -> None:
    words = charts.correlations(correlations({}), {"direction": "direction of gradients"}).to_dict()["description"]
    assert "direction of gradients, given divergence: 0.50 (-0.10 to 0.90)" in words


def test_tables_ship_one_by_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def made(name: str):
        def of(run: Path, device: str) -> pd.DataFrame:
            asked.append((name, run, device))
            return pd.DataFrame({"name": [name]})

        return of

    monkeypatch.setattr(edition, "TABLES", {name: made(name) for name in edition.TABLES})
    monkeypatch.setattr(edition, "FOLDER", tmp_path / "out")
    for words in (["atlas", "smoothness"], ["smollm2", "smoothness"]):
        result = CliRunner().invoke(cli.app, [*words, str(tmp_path / "run"), "--device", "cpu"])
        assert result.exit_code == 0, result.output
    assert asked == [(name, tmp_path / "run", "cpu") for name in ("cells", "trials", "smollm2")]
    found = Shipped(tmp_path / "out")
    assert [found.table(name)["name"].item() for name in edition.TABLES] == list(edition.TABLES)
    assert found.made["tables"]["smollm2"]["command"] == "quantcliff smollm2 smoothness RUN"
    assert all(len(about["commit"]) == 40 for about in found.made["tables"].values())


def test_the_cells_are_those_of_the_boundary() -> None:
    asked = edition.cells()
    assert len(asked) == 88 == len({cell.label for cell in asked})
    assert {cell.damping for cell in asked} == {0.01}
    assert {(cell.method, cell.calibration) for cell in asked} == {
        ("rtn", "in"), ("gptq", "in"), ("gptq", "out"), ("awq", "in"),
    }  # fmt: skip


@pytest.fixture(scope="module")
def shipped() -> Shipped:
    return Shipped(smoothness.FOLDER)


def test_shipped_tables_are_whole(shipped: Shipped) -> None:
    cells, found = shipped.table("cells"), shipped.table("trials")
    assert cells["cell"].tolist() == [cell.label for cell in edition.cells()]
    assert cells[[*NAMED, *smoothness.ERRORS, "text_kl", "kept"]].notna().all(axis=None)
    assert all(len(about["commit"]) == 40 for about in shipped.made["tables"].values())
    for method in principle.METHODS:
        own = principle.whole(found[found["method"] == method])
        weight = principle.chosen(found[found["method"] == method])
        for along, heavy in (("gradient", 0.0), ("gradient", weight), ("random", weight)):
            arm = own[(own["along"] == along) & (own["weight"] == heavy)]
            assert arm["seed"].tolist() == sorted(own["seed"].unique()), "every seed has every control"
        assert set(own.query("along == 'gradient' and seed == 0")["weight"]) == {0.0, *WEIGHTS}


def test_a_cell_comes_out_again(shipped: Shipped, tmp_path: Path) -> None:
    again = edition.measured(boundary.study_of("atlas", tmp_path, "cpu"), [edition.SHOWN]).iloc[0]
    there = shipped.table("cells").set_index("cell").loc[again["cell"]]
    for name in NAMED:
        assert again[name] == pytest.approx(there[name], abs=0.01, rel=0.02), name
