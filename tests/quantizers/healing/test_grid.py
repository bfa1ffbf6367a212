"""The trainable grid: stands for its codes as made, and its slopes are those of its formula."""

import pytest
import torch

from quantcliff.quantizers.healing.grid import LEAST, Codes, Grid


def random_codes(bits: int = 2, symmetric: bool = False, seed: int = 0) -> tuple[Codes, torch.Tensor]:
    """A matrix of 6 x 16 in groups of 8, and exact weights, a quarter of which lie in another code's cell."""
    draw = torch.Generator().manual_seed(seed)
    codes = torch.randint(2**bits, (6, 16), generator=draw).to(torch.uint8)
    scale = 0.1 + torch.rand(6, 2, generator=draw)
    zero = torch.full((6, 2), 2 ** (bits - 1)) if symmetric else torch.randint(2**bits, (6, 2), generator=draw)
    stored = Codes(codes, scale, zero.to(torch.uint8), bits, symmetric)
    width = torch.where(torch.rand(6, 16, generator=draw) < 0.25, 3.0, 0.9)
    noise = (torch.rand(6, 16, generator=draw) - 0.5) * width
    return stored, stored.weight + noise * scale.repeat_interleave(8, 1)


@pytest.mark.parametrize("bits", [2, 3, 4])
@pytest.mark.parametrize("symmetric", [False, True])
def test_before_training_it_is_what_is_stored(bits: int, symmetric: bool) -> None:
    stored, exact = random_codes(bits, symmetric)
    grid = Grid(stored, exact)
    torch.testing.assert_close(grid(), stored.weight, atol=1e-5, rtol=0)
    same = grid.frozen()
    assert torch.equal(same.codes, stored.codes) and torch.equal(same.zero, stored.zero)
    assert torch.equal(same.scale, stored.scale) and same.bits == bits and same.symmetric is symmetric
    assert grid.zero.requires_grad is not symmetric


def test_weights_start_where_they_are_unless_their_code_is_another() -> None:
    stored, exact = random_codes()
    steps = Grid(stored, exact).steps.detach()
    scale, zero = stored.scale[..., None], stored.zero[..., None].float()
    place = exact.unflatten(1, (2, 8)) / scale + zero
    nearest = place.round().clamp(0, 3)
    there = nearest == stored.groups
    assert 0.05 < 1 - there.float().mean() < 0.5
    torch.testing.assert_close((steps + zero)[there], place[there])
    torch.testing.assert_close((steps + zero)[~there], stored.groups.float()[~there])


def test_the_formula_of_the_paper() -> None:
    """w^ = (clamp(round(w/s) + round(z), 0, 3) - round(z)) s, after everything has moved."""
    stored, exact = random_codes()
    grid = Grid(stored, exact)
    with torch.no_grad():
        for part in (grid.zero, grid.steps):
            part += 0.7 * torch.randn(part.shape, generator=torch.Generator().manual_seed(3))
        grid.factor.mul_(1.3)
        scale, weight = stored.scale * grid.factor, grid.steps * stored.scale[..., None]
    zero = grid.zero.detach().round().clamp(0, 3)
    codes = ((weight / scale[..., None]).round() + zero[..., None]).clamp(0, 3)
    wanted = ((codes - zero[..., None]) * scale[..., None]).flatten(1)
    torch.testing.assert_close(grid().detach(), wanted.detach(), atol=1e-5, rtol=1e-5)
    made = grid.frozen()
    torch.testing.assert_close(made.weight, wanted.detach(), atol=1e-5, rtol=1e-5)
    assert made.codes.max() <= 3 and len(torch.unique(made.zero)) > 1


def test_slopes_of_weights_are_one_inside_and_none_outside() -> None:
    stored, exact = random_codes()
    grid = Grid(stored, exact)
    grid().sum().backward()
    place = grid.steps.detach() + stored.zero[..., None].float()
    outside = (place.round() < 0) | (place.round() > 3)
    assert outside.any() and not outside.all() and grid.steps.grad is not None
    inside = stored.scale[..., None].expand_as(place)[~outside]
    torch.testing.assert_close(grid.steps.grad[~outside], inside)
    assert bool((grid.steps.grad[outside] == 0).all())


def test_slopes_of_scales_and_zero_points_against_finite_differences() -> None:
    """Where the formula is smooth: weights far outside the grid, whose codes no small step changes."""
    stored, _ = random_codes()
    exact = torch.where(stored.codes < 2, -90.0, 90.0)
    stored = Codes(torch.where(exact < 0, 0, 3).to(torch.uint8), stored.scale, stored.zero, 2, False)
    grid = Grid(stored, exact)
    pull = torch.randn(6, 16, generator=torch.Generator().manual_seed(4))
    (grid() * pull).sum().backward()
    assert grid.factor.grad is not None and grid.zero.grad is not None
    step = 1e-2
    for row in range(6):
        for group in range(2):
            values = []
            for sign in (1, -1):
                with torch.no_grad():
                    grid.factor[row, group] += sign * step
                    values.append(float((grid() * pull).sum()))
                    grid.factor[row, group] -= sign * step
            slope = (values[0] - values[1]) / (2 * step)
            assert float(grid.factor.grad[row, group]) == pytest.approx(slope, abs=1e-3)
    scaled = (pull.unflatten(1, (2, 8)) * stored.scale[..., None]).sum(-1)
    torch.testing.assert_close(grid.zero.grad, -scaled, atol=1e-5, rtol=1e-5)


def test_a_scale_never_vanishes_and_comes_back() -> None:
    stored, exact = random_codes()
    grid = Grid(stored, exact)
    with torch.no_grad():
        grid.factor.fill_(-1.0)
    assert bool((grid.frozen().scale == (stored.scale * LEAST)).all())
    grid().square().sum().backward()
    assert grid.factor.grad is not None and bool((grid.factor.grad != 0).any())


def test_scales_keep_the_type_of_the_file() -> None:
    stored, exact = random_codes()
    half = Codes(stored.codes, stored.scale.bfloat16(), stored.zero, 2, False)
    grid = Grid(half, exact)
    with torch.no_grad():
        grid.factor.mul_(1.01)
    made = grid.frozen()
    assert made.scale.dtype == torch.bfloat16 and made.weight.dtype == torch.float32
    steps = (made.groups - made.zero[..., None].int()).bfloat16()
    assert torch.equal(made.weight, (steps * made.scale[..., None]).flatten(1).float())


def test_scales_alone() -> None:
    stored, exact = random_codes()
    grid = Grid(stored, exact, scales_only=True)
    grid().sum().backward()
    assert [name for name, part in grid.named_parameters() if part.requires_grad] == ["factor"]
    torch.testing.assert_close(grid(), stored.weight)
    with torch.no_grad():
        grid.factor.mul_(1.5)
    assert torch.equal(grid.frozen().codes, stored.codes)
    torch.testing.assert_close(grid.frozen().weight, 1.5 * stored.weight)
