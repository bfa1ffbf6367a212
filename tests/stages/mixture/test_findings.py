"""Every rule can hold and can fail."""

from collections.abc import Mapping
from functools import partial

import numpy as np
import pandas as pd
import pytest
from scipy.stats import mannwhitneyu

from quantcliff.stages.mixture import findings, modes, ranking
from quantcliff.stages.mixture.findings import Finding
from quantcliff.stages.mixture.ranking import FAILS, HOLDS, UNKNOWN, WEAKER

UNITS = [f"{layer}.{name}" for layer in range(8) for name in ("a", "b", "c")]
ORDER = np.random.default_rng(0).permutation(24)


def sensitivity(task: np.ndarray, general: np.ndarray, noise: float = 0.3) -> pd.DataFrame:
    draw, rows = np.random.default_rng(1), []
    for way, sign in (("alone", 1), ("all but it", -1)):
        for bits in (2, 3):
            for place, unit in enumerate(UNITS):
                about = {"unit": unit, "layer": place // 3, "weights": 10, "bits": bits, "way": way}
                for block in range(20):
                    more = noise * draw.standard_normal(2)
                    rows.append({**about, "block": block, "facts": sign * task[place] + more[0],
                                 "text": sign * general[place] + more[1], "copies": np.nan})  # fmt: skip
                level = {"kept": 0.9, "sigma": 0.1, "weight_snr": 1.0, "strength": 0.0, "alignment": 0.0}
                rows.append({**about, **level, "block": -1, "kappa": 0.6 + place / 100, "source_snr": float(place)})
    return pd.DataFrame(rows)


def arms(both: float, others: Mapping[str, float], foretold: float = 1.0) -> pd.DataFrame:
    rows = [{"arm": "both", "budget": 3.5, "draw": 0, "kept": 1 - both, "facts": both, "text": both}]
    rows.append({**rows[0], "arm": "both, composed"})
    others = {**others, "general, composed": others["general"]}
    for name, value in others.items():
        rows += [{"arm": name, "budget": 3.5, "draw": draw, "kept": 1 - value, "facts": value, "text": value}
                 for draw in range(20 if name in ("random", "shuffled") else 1)]  # fmt: skip
    table = pd.DataFrame(rows)
    return table.assign(**{f"{part}_{name}": table[name] * (foretold if part == "predicted" else 1)
                           for part in ("chosen", "predicted") for name in ("facts", "text")})  # fmt: skip


def pairs(**against: tuple[float, float]) -> pd.DataFrame:
    """Bounds of `kept` by arm; text is level."""
    rows = []
    for name, (low, high) in against.items():
        about = {"budget": 3.5, "against": name.replace("_", ", ").replace("4", "4 bits"), "draw": 0}
        rows.append({**about, "measure": "kept", "estimate": (low + high) / 2, "low": low, "high": high})
        rows.append({**about, "measure": "text", "estimate": 0.0, "low": -0.02, "high": 0.005})
    return pd.DataFrame(rows)


def tables(**changed: pd.DataFrame) -> dict[str, pd.DataFrame]:
    ramp = ORDER.astype(float)
    blends = pd.DataFrame([
        {"bits": 3, "alpha": alpha, "draw": draw, "facts": loss + 0.01 * draw, "text": loss, "chosen_facts": loss,
         "chosen_text": loss} for alpha, loss in ((0.0, 2.0), (0.5, 1.0), (1.0, 3.0)) for draw in range(3)
    ])  # fmt: skip
    about = {"bits": 3, "measure": "facts", "estimate": 0.2, "high": 0.3}
    blend_pairs = pd.DataFrame([{**about, "alpha": 0.0, "low": 0.1}, {**about, "alpha": 1.0, "low": -0.1}])
    criteria = pd.DataFrame({"alpha": [0.0, 0.5, 1.0], "to_task": [1.0, 0.9, 0.8], "foretold": [1.0, 0.9, 0.8],
                             "to_kept": [0.95, 1.0, 0.9], "diversity": [0.1, 0.1, 0.1]})  # fmt: skip
    widths = pd.DataFrame([{"arm": "both", "budget": 3.5, "draw": 0, "unit": unit, "bits": 4 if place < 8 else 3}
                           for place, unit in enumerate(UNITS)])  # fmt: skip
    made = {
        "sensitivity": sensitivity(ramp, ramp), "arms": arms(0.1, {"random": 0.2, "shuffled": 0.05, "general": 0.3}),
        "pairs": pairs(general=(0.01, 0.05), gptq_4=(-0.005, 0.01), awq_4=(-0.05, -0.01), rtn_4=(-0.02, 0.02)),
        "criteria": criteria, "blends": blends, "blend_pairs": blend_pairs, "widths": widths,
    }  # fmt: skip
    return made | changed


SECTIONS = {
    "General loss and": findings.rankings, "General loss is": findings.rankings, "Alone": findings.rankings,
    "The ": findings.mixtures, "Calibrating": findings.mixtures, "Both": findings.allocations,
    "General loss alone": findings.allocations, "3.5": findings.matches, "What units": findings.sums,
    "No unit": findings.kinds, "What is": findings.kinds,
}  # fmt: skip
"""Which part of `findings` a claim belongs to, by how it begins."""


def outcome(made: dict[str, pd.DataFrame], start: str) -> str:
    (section,) = [part for words, part in SECTIONS.items() if start.startswith(words)]
    found: list[Finding] = [one for one in section(made) if one.claim.startswith(start)]
    assert len(found) == 1, start
    return found[0].outcome


def test_rankings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranking, "RESAMPLES", 100)
    monkeypatch.setattr(ranking, "halved", partial(ranking.halved, splits=40))
    ramp, other = ORDER.astype(float), np.where(ORDER % 2 == 0, ORDER, 23.0 - ORDER)
    assert ranking.tau(ramp, other) == 0
    illusion = "General loss and task rank"
    assert outcome(tables(), illusion) == FAILS
    assert outcome(tables(sensitivity=sensitivity(ramp, other, 3)), illusion) == HOLDS
    assert outcome(tables(sensitivity=sensitivity(ramp, ramp + other)), illusion) == WEAKER
    assert outcome(tables(sensitivity=sensitivity(ramp, ramp, 1000)), illusion) == UNKNOWN
    assert outcome(tables(), "Alone and all-but-it") == FAILS, "the same thing with the sign turned"
    ends = np.where((np.arange(24) < 3) | (np.arange(24) >= 21), 9.0, 1.0)
    assert outcome(tables(sensitivity=sensitivity(np.ones(24), ends)), "General loss is sensitive at both") == HOLDS
    assert outcome(tables(sensitivity=sensitivity(ends, ends)), "General loss is sensitive at both") == FAILS
    fewer = sensitivity(np.where(ends > 1, 0.0, 9.0), np.where(ends > 1, 3.0, 9.0))
    assert outcome(tables(sensitivity=fewer), "General loss is sensitive at both") == FAILS, (
        "below the share of weights"
    )


