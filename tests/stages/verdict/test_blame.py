"""Which part is to blame: the rule, and planted faults in both directions."""


import pandas as pd
import pytest
import torch

from quantcliff.models import Served, by_token
from quantcliff.stages.verdict import Pair, blame
from quantcliff.study import FULL, Study


def rule(*rows: tuple[str, float, float]) -> tuple[str, ...]:
    return blame.blamed(pd.DataFrame(rows, columns=["part", "returns", "loses"]))


def test_the_rule() -> None:
    assert rule(("weights", 0.2, 0.9), ("cache", 0.5, 0.1)) == ("cache",)
    assert rule(("weights", 0.6, 0.0), ("cache", 0.8, 0.0)) == ("weights", "cache")
    assert rule(("weights", 0.1, 0.5), ("cache", 0.49, 0.2)) == ("weights",)
    assert rule(("weights", 0.1, 0.4), ("inputs", 0.1, 0.3)) == blame.SUM
    assert rule() == ()


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    return Study("atlas", method="rtn", bits="4,2", n_facts=150, run=tmp_path_factory.mktemp("run"))


def ask(study: Study, weights: int, **served: object) -> pd.DataFrame:
    of = f"rtn-{weights}bit-g128" if weights < 16 else FULL
    bits = {name: args["num_bits"] for name, args in served.items()}  # type: ignore[index]
    label = study.serve(f"W{weights} {bits}", Served(**served), of)  # type: ignore[arg-type]
    return blame.measure(Pair(study, label, 40, pd.DataFrame)).set_index("part")


def cache(bits: int) -> dict[str, object]:
    own = by_token(bits, symmetric=False)
    return {"keys": own, "values": own}


def test_a_planted_fault_of_the_cache_is_the_caches(study: Study) -> None:
    found = ask(study, 4, **cache(2))
    assert found["blamed"].to_dict() == {"weights": False, "cache": True}
    assert found.loc["cache", "returns"] > 0.8 and found.loc["weights", "returns"] < 0.5
    assert found.loc["cache", "loses"] > 0.5 and found.loc["weights", "loses"] < 0.2
    assert found.loc["cache", "returns_low"] < found.loc["cache", "returns"] < found.loc["cache", "returns_high"]


def test_a_planted_fault_of_the_weights_is_the_weights(study: Study) -> None:
    found = ask(study, 2, **cache(8))
    assert found["blamed"].to_dict() == {"weights": True, "cache": False}
    assert found.loc["weights", "returns"] > 0.9 and found.loc["cache", "returns"] < 0.1


def test_a_planted_fault_of_the_inputs_is_the_inputs(study: Study) -> None:
    found = ask(study, 4, inputs=by_token(3), **cache(8))
    assert found["blamed"].to_dict() == {"weights": False, "inputs": True, "cache": False}


def test_what_is_full_precision_is_no_part(study: Study) -> None:
    assert ask(study, 16, **cache(2)).index.tolist() == ["cache"]


def test_where_nothing_is_lost_nobody_is_to_blame(study: Study) -> None:
    assert ask(study, 16, **cache(8)).empty


def test_switching_off_leaves_the_variant_as_it_was(study: Study) -> None:
    label = next(iter(study.variants))
    weight = study.model(label).hf.model.layers[0].self_attn.q_proj.weight.clone()
    blame.measure(Pair(study, label, 20, pd.DataFrame))
    assert torch.equal(study.model(label).hf.model.layers[0].self_attn.q_proj.weight, weight)


