"""The low-rank correction is the best there is on the inputs that occur, and exact where rank allows."""

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import TEXT
from transformers import AutoTokenizer, LlamaConfig

from quantcliff import models
from quantcliff.errors import InputError
from quantcliff.models import linears
from quantcliff.quantizers import Scheme, quantize
from quantcliff.stages.repair.eora import compensated, corrections, low_rank, rank_bits, second_moments

SEEDS = st.integers(0, 10_000)


def draw(seed: int, rows: int = 6, columns: int = 8, n: int = 50) -> tuple[torch.Tensor, torch.Tensor]:
    """An error matrix and inputs (n, columns) whose directions differ much in size."""
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(n, columns, generator=generator) @ torch.diag(torch.logspace(0, -2, columns))
    mixed = inputs @ torch.linalg.qr(torch.randn(columns, columns, generator=generator))[0]
    return torch.randn(rows, columns, generator=generator), mixed.double()


def left_over(error: torch.Tensor, inputs: torch.Tensor, correction: torch.Tensor) -> float:
    return float((inputs @ (error.double() - correction).T).pow(2).sum() / len(inputs))


def moment_of(inputs: torch.Tensor) -> torch.Tensor:
    return inputs.T @ inputs / len(inputs)


@settings(max_examples=30, deadline=None)
@given(SEEDS)
def test_full_rank_is_exact(seed: int) -> None:
    error, inputs = draw(seed)
    left, right = low_rank(error, 6, moment_of(inputs))
    torch.testing.assert_close(left @ right, error.double(), atol=1e-7, rtol=1e-7)


@settings(max_examples=30, deadline=None)
@given(SEEDS, st.integers(1, 5))
def test_nothing_of_that_rank_is_better_on_the_inputs(seed: int, rank: int) -> None:
    error, inputs = draw(seed)
    left, right = low_rank(error, rank, moment_of(inputs))
    assert torch.linalg.matrix_rank(left @ right) == rank
    own = left_over(error, inputs, left @ right)
    plain_left, plain_right = low_rank(error, rank)
    assert own <= left_over(error, inputs, plain_left @ plain_right) + 1e-12
    # Eckart-Young on what the error does to the inputs
    tail = torch.linalg.svdvals(inputs @ error.double().T / len(inputs) ** 0.5)[rank:].pow(2).sum()
    assert own == pytest.approx(float(tail), rel=1e-6, abs=1e-12)
    nudged = left + 1e-3 * torch.randn(left.shape, generator=torch.Generator().manual_seed(seed), dtype=left.dtype)
    assert own <= left_over(error, inputs, nudged @ right)


@settings(max_examples=30, deadline=None)
@given(SEEDS, st.integers(1, 5))
def test_without_a_moment_it_is_the_singular_value_decomposition(seed: int, rank: int) -> None:
    error, _ = draw(seed)
    left, right = low_rank(error, rank)
    tail = torch.linalg.svdvals(error.double())[rank:].pow(2).sum()
    assert (error - left @ right).pow(2).sum() == pytest.approx(float(tail), rel=1e-9, abs=1e-9)


@settings(max_examples=20, deadline=None)
@given(SEEDS, st.floats(1e-3, 1e3))
def test_the_size_of_the_inputs_does_not_matter(seed: int, factor: float) -> None:
    error, inputs = draw(seed)
    one, other = (low_rank(error, 2, moment) for moment in (moment_of(inputs), factor * moment_of(inputs)))
    torch.testing.assert_close(one[0] @ one[1], other[0] @ other[1], atol=1e-6, rtol=1e-6)


@settings(max_examples=30, deadline=None)
@given(SEEDS, st.booleans(), st.booleans())
def test_a_smaller_rank_is_the_beginning_of_a_larger(seed: int, tall: bool, seen: bool) -> None:
    error, inputs = draw(seed, *((9, 8) if tall else (6, 8)))
    moment = moment_of(inputs) if seen else None
    left, right = low_rank(error, 5, moment)
    small = low_rank(error, 2, moment)
    torch.testing.assert_close(left[:, :2] @ right[:2], small[0] @ small[1], atol=1e-9, rtol=1e-9)


def test_directions_that_never_occur_are_left_alone() -> None:
    error, inputs = draw(0)
    inputs = torch.cat([inputs[:, :4], torch.zeros(len(inputs), 4, dtype=inputs.dtype)], dim=1)
    left, right = low_rank(error, 6, moment_of(inputs))
    correction = left @ right
    torch.testing.assert_close(correction[:, :4], error[:, :4].double(), atol=1e-7, rtol=1e-7)
    assert correction[:, 4:].abs().max() < 1e-9


