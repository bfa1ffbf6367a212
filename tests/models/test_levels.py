"""Grids are read off weights whatever hides them: half precision, another order of columns, uneven levels."""

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from quantcliff import models
from quantcliff.errors import InputError
from quantcliff.filecheck.rounding import nearest
from quantcliff.models import column_order, infer, levels
from quantcliff.models.uneven import NF4, uneven


def weights(seed: int, width: int = 128) -> torch.Tensor:
    return torch.randn(96, width, generator=torch.Generator().manual_seed(seed))


def rounded(exact: torch.Tensor, bits: int, size: int, symmetric: bool = False) -> torch.Tensor:
    return nearest(exact.double().reshape(-1, size), bits, symmetric)[0].reshape(exact.shape).float()


@settings(max_examples=30)
@given(st.integers(0, 1000), st.sampled_from([8, 4]), st.sampled_from([32, 64, 128]), st.booleans())
def test_half_precision_hides_no_grid(seed, bits, size, symmetric):
    stored = rounded(weights(seed), bits, size, symmetric)
    assert infer(stored.half().float(), 2**-12) == (bits, size)
    if bits == 8:
        assert infer(stored.bfloat16().float(), 2**-9) == (bits, size)
    assert infer(weights(seed).bfloat16().float(), 2**-9) is None


@settings(max_examples=30)
@given(st.integers(0, 1000), st.sampled_from([2, 3, 4]), st.booleans())
def test_symmetric_grids_are_told_from_asymmetric_ones(seed, bits, symmetric):
    exact = torch.distributions.StudentT(3.0).sample((96, 128)) + (0 if symmetric else 0.3)
    stored = rounded(exact, bits, 32, symmetric)
    assert levels.symmetric(stored, bits, 32) == symmetric


@settings(max_examples=30)
@given(st.integers(0, 1000), st.sampled_from([2, 3, 4]), st.booleans())
def test_columns_in_another_order_are_put_together(seed, bits, symmetric):
    order = torch.randperm(128, generator=torch.Generator().manual_seed(seed))
    stored = rounded(weights(seed), bits, 32, symmetric)[:, order.argsort()]
    assert infer(stored) is None
    found = column_order(stored)
    assert found is not None
    columns, size = found
    assert size == 32
    # position j of the stored row is column order.argsort()[j] of the rounded one
    groups = [set((order.argsort()[part] // 32).tolist()) for part in columns.split(32)]
    assert sorted(groups, key=min) == [{0}, {1}, {2}, {3}]
    assert infer(stored[:, columns]) == (bits, 32)


def test_weights_of_no_grid_have_no_order():
    assert column_order(weights(0)) is None


def nf4(exact: torch.Tensor, size: int) -> torch.Tensor:
    groups = exact.reshape(-1, size)
    top = groups.abs().amax(1, keepdim=True)
    return (NF4[((groups / top)[..., None] - NF4).abs().argmin(-1)] * top).reshape(exact.shape)


def fp8(exact: torch.Tensor) -> torch.Tensor:
    scale = exact.abs().amax(1, keepdim=True) / 448
    return (exact / scale).to(torch.float8_e4m3fn).float() * scale


def test_uneven_levels_are_named():
    assert uneven(nf4(weights(1), 64)) == ("nf4", 4, 64)
    assert uneven(fp8(weights(1))) == ("fp8", 8, -1)
    assert uneven(weights(1)) is None
    assert uneven(rounded(weights(1), 4, 64)) is None


def changed(folder: Path, out: Path, change) -> Path:
    """A copy of a model with every linear layer of the decoder changed."""
    import shutil

    shutil.copytree(folder, out)
    tensors = load_file(out / "model.safetensors")
    edited = {name: change(w) if name.endswith("_proj.weight") else w for name, w in tensors.items()}
    save_file({name: w.contiguous() for name, w in edited.items()}, out / "model.safetensors", {"format": "pt"})
    return out


def test_grids_of_dense_files(tiny_llama: Path, tmp_path: Path):
    found = levels.grid_of(changed(tiny_llama, tmp_path / "nf4", lambda w: nf4(w, 32)))
    assert found and (found["method"], found["bits"], found["symmetric"]) == ("nf4", 4, False)
    found = levels.grid_of(changed(tiny_llama, tmp_path / "fp8", fp8))
    assert found and (found["method"], found["bits"]) == ("fp8", 8)
    found = levels.grid_of(changed(tiny_llama, tmp_path / "even", lambda w: rounded(w, 4, 16, True)))
    assert found and (found["bits"], found["group_size"], found["symmetric"]) == (4, 16, True)
    assert levels.grid_of(tiny_llama) is None
    odd = torch.tensor([-1.0, -0.3, -0.05, 0.0, 0.013, 0.21, 0.77])
    few = changed(tiny_llama, tmp_path / "few", lambda w: odd[(w[..., None] - odd).abs().argmin(-1)])
    with pytest.raises(InputError, match="take few values, on uneven levels"):
        levels.grid_of(few)


def test_a_token_that_was_added_does_not_make_another_tokenizer(tiny_llama: Path, tmp_path: Path):
    folder = changed(tiny_llama, tmp_path / "pad", lambda w: w)
    model = models.load(folder)
    model.tokenizer.add_special_tokens({"additional_special_tokens": ["<|pad|>"]})
    model.tokenizer.save_pretrained(folder)
    models.check_pair(models.load(tiny_llama), models.load(folder))
    models.check_pair(models.load(folder), models.load(tiny_llama))
