"""Margins, and what the fitted line says about made-up ones."""

import numpy as np
import pytest
import torch
from scipy.stats import norm

from quantcliff.stages.boundary.margins import Contraction, contraction, margins, slope, spread
from quantcliff.tracing import rank_of


def test_a_margin_is_what_a_right_answer_is_ahead_by() -> None:
    logits = torch.tensor([[3.0, 1.0, 2.5, -1.0], [3.0, 1.0, 2.5, -1.0], [0.0, 0.0, 0.0, 0.0]])
    assert margins(logits, [[0], [3, 1], [2]]).tolist() == [0.5, -2.0, 0.0]
    draw = torch.randn(200, 30, generator=torch.Generator().manual_seed(0))
    answers = [[row % 30, (7 * row + 1) % 30] for row in range(200)]
    assert ((margins(draw, answers) > 0) == (rank_of(draw, answers) == 1)).all()


def test_spread_is_the_temperature_that_is_taken_out() -> None:
    logits = torch.randn(50, 200, generator=torch.Generator().manual_seed(1))
    assert spread(3 * logits + 5) == pytest.approx(3 * spread(logits))


def made(kappa: float, shift: float, sigma: float, n: int = 20_000) -> tuple[np.ndarray, np.ndarray]:
    draw = np.random.default_rng(5)
    full = draw.gamma(2.0, 1.5, n)
    return full, kappa * full + shift + sigma * draw.normal(size=n)


@pytest.mark.parametrize(("kappa", "sigma"), [(0.9, 0.5), (0.3, 2.0), (0.0, 1.0)])
def test_the_line_is_found_and_foretells_what_is_lost(kappa: float, sigma: float) -> None:
    found = contraction(*made(kappa, 0.0, sigma))
    assert (found["kappa"], found["sigma"]) == (pytest.approx(kappa, abs=0.02), pytest.approx(sigma, rel=0.03))
    assert found["predicted"] == pytest.approx(found["observed"], abs=0.01)
    assert found["shifted"] == pytest.approx(found["observed"], abs=0.01)
    assert found["tested"] == 10_000
    best = max(("kappa", "one", "zero"), key=lambda name: found[f"likelihood_{name}"])
    assert best == "kappa" or kappa == 0
    assert found["likelihood_one"] < found["likelihood_kappa"] - 0.01
    assert abs(found["likelihood_zero"] - found["likelihood_kappa"]) < 1e-3 or kappa > 0


def test_noise_alone_is_recognised() -> None:
    found = contraction(*made(1.0, 0.0, 0.7))
    assert found["likelihood_one"] == pytest.approx(found["likelihood_kappa"], abs=1e-3)
    assert found["likelihood_zero"] < found["likelihood_one"] - 0.5


def test_a_shift_is_no_contraction() -> None:
    full, own = made(0.5, -4.0, 1.0)
    found = contraction(full, own)
    fit = Contraction.fit(full, own, shifted=True)
    assert (fit.kappa, fit.shift) == (pytest.approx(0.5, abs=0.02), pytest.approx(-4, abs=0.05))
    assert found["kappa"] < 0, "a line through the origin must lean the wrong way"
    assert abs(found["shifted"] - found["observed"]) < 0.01 < abs(found["predicted"] - found["observed"])
    assert found["likelihood_shift"] > found["likelihood_kappa"] + 0.1


def test_formulas() -> None:
    full, own = np.array([1.0, 2.0, 3.0]), np.array([1.0, -1.0, 2.0])
    fit = Contraction.fit(full, own)
    assert fit.kappa == pytest.approx((1 - 2 + 6) / 14) and fit.shift == 0
    assert fit.sigma == pytest.approx(np.sqrt(((own - fit.kappa * full) ** 2).mean()))
    assert fit.lost(full) == pytest.approx(norm.cdf(-fit.kappa * full / fit.sigma))
    assert fit.likelihood(full, own) == pytest.approx(np.log(norm.pdf(own, fit.kappa * full, fit.sigma)).mean())
    assert slope(own, full, axis=0) == pytest.approx(fit.kappa)
    given = Contraction.fit(full, own, kappa=1.0)
    assert (given.kappa, given.shift) == (1, 0) and given.sigma == pytest.approx(np.sqrt(10 / 3))
    assert Contraction.fit(full, 2 * full).sigma > 0


def test_units_do_not_matter_for_what_is_lost() -> None:
    full, own = made(0.4, -0.5, 1.5)
    plain, scaled = contraction(full, own), contraction(full / 3, own / 7)
    for name in ("predicted", "observed", "shifted", "order"):
        assert scaled[name] == pytest.approx(plain[name])
    assert scaled["kappa"] == pytest.approx(plain["kappa"] * 3 / 7)


def test_one_half_fits_and_the_other_is_counted() -> None:
    full, own = made(0.3, -0.5, 2.0, n=31)
    half = np.random.default_rng(4).permutation(31) < 15
    found = contraction(full, own, seed=4)
    assert found["observed"] == (own[~half] <= 0).mean() != (own[half] <= 0).mean() and found["tested"] == 16
    fit = Contraction.fit(full[half], own[half])
    assert found["predicted"] == pytest.approx(fit.lost(full[~half]).mean())
    assert found["likelihood_kappa"] == pytest.approx(fit.likelihood(full[~half], own[~half]))