@settings(max_examples=30, deadline=None)
@given(SEEDS)
def test_directions_that_never_occur_are_left_alone_whatever_the_axes(seed: int) -> None:
    error, inputs = draw(seed)
    turn = torch.linalg.qr(torch.randn(8, 8, generator=torch.Generator().manual_seed(seed), dtype=torch.float64))[0]
    occur, never = turn[:, :4], turn[:, 4:]
    left, right = low_rank(error, 4, moment_of(inputs[:, :4] @ occur.T))
    torch.testing.assert_close(left @ right @ occur, error.double() @ occur, atol=1e-5, rtol=1e-5)
    assert (left @ right @ never).abs().max() < 1e-5


@pytest.mark.parametrize("rank", [0, -1, 7])
def test_a_rank_that_does_not_fit(rank: int) -> None:
    with pytest.raises(InputError, match="does not fit a weight of 6 x 8; choose 1 to 6"):
        low_rank(draw(0)[0], rank)


@pytest.fixture(scope="module")
def pair(tiny_llama: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[models.Model, models.Model]:
    cache = tmp_path_factory.mktemp("cache")
    return models.load(tiny_llama), models.load(quantize(tiny_llama, Scheme("rtn", 2, 16), (), cache))


@pytest.fixture(scope="module")
def batches(tiny_llama: Path) -> list[torch.Tensor]:
    tokenizer = AutoTokenizer.from_pretrained(tiny_llama)
    return [torch.tensor([tokenizer(text).input_ids]) for text in TEXT * 3]


def test_moments_are_those_of_the_inputs(pair: tuple[models.Model, models.Model], batches: list[torch.Tensor]) -> None:
    hf = pair[0].hf
    found = second_moments(hf, batches)
    assert found.keys() == linears(hf.config).keys()
    rows = torch.cat([hf.model.layers[0].input_layernorm(hf.model.embed_tokens(ids))[0] for ids in batches]).double()
    torch.testing.assert_close(found["model.layers.0.self_attn.v_proj"], rows.T @ rows / len(rows))
    last = hf.model.layers[2]
    hidden = torch.cat([hf(ids, output_hidden_states=True).hidden_states[2][0] for ids in batches])
    assert found["model.layers.2.mlp.down_proj"].shape == (64, 64)
    normed = last.input_layernorm(hidden).double()
    torch.testing.assert_close(
        found["model.layers.2.self_attn.q_proj"], normed.T @ normed / len(normed), rtol=1e-5, atol=1e-6
    )
    assert not any(module._forward_pre_hooks for module in hf.modules())


def test_compensation_in_a_model(pair: tuple[models.Model, models.Model], batches: list[torch.Tensor]) -> None:
    base, quantized = pair
    moments = second_moments(base.hf, batches)
    ids = batches[0]
    full = base.hf(ids).logits
    before = {name: value.clone() for name, value in quantized.hf.state_dict().items()}
    whole = compensated(quantized, corrections(base, quantized, 16), 16)
    assert all(torch.equal(value, quantized.hf.state_dict()[name]) for name, value in before.items())
    factors = corrections(base, quantized, 8, moments)
    errors = [float((compensated(quantized, factors, rank).hf(ids).logits - full).pow(2).mean()) for rank in (1, 8)]
    errors.append(float((whole.hf(ids).logits - full).pow(2).mean()))
    assert errors[0] > errors[1]
    with pytest.raises(InputError, match="rank 33 does not fit a weight of 32 x 32"):
        corrections(base, quantized, 33, moments)


def test_every_module_is_corrected_for_its_own_inputs(
    pair: tuple[models.Model, models.Model], batches: list[torch.Tensor]
) -> None:
    base, quantized = pair
    moments = second_moments(base.hf, batches)
    healed = compensated(quantized, corrections(base, quantized, 2, moments), 2)
    exact, before, after = (dict(model.hf.named_parameters()) for model in (*pair, healed))
    for name in linears(base.hf.config):
        weight = f"{name}.weight"
        left, right = low_rank(exact[weight] - before[weight], 2, moments[name])
        torch.testing.assert_close(after[weight], before[weight] + (left @ right).float(), atol=1e-5, rtol=1e-5)


def test_full_rank_restores_the_model(tiny_neox: Path, tmp_path: Path, batches: list[torch.Tensor]) -> None:
    """All layers of this model have a side of 32, so rank 32 is the full rank of each."""
    base = models.load(tiny_neox)
    quantized = models.load(quantize(tiny_neox, Scheme("rtn", 2, 16), (), tmp_path))
    moments = second_moments(base.hf, batches)
    ids = batches[0]
    full = base.hf(ids).logits
    assert (quantized.hf(ids).logits - full).abs().max() > 0.1
    healed = compensated(quantized, corrections(base, quantized, 32, moments), 32)
    torch.testing.assert_close(healed.hf(ids).logits, full, atol=1e-4, rtol=1e-4)


def test_bits_of_the_factors() -> None:
    config = LlamaConfig(vocab_size=64, hidden_size=32, num_hidden_layers=2, num_attention_heads=2,
                         num_key_value_heads=1, intermediate_size=96)  # fmt: skip
    both = (64 + 48 + 48 + 64) + 3 * 128
    assert rank_bits(config, 3) == pytest.approx(3 * 16 * both / 12288)
