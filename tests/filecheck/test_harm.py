"""Whether weights that look odd do harm: what was moved on purpose is excused, what was not is a fault."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM

from quantcliff.filecheck import harm
from quantcliff.filecheck.harm import Trial
from quantcliff.filecheck.rounding import nearest

SIZE, GROUPS, ROWS = 32, 4, 8
MASSIVE, HELPER = 5, 40
"""Channels of the first and the second group."""


def trial(seed: int, bits: int = 4) -> Trial:
    """Plain rounding of random weights; no group looks odd."""
    exact = torch.randn(ROWS, SIZE * GROUPS, generator=torch.Generator().manual_seed(seed))
    stored = nearest(exact.reshape(-1, SIZE), bits, False)[0].reshape(exact.shape)
    none = np.zeros(0, dtype=np.int64)
    return Trial(exact, stored, bits, SIZE, False, none, none.astype(bool), plain=False)


def inputs(seed: int) -> torch.Tensor:
    """Ordinary tokens, and one with a massive channel and a helper that is 30 times smaller."""
    x = torch.randn(200, SIZE * GROUPS, generator=torch.Generator().manual_seed(1000 + seed))
    x[0] = 0
    x[0, MASSIVE], x[0, HELPER] = 3000.0, 100.0
    return x


def with_odd(made: Trial, odd: list[int], **changes) -> Trial:
    return replace(made, odd=np.array(odd), displaced=np.zeros(len(odd), dtype=bool), **changes)


def judge(made: Trial, x: torch.Tensor) -> list[bool]:
    return harm._judge(made, harm._errors(made, x), harm._errors(made, x)).harmful.tolist()


@given(st.integers(0, 1000))
def test_a_weight_that_makes_up_for_a_massive_one_is_excused_and_its_opposite_is_not(seed):
    made, x = trial(seed), inputs(seed)
    error = (made.stored - made.exact)[0, MASSIVE]
    assume(abs(error) > 0.02)
    for sign, harmful in ((-1, False), (1, True)):
        stored = made.stored.clone()
        stored[0, HELPER] += sign * 30 * error
        assert judge(with_odd(made, [1], stored=stored), x) == [harmful]


def test_nothing_is_excused_in_a_module_of_plain_rounding():
    made, x = trial(3), inputs(3)
    stored = made.stored.clone()
    stored[0, HELPER] -= 30 * (made.stored - made.exact)[0, MASSIVE]
    assert judge(with_odd(made, [1], stored=stored, plain=True), x) == [True]


@pytest.mark.parametrize(("share", "plain", "harmful"), [
    (0.9, False, False), (1.1, False, True), (0.9, True, True), (1.1, True, True),
])  # fmt: skip
def test_what_was_not_rounded_plainly_is_accused_of_what_is_felt_alone(share: float, plain: bool, harmful: bool):
    """One group in a step too far, in a module whose other rows make that a given share of what is felt."""
    made, x = trial(4), inputs(4)[1:]
    stored = made.stored.clone()
    stored[2, SIZE : 2 * SIZE] += nearest(made.exact[2:3, SIZE : 2 * SIZE], 4, False)[1]
    found = with_odd(made, [2 * GROUPS + 1], stored=stored, plain=plain)
    errors = harm._errors(found, x)
    added = float((errors.rows[0, 0] - errors.rows[1, 0]).sum())
    module = errors.module.copy()
    module[0, 0] = added / (share * harm.FELT)
    found = harm._judge(found, replace(errors, module=module), errors)
    assert found.harmful.tolist() == [harmful]


@given(st.integers(0, 1000), st.sampled_from([2, 3, 4, 8]), st.sampled_from(["zero point", "scale", "values"]))
def test_faults_of_one_group_do_harm(seed, bits, kind):
    made, x = trial(seed, bits), inputs(seed)[1:]
    stored = made.stored.clone()
    group = stored[2, SIZE : 2 * SIZE]
    step = nearest(made.exact[2:3, SIZE : 2 * SIZE], bits, False)[1]
    group.copy_({"zero point": group + step, "scale": 4 * group, "values": group.flip(0)}[kind])
    found = with_odd(made, [2 * GROUPS + 1], stored=stored)
    assert judge(found, x) == [True]
    outcome = harm._judge(found, harm._errors(found, x), harm._errors(found, x))
    assert outcome.ratio > 1 and outcome.ratio_own > 1


def test_rounding_does_no_harm_and_costs_as_much_as_itself():
    made = with_odd(trial(1), [0, 9])
    outcome = harm._judge(made, harm._errors(made, inputs(1)), harm._errors(made, inputs(1)))
    assert (outcome.ratio, outcome.ratio_own) == pytest.approx((1, 1))
    assert outcome.harmful.tolist() == [False, False]


def test_groups_of_a_row_share_its_fate_and_most_rows_that_of_all():
    made, x = trial(2), inputs(2)[1:]
    stored = made.stored.clone()
    stored[:2, :SIZE] += 2
    odd = [0, 1, GROUPS, 3 * GROUPS]
    assert judge(with_odd(made, odd, stored=stored), x) == [True] * 4
    assert judge(with_odd(made, [*odd, 4 * GROUPS], stored=stored), x) == [True] * 3 + [False] * 2
    assert judge(with_odd(made, [*odd, 4 * GROUPS, 5 * GROUPS], stored=stored), x) == [True] * 3 + [False] * 3


def test_weights_found_elsewhere_are_a_fault_whatever_they_do():
    made = with_odd(trial(4), [0, 9])
    assert judge(replace(made, displaced=np.array([False, True])), inputs(4)) == [False, True]


def test_modules_are_run_on_real_tokens_only(tiny_llama):
    """Error ratios of a model do not depend on how prompts are padded, and are those of a direct computation."""
    base, other = (AutoModelForCausalLM.from_pretrained(tiny_llama) for _ in range(2))
    name = "model.layers.1.mlp.down_proj"
    exact = base.get_submodule(name).weight.detach().clone()
    stored = exact + 0.01 * torch.randn(exact.shape, generator=torch.Generator().manual_seed(0))
    other.get_submodule(name).weight.data.copy_(stored)
    none = np.zeros(0, dtype=np.int64)
    made = Trial(exact, stored, 4, SIZE, False, none, none.astype(bool), plain=False)
    prompts = [[5, 9, 200], [7, 31, 8, 2, 11, 60]]
    seen = []
    handle = base.get_submodule(name).register_forward_pre_hook(lambda module, args: seen.append(args[0][0]))
    with torch.no_grad():
        for ids in prompts:
            base(torch.tensor([ids]))
    handle.remove()
    x = torch.nn.functional.normalize(torch.cat(seen), dim=1)
    rounded = nearest(exact.reshape(-1, SIZE), 4, False)[0].reshape(exact.shape)
    expected = (x @ (stored - exact).T).norm() / (x @ (rounded - exact).T).norm()
    found = harm.try_out(base, other, {name: made}, prompts)[name]
    assert found.ratio == pytest.approx(float(expected), rel=1e-4)