def test_an_in_context_task_is_ranked_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranking, "RESAMPLES", 100)
    claim, ramp = "General loss and an in-context task", ORDER.astype(float)
    assert outcome(tables(), claim) == UNKNOWN, "full precision does not copy"
    table = sensitivity(ramp, ramp)
    assert outcome(tables(sensitivity=table.assign(copies=table["text"])), claim) == FAILS
    other = sensitivity(np.where(ORDER % 2 == 0, ORDER, 23.0 - ORDER), ramp, 3)
    assert outcome(tables(sensitivity=other.assign(copies=other["facts"])), claim) == HOLDS


def test_what_was_not_measured_has_a_row() -> None:
    whole = {one.claim for one in findings.findings(tables())}
    none = {name: tables()[name].iloc[:0] for name in ("blends", "blend_pairs", "pairs")}
    alone = tables()["sensitivity"].query("way == 'alone'")
    bare = tables()["arms"].query("arm in ('both', 'general')")
    left = findings.findings(tables(sensitivity=alone, arms=bare, **none))
    assert {one.claim.split(" (3 bits)")[0] for one in left} == {claim.split(" (3 bits)")[0] for claim in whole}
    open_ = {one.claim for one in left if one.here == findings.NOT_MEASURED}
    assert all(one.outcome == UNKNOWN for one in left if one.claim in open_)
    for start in ("Alone and", "Calibrating on the task", "The repaired", "Both sensitivities beat random",
                  "General loss alone", "3.5 bits match gptq at 4 bits: answers"):  # fmt: skip
        assert any(claim.startswith(start) for claim in open_), start


def test_mixtures_of_text() -> None:
    assert outcome(tables(), "The cosine with the task's traces") == FAILS
    assert outcome(tables(), "Calibrating on the task alone") == HOLDS
    assert outcome(tables(), "Calibrating on the general text alone") == FAILS
    assert outcome(tables(), "The repaired criterion") == HOLDS
    made = tables()
    turned = made["blends"].assign(facts=-made["blends"]["facts"] + 4, text=-made["blends"]["text"] + 4)
    assert outcome(tables(blends=turned), "The repaired criterion") == FAILS
    noise = made["blends"].assign(facts=made["blends"]["draw"] + 1.0)
    assert outcome(tables(blends=noise), "The repaired criterion") == UNKNOWN


