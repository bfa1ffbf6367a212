"""Rounding errors are those of real checkpoints, and an old grid shows."""

import pytest
import torch
from transformers import AutoModelForCausalLM

from quantcliff import models
from quantcliff.models import linears
from quantcliff.quantizers import Scheme, quantize, rounding


@pytest.mark.parametrize(("bits", "size", "symmetric"), [(2, 32, False), (4, 32, True), (8, -1, False), (3, 16, False)])
def test_rounded_weights_are_those_of_the_checkpoint(bits, size, symmetric, tiny_llama, tmp_path):
    scheme = Scheme("rtn", bits, size, symmetric)
    made = AutoModelForCausalLM.from_pretrained(quantize(tiny_llama, scheme, (), tmp_path), local_files_only=True)
    with torch.no_grad():
        made(torch.zeros(1, 2, dtype=torch.long))
    stored, base = dict(made.named_parameters()), dict(models.load(tiny_llama).hf.named_parameters())
    for name in linears(made.config):
        own = rounding.rounded(base[f"{name}.weight"].detach(), scheme)
        torch.testing.assert_close(own, stored[f"{name}.weight"].detach(), rtol=0, atol=1e-6)


def test_gaussian_weights_cost_what_gaussian_weights_cost(tiny_llama):
    table = rounding.errors(models.load(tiny_llama), Scheme("rtn", 3, 16))
    assert len(table) == 3 * 7
    assert set(table["module"]) >= {"self_attn.q_proj", "mlp.down_proj"} and set(table["layer"]) == {0, 1, 2}
    assert table["ratio"].between(0.9, 1.1).all()


def test_an_old_grid_of_as_many_levels_is_rounded_for_nothing_and_a_finer_old_one_is_not():
    torch.manual_seed(0)
    weight = torch.randn(64, 128)
    on_grid = rounding.rounded(weight, Scheme("rtn", 4, 32))
    assert rounding.relative_error(on_grid, Scheme("rtn", 4, 32)) < 1e-3
    fresh = rounding.relative_error(weight, Scheme("rtn", 2, 64))
    assert rounding.relative_error(on_grid, Scheme("rtn", 2, 64)) == pytest.approx(fresh, rel=0.1)


def test_error_is_relative():
    torch.manual_seed(0)
    weight = torch.randn(8, 64)
    scheme = Scheme("rtn", 3, 32)
    assert rounding.relative_error(1000 * weight, scheme) == pytest.approx(rounding.relative_error(weight, scheme))
    assert 0.05 < rounding.relative_error(weight, scheme) < 0.3
