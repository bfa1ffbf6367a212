"""Training one layer: what is minimised, which epoch is kept, how the rate falls."""

import pytest
import torch

from quantcliff.quantizers.healing import Recipe
from quantcliff.quantizers.healing.fit import QUIET, channel_units, fit, rate_at
from quantcliff.quantizers.healing.grid import Codes, Grid


def layer(rate: float, seed: int = 0, **changes: object) -> tuple[dict[str, Codes], list[dict[str, float]], Codes]:
    """One matrix of 8 x 16 rounded to 2 bits and trained; the second output channel is 100 times larger."""
    draw = torch.Generator().manual_seed(0)
    exact = torch.randn(8, 16, generator=draw)
    exact[1] *= 100
    low, high = exact.aminmax(dim=1, keepdim=True)
    scale = (high - low) / 3
    zero = (-low / scale).round()
    codes = ((exact / scale).round() + zero).clamp(0, 3).to(torch.uint8)
    stored = Codes(codes, scale, zero.to(torch.uint8), 2, False)
    stream = torch.randn(64, 5, 16, generator=draw)
    recipe = Recipe(epochs=4, batch=8, lr_grid=rate, lr_weight=rate, **changes)  # type: ignore[arg-type]
    found = fit(lambda x, weights: x @ weights["w.weight"].T, {"w": Grid(stored, exact)}, stream, stream @ exact.T,
                recipe, seed)  # fmt: skip
    return *found, stored


@pytest.mark.parametrize("rate", [0.003, 3.0])
def test_the_best_epoch_is_kept_and_none_is_worse_than_no_training(rate: float) -> None:
    best, history, stored = layer(rate)
    losses = [row["normalised"] for row in history]
    (kept,) = [row for row in history if row["kept"]]
    assert len(history) == 5 and kept["normalised"] == min(losses) and history[0]["moved"] == 0
    if rate == 3.0:
        assert kept["epoch"] == 0 and min(losses[1:]) > losses[0]
        assert torch.equal(best["w"].codes, stored.codes) and torch.equal(best["w"].scale, stored.scale)
    else:
        assert kept["epoch"] > 0 and min(losses) < 0.9 * losses[0]
        assert any(row["moved"] > 0 for row in history)


def test_what_is_reported_is_the_error_of_what_is_kept() -> None:
    best, history, _ = layer(0.003)
    draw = torch.Generator().manual_seed(0)
    exact = torch.randn(8, 16, generator=draw)
    exact[1] *= 100
    stream = torch.randn(64, 5, 16, generator=draw)
    held, target = stream[-4:], (stream @ exact.T)
    error = (held @ best["w"].weight.T - target[-4:]).square().mean((0, 1))
    (kept,) = [row for row in history if row["kept"]]
    assert kept["plain"] == pytest.approx(float(error.mean()), rel=1e-4)
    assert kept["normalised"] == pytest.approx(float((error / channel_units(target[:-4])).mean()), rel=1e-4)


def test_a_channel_counts_in_units_of_its_own() -> None:
    values = torch.randn(50, 4, 3, generator=torch.Generator().manual_seed(0)) * torch.tensor([1.0, 1000.0, 1.0])
    units = channel_units(values + 7)
    variance = (values.flatten(0, 1) - values.mean((0, 1))).square().mean(0)
    torch.testing.assert_close(units, variance + QUIET * variance.sort().values[1], rtol=1e-3, atol=0)
    assert channel_units(values * torch.tensor([1.0, 1.0, 0.0]))[2] > 0


def test_plain_error_chooses_by_plain_error() -> None:
    _, history, _ = layer(0.003, plain=True)
    (kept,) = [row for row in history if row["kept"]]
    assert kept["plain"] == min(row["plain"] for row in history)


def test_the_rate_falls_to_a_twentieth() -> None:
    assert rate_at(0.0) == 1 and rate_at(1.0) == pytest.approx(0.05) and rate_at(0.5) == pytest.approx(0.525)


def test_the_seed_decides() -> None:
    (one, _, _), (same, _, _), (other, _, _) = layer(0.003), layer(0.003), layer(0.003, 1)
    assert torch.equal(one["w"].scale, same["w"].scale) and torch.equal(one["w"].codes, same["w"].codes)
    assert not torch.equal(one["w"].scale, other["w"].scale)