def test_allocations() -> None:
    assert outcome(tables(), "Both sensitivities beat general loss alone") == HOLDS
    assert outcome(tables(pairs=pairs(general=(-0.01, 0.05))), "Both sensitivities beat general") == FAILS
    worse_text = pairs(general=(0.01, 0.05)).replace({"low": {-0.02: 0.002}})
    assert outcome(tables(pairs=worse_text), "Both sensitivities beat general") == FAILS
    assert outcome(tables(), "Both sensitivities beat random") == HOLDS
    assert outcome(tables(), "Both sensitivities beat the same widths") == FAILS
    assert outcome(tables(), "General loss alone is worse than a random") == HOLDS
    better = arms(0.1, {"random": 0.4, "general": 0.3})
    assert outcome(tables(arms=better), "General loss alone is worse than a random") == FAILS
    assert findings.beats(tables(pairs=pairs(general=(-0.05, -0.01))), "general") == "loses"
    assert np.isnan(findings.pair(tables(), "fisher", "kept").estimate)
    assert outcome(tables(), "Both sensitivities beat Fisher") == UNKNOWN
    anew = tables()["arms"]
    anew.loc[anew["arm"] == "both", "facts"] = 0.5
    assert findings.ahead(tables(arms=anew), "both", "random", "facts") == (20, 20), "composed beside composed"
    alike = tables()["arms"].query("not arm.str.contains('composed')")
    assert findings.ahead(tables(arms=alike), "both", "random", "facts") == (20, 20), "all are put together alike"


@pytest.mark.parametrize(("method", "wanted"), [("gptq", HOLDS), ("awq", FAILS), ("rtn", UNKNOWN)])
def test_matching_four_bits(method: str, wanted: str) -> None:
    assert outcome(tables(), f"3.5 bits match {method} at 4 bits: answers") == wanted
    assert outcome(tables(), f"3.5 bits match {method} at 4 bits: general loss") == HOLDS


def test_sums() -> None:
    spread = {"general": 0.3, "task": 0.2, "even": 0.25, "random": 0.4}
    assert outcome(tables(arms=arms(0.1, spread)), "What units cost alone adds up (answers)") == HOLDS
    assert outcome(tables(arms=arms(0.1, spread, 0.5)), "What units cost alone adds up (answers)") == FAILS
    assert outcome(tables(arms=arms(0.1, spread, 2.0)), "What units cost alone adds up (answers)") == FAILS
    assert outcome(tables(arms=arms(0.1, spread, 0.5)), "What units cost alone orders models (answers)") == HOLDS
    turned = arms(0.1, spread)
    turned["predicted_facts"] = 1 - turned["predicted_facts"]
    assert outcome(tables(arms=turned), "What units cost alone orders models (answers)") == FAILS


def test_spared_units_are_held_against_the_others() -> None:
    found = findings.spared(tables())
    assert found["spared"].sum() == 8 and found["given"].tolist() == [4] * 8 + [3] * 16
    by = modes.differ(found).set_index("coordinate")
    assert by.loc["source_snr", ["spared", "others"]].tolist() == [3.5, 15.5]
    assert by.loc["source_snr", "p"] == pytest.approx(mannwhitneyu(range(8), range(8, 24)).pvalue)
    alone = tables()["sensitivity"].query("way == 'alone' and bits == 2 and block >= 0 and unit == '2.b'")
    assert found.set_index("unit").loc["2.b", "facts"] == pytest.approx(alone["facts"].mean())


def test_modes() -> None:
    assert outcome(tables(), "No unit collapses alone") == HOLDS
    assert outcome(tables(), "What is spared is noisy") == HOLDS, "the first eight have the lowest SNR"
    assert outcome(tables(), "What is spared is not noisy but used") == FAILS
    made = tables()
    turned = made["sensitivity"].assign(source_snr=1.0, kappa=0.4)
    used = sensitivity(np.where(np.arange(24) < 8, 9.0, 1.0), np.ones(24)).assign(source_snr=1.0, kappa=0.4)
    assert outcome(tables(sensitivity=turned), "No unit collapses alone") == FAILS
    assert outcome(tables(sensitivity=turned), "What is spared is noisy") == FAILS
    assert outcome(tables(sensitivity=used), "What is spared is not noisy but used") == HOLDS
