"""The budgets are identities: whatever the matrices, the parts give the whole."""

import numpy as np
import pytest
import torch

from quantcliff.stages.boundary.budget import TOP, Layer, Source, decibels, energy, ratio, snr


def matrices(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Weights, their error, and inputs of which some directions are far stronger than others."""
    draw = torch.Generator().manual_seed(seed)
    weight, error = torch.randn(7, 12, generator=draw), 0.1 * torch.randn(7, 12, generator=draw)
    inputs = torch.randn(400, 12, generator=draw) * torch.logspace(-1, 1, 12)
    return weight, error, inputs


def test_source_snr_is_that_of_the_outputs() -> None:
    weight, error, inputs = matrices()
    found = Source.of(weight, error, inputs.T @ inputs / len(inputs))
    outputs, wrong = inputs @ weight.T, inputs @ error.T
    assert found.snr == pytest.approx(float(outputs.square().sum() / wrong.square().sum()), rel=1e-4)
    assert found.weight == pytest.approx(float(weight.square().sum() / error.square().sum()), rel=1e-5)
    parts = decibels(found.weight) + decibels(found.strength) - decibels(found.alignment)
    assert decibels(found.snr) == pytest.approx(parts)
    doubled = Source.of(weight, 2 * error, inputs.T @ inputs)
    assert doubled.snr == pytest.approx(found.snr / 4) and doubled.alignment == pytest.approx(found.alignment)


def test_isotropic_inputs_see_neither_weights_nor_errors() -> None:
    weight, error, _ = matrices(1)
    found = Source.of(weight, error, 3.7 * torch.eye(12))
    assert found.strength == pytest.approx(1) and found.alignment == pytest.approx(1)
    assert found.snr == pytest.approx(found.weight)


def test_an_error_where_no_input_is_costs_nothing() -> None:
    weight, error, inputs = matrices(2)
    inputs[:, 5:] = 0
    moment = inputs.T @ inputs
    beside, inside = error.clone(), error.clone()
    beside[:, :5], inside[:, 5:] = 0, 0
    assert Source.of(weight, beside + 1e-9, moment).alignment < 1e-6
    assert Source.of(weight, inside, moment).alignment > 1
    assert ratio(beside, inside, moment) == 0
    assert ratio(2 * inside, inside, moment) == pytest.approx(4)
    assert float(energy(inside, torch.eye(12))) == pytest.approx(float(inside.square().sum()))


@pytest.mark.parametrize("seed", range(4))
def test_a_layers_budget_adds_up(seed: int) -> None:
    draw = np.random.default_rng(seed)
    before, after, noise = (draw.normal(size=(30, 9)) for _ in range(3))
    before_own = before + 0.3 * noise
    through = after + 0.5 * noise @ draw.normal(size=(9, 9))
    after_own = through + 0.2 * draw.normal(size=(30, 9)) + 0.3 * (through - after)
    found = Layer.of(before, before_own, after, through, after_own)
    assert found.snr == pytest.approx(snr(after, after_own))
    assert -1 <= found.rho <= 1 and found.rho > 0.5, "what the layer adds was made to lie along what it carries"
    assert found.carried == pytest.approx(found.amplification**2 / found.entering)
    assert found.entering == pytest.approx(snr(before, before_own))
    alone = found.carried + found.own
    assert abs(1 / found.snr - alone) == pytest.approx(2 * found.rho * np.sqrt(found.carried * found.own))


def test_amplification_of_layers_that_are_known() -> None:
    draw = np.random.default_rng(0)
    before, error = draw.normal(size=(50, 6)), 0.1 * draw.normal(size=(50, 6))
    error[:, :3] = 0

    def layer(matrix: np.ndarray) -> Layer:
        after, through = before @ matrix, (before + error) @ matrix
        return Layer.of(before, before + error, after, through, through)

    assert layer(5 * np.eye(6)).amplification == pytest.approx(1), "size does not matter"
    assert layer(np.diag([1, 1, 1, 0, 0, 0])).amplification == 0
    assert layer(np.diag([0, 0, 0, 1, 1, 1])).amplification > 1.2
    first = Layer.of(before, before, before, before, before + error)
    assert np.isnan(first.amplification) and np.isnan(first.rho) and first.carried == 0
    assert first.snr == pytest.approx(snr(before, before + error))
    same = Layer.of(before, before, before, before, before)
    assert same.snr == float("inf") == snr(before, before)


def test_a_cleaned_snr_sees_neither_means_nor_the_largest_channel() -> None:
    draw = np.random.default_rng(1)
    full = draw.normal(size=(300, 100))
    own = full + 0.1 * draw.normal(size=(300, 100))
    plain = snr(full, own, cleaned=True)
    assert decibels(plain) == pytest.approx(20, abs=0.5)
    full[:, 7] *= 1000
    own[:, 7] = full[:, 7] + draw.normal(size=300)
    assert decibels(snr(full, own)) > 45
    assert snr(full, own, cleaned=True) == pytest.approx(plain, rel=0.05)
    assert snr(full + 50, own + 80, cleaned=True) == pytest.approx(snr(full, own, cleaned=True))
    assert TOP * 100 == 1
