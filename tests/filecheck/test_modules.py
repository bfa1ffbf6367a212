"""The check for format bugs: what rounding does is never called one, and planted ones are found and named."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from families import wrapped
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tiny import SIZES, TEXT, save
from transformers import LlamaConfig, LlamaForCausalLM

from quantcliff import models
from quantcliff.errors import InputError
from quantcliff.filecheck import check, modules, rounding
from quantcliff.filecheck import groups as grouped
from quantcliff.models import levels, linears
from quantcliff.quantizers import Scheme, links, planted, quantize
from quantcliff.stages.verdict import weights
from quantcliff.study import Study

GROUP = 64


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random Llama wide enough for groups of 64: 2 layers, width 64, FFN 128."""
    torch.manual_seed(5)
    sizes = SIZES | {"hidden_size": GROUP, "intermediate_size": 2 * GROUP, "num_hidden_layers": 2}
    config = LlamaConfig(**sizes, num_key_value_heads=2, bos_token_id=0, eos_token_id=0, initializer_range=0.2)
    return save(LlamaForCausalLM(config), tmp_path_factory.mktemp("wide"))


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("quantized")


def table(base: Path, quantized: Path) -> pd.DataFrame:
    """Of `weights.inspect`, modules tried out on a few sentences."""
    model = models.load(base)
    prompts = [model.tokenizer(text).input_ids for text in TEXT]
    return weights.inspect(model, models.load(quantized), models.quantization_of(quantized), prompts)


def found(base: Path, quantized: Path) -> list[str]:
    return list(weights.faulty(table(base, quantized)))


@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("method", ["rtn", "gptq", "awq"])
def test_no_bug_without_a_fault(base: Path, cache: Path, method: str, symmetric: bool) -> None:
    for bits in (8, 4, 3, 2):
        assert found(base, quantize(base, Scheme(method, bits, GROUP, symmetric), TEXT, cache)) == []


@pytest.mark.parametrize("method", ["rtn", "gptq", "awq"])
@pytest.mark.parametrize("bits", [4, 3, 2])
def test_planted_faults_are_found_and_named(base: Path, cache: Path, tmp_path: Path, method: str, bits: int) -> None:
    folder = quantize(base, Scheme(method, bits, GROUP), TEXT, cache)
    folder = planted.scaled(folder, tmp_path / "1", 1)
    folder = planted.swapped(folder, tmp_path / "2", 0, "mlp.up_proj", (3, 0), (70, 0))
    folder = planted.swapped(folder, tmp_path / "3", 0, "mlp.down_proj", (5, 0), (5, 1))
    folder = planted.moved(folder, tmp_path / "4", 0, "self_attn.v_proj")
    folder = planted.moved(folder, tmp_path / "5", 0, "mlp.gate_proj", slice(9, 10))
    said = found(base, folder)
    first = {line.split(":")[0]: line.split(": ", 1)[1] for line in said if line.startswith("layer 0")}
    assert set(first) == {f"layer 0, {name}" for name in (
        "self_attn.v_proj", "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj")}  # fmt: skip
    assert first["layer 0, self_attn.v_proj"].startswith("32 of 32 groups have the wrong zero point")
    assert first["layer 0, mlp.gate_proj"].startswith("1 of 128 groups have the wrong zero point (row 9:")
    assert first["layer 0, mlp.up_proj"] == (
        "2 of 128 groups hold the weights of other groups (row 3: those of row 70; row 70: those of row 3)"
    )
    assert first["layer 0, mlp.down_proj"] == (
        "2 of 128 groups hold the weights of other groups "
        "(row 5 group 0: those of row 5 group 1; row 5 group 1: those of row 5 group 0)"
    )
    scaled = [line for line in said if line.startswith("layer 1")]
    assert len(scaled) >= 6
    assert all("wrong scale" in line for line in scaled)


def test_planted_faults_have_the_size_they_are_said_to_have(base: Path, cache: Path, tmp_path: Path) -> None:
    folder = planted.scaled(quantize(base, Scheme("rtn", 4, GROUP), TEXT, cache), tmp_path / "1", 1, 4.0)
    folder = planted.moved(folder, tmp_path / "2", 0, "mlp.gate_proj")
    table = weights.inspect(models.load(base), models.load(folder), models.quantization_of(folder))
    table = table.set_index(["layer", "module"])
    np.testing.assert_allclose(table.loc[1, "stretch"], 4, rtol=1e-3)
    assert table.loc[(0, "mlp.gate_proj"), "shift"] == pytest.approx(-1, abs=1e-3)


def test_awq_scales_are_found_although_a_zero_point_is_wrong(base: Path, cache: Path, tmp_path: Path) -> None:
    """Shared scales are estimated from the rows of `up_proj`; a shift of these rows must not be taken for scale."""
    good = quantize(base, Scheme("awq", 2, GROUP), TEXT, cache)
    said = found(base, planted.moved(good, tmp_path / "bad", 1, "mlp.up_proj"))
    assert [line.split(":")[0] for line in said] == ["layer 1, mlp.up_proj"]
    assert "wrong zero point" in said[0]


def groups(seed: int, size: int, tails: float) -> torch.Tensor:
    """Random weights, 48 groups; the smaller `tails`, the heavier."""
    draw = np.random.default_rng(seed)
    return torch.tensor(draw.standard_t(tails, (48, size)) * draw.uniform(0.5, 2, (48, 1)))


cases = st.tuples(st.integers(0, 10_000), st.sampled_from([32, 64, 128]), st.sampled_from([3.0, 10.0, 100.0]),
                  st.sampled_from([2, 3, 4, 8]), st.booleans())  # fmt: skip


def kinds(exact: torch.Tensor, stored: torch.Tensor, bits: int, symmetric: bool) -> list[str]:
    kind, _ = grouped.faults(grouped.compare(exact, stored, bits, symmetric), exact, stored)
    return kind.tolist()


@example((400, 32, 3.0, 2, True))  # one weight that the grid cuts off is most of the group: a factor "explains" the cut
@settings(max_examples=40, deadline=None)
@given(cases)
def test_rounding_is_never_a_fault_and_measures_as_perfect(case) -> None:
    seed, size, tails, bits, symmetric = case
    exact = groups(seed, size, tails)
    stored, _ = rounding.nearest(exact, bits, symmetric)
    measured = grouped.compare(exact, stored, bits, symmetric)
    np.testing.assert_allclose(measured["stretch"], 1, atol=1e-9)
    np.testing.assert_allclose(measured["shift"], 0, atol=1e-9)
    np.testing.assert_allclose(measured["error"], measured["error_rounded"])
    assert set(kinds(exact, stored, bits, symmetric)) == {""}
    assert set(kinds(exact, exact, bits, symmetric)) == {""}


@settings(max_examples=100, derandomize=True)
@given(cases, st.floats(0.2, 0.7))
def test_weights_moved_about_before_rounding_are_no_fault(case, size_of_move: float) -> None:
    """As GPTQ does: each weight is moved by most of a step to make up for others, then rounded. The same examples every
    time, since about one such module in ten thousand does look wrong by chance.
    """
    seed, size, tails, bits, symmetric = case
    exact = groups(seed, size, max(tails, 10.0))
    _, step = rounding.nearest(exact, bits, symmetric)
    noise = torch.randn(exact.shape, generator=torch.Generator().manual_seed(seed), dtype=exact.dtype)
    move = size_of_move * step[:, None] * noise.clamp(-1.5, 1.5)
    stored, _ = rounding.nearest(exact + move, bits, symmetric)
    assert set(kinds(exact, stored, bits, symmetric)) == {""}


@settings(max_examples=40, deadline=None)
@given(cases, st.integers(0, 47), st.sampled_from([0.2, 4.0, 16.0]))
def test_one_wrong_scale_among_many(case, bad: int, factor: float) -> None:
    seed, size, tails, bits, symmetric = case
    exact = groups(seed, size, tails)
    stored, _ = rounding.nearest(exact, bits, symmetric)
    stored[bad] *= factor
    assert grouped.compare(exact, stored, bits, symmetric).loc[bad, "stretch"] == pytest.approx(factor)
    assert [kind for kind in enumerate(kinds(exact, stored, bits, symmetric)) if kind[1]] == [(bad, "scale")]
    assert set(kinds(exact, factor * rounding.nearest(exact, bits, symmetric)[0], bits, symmetric)) == {"scale"}


@settings(max_examples=40, deadline=None)
@given(cases, st.integers(0, 47), st.sampled_from([-2, -1, 1, 3]))
def test_one_wrong_zero_point_among_many(case, bad: int, steps: int) -> None:
    seed, size, tails, bits, _ = case
    exact = groups(seed, size, tails)
    stored, step = rounding.nearest(exact, bits, False)
    stored[bad] -= steps * step[bad]
    measured = grouped.compare(exact, stored, bits, False)
    assert measured.loc[bad, "shift"] == pytest.approx(-steps)
    assert [kind for kind in enumerate(kinds(exact, stored, bits, False)) if kind[1]] == [(bad, "zero point")]
    everywhere = rounding.nearest(exact, bits, False)[0] - steps * step[:, None]
    assert set(kinds(exact, everywhere, bits, False)) == {"zero point"}


@settings(max_examples=40, deadline=None)
@given(cases, st.permutations(range(48)))
def test_groups_in_another_order(case, order: list[int]) -> None:
    seed, _, _, bits, symmetric = case
    exact = groups(seed, 128, 100.0)
    stored = rounding.nearest(exact, bits, symmetric)[0][order]
    kind, belongs = grouped.faults(grouped.compare(exact, stored, bits, symmetric), exact, stored)
    assert belongs == {group: other for group, other in enumerate(order) if group != other}
    assert (kind == "order").tolist() == [group != other for group, other in enumerate(order)]


def test_a_modules_numbers_are_its_whole_error_and_the_medians_of_its_groups() -> None:
    exact = groups(3, 64, 10.0)
    rounded, step = rounding.nearest(exact, 4, False)
    stored = exact + torch.linspace(1, 3, 48, dtype=exact.dtype)[:, None] * (rounded - exact)
    stored[7] += 20 * step[7]
    row = modules._summary(grouped.compare(exact, stored, 4, False))
    assert row["excess"] == pytest.approx(float((stored - exact).norm() / (rounded - exact).norm()))
    assert row["match"] > 0.97
    assert row["shift"] == pytest.approx(0, abs=0.1)


def test_a_grid_reaches_0_where_no_weight_does() -> None:
    exact = groups(4, 64, 10.0).abs() + 1
    torch.testing.assert_close(rounding.nearest(exact, 2, False)[1], exact.amax(1) / 3)
    torch.testing.assert_close(rounding.nearest(-exact, 2, False)[1], exact.amax(1) / 3)


def test_a_group_a_little_too_large_is_no_fault_because_another_is_far_too_large() -> None:
    exact = groups(5, 64, 10.0)
    stored = rounding.nearest(exact, 4, False)[0]
    stored[3, 0] = stored[3].min() + 2.5 * (stored[3].max() - stored[3].min())
    stored[9] *= 1000
    assert [index for index, kind in enumerate(kinds(exact, stored, 4, False)) if kind] == [9]


def test_a_group_size_that_does_not_divide_the_rows_is_the_whole_row(base: Path, cache: Path) -> None:
    folder = quantize(base, Scheme("rtn", 4, -1), TEXT, cache)
    stated = models.quantization_of(folder)
    one, other = (
        weights.inspect(models.load(base), models.load(folder), stated | {"group_size": size}) for size in (-1, 48)
    )
    assert one.equals(other)


def test_awq_shares_scales_between_two_modules_of_which_either_may_be_wrong() -> None:
    base = wrapped("llama")
    found, layers = links(base.hf), linears(base.hf.config)
    assert "mlp.down_proj" in modules._twin("model.layers.1.mlp.up_proj", found, layers)
    assert "self_attn.v_proj" in modules._twin("model.layers.1.self_attn.o_proj", found, layers)
    assert modules._twin("model.layers.1.mlp.gate_proj", found, layers) == ""
    fused = wrapped("phi3")
    name = "model.layers.1.mlp.down_proj"
    assert "mlp.gate_up_proj" in modules._twin(name, links(fused.hf), linears(fused.hf.config))


def test_weights_in_another_order_inside_their_groups_are_unrelated() -> None:
    exact = groups(1, 128, 100.0)
    stored = rounding.nearest(exact, 4, False)[0]
    assert set(kinds(exact, stored.flip(1), 4, False)) == {"values"}
    stored[7] = stored[7].flip(0)
    assert [index for index, kind in enumerate(kinds(exact, stored, 4, False)) if kind == "values"] == [7]


def test_plain_rounding_is_told_by_its_levels() -> None:
    """Every fiftieth weight a level off is enough not to be plain rounding; scales in half precision are not."""
    exact = torch.randn(64, 128, generator=torch.Generator().manual_seed(3))
    rows, step = rounding.nearest(exact.reshape(-1, 32), 4, False)
    stated = {"bits": 4, "group_size": 32, "symmetric": False, "mixed": False}
    moved = rows.clone()
    moved.reshape(-1)[::50] += step.repeat_interleave(32)[::50]
    halved = (rows / step[:, None]).round() * step.half().float()[:, None]
    for stored, plain in ((rows, True), (halved, True), (moved, False)):
        found, *_ = modules._look(exact, stored.reshape(exact.shape), stated)
        assert found.plain == plain


def test_a_group_of_equal_weights_says_nothing() -> None:
    exact = groups(2, 64, 10.0)
    exact[3] = 0.0
    stored = rounding.nearest(exact, 4, False)[0]
    assert set(kinds(exact, stored, 4, False)) == {""}


@pytest.mark.parametrize(("bits", "size"), [(2, 32), (3, 64), (4, 128), (8, 128), (4, 256)])
def test_bits_and_group_size_are_read_off_the_weights(bits: int, size: int) -> None:
    exact = torch.randn(64, 256, generator=torch.Generator().manual_seed(bits), dtype=torch.float64)
    stored = rounding.nearest(exact.reshape(-1, size), bits, False)[0].reshape(64, 256)
    assert levels.infer(stored) == (bits, size)
    assert levels.infer(stored.float()) == (bits, size)
    assert levels.infer(exact) is None


def test_mixed_bits_are_read_off_each_module(base: Path, cache: Path) -> None:
    scheme = Scheme("rtn", 2, GROUP, bits_by_layer=((0, 8),))
    folder = quantize(base, scheme, TEXT, cache)
    table = weights.inspect(models.load(base), models.load(folder), models.quantization_of(folder))
    assert table.groupby("layer")["stored_bits"].unique().map(list).to_dict() == {0: [8], 1: [2]}
    assert set(table["fault"]) == {""}
    assert table["excess"].between(0.99, 1.01).all()


def test_a_dense_file_of_quantized_weights_is_read_off(base: Path, cache: Path, tmp_path: Path) -> None:
    good = quantize(base, Scheme("rtn", 3, GROUP), TEXT, cache)
    for name, folder in (("good", good), ("bad", planted.scaled(good, tmp_path / "scaled", 1))):
        save(models.load(folder).hf, tmp_path / name)
    stated = levels.grid_of(tmp_path / "good")
    assert stated
    assert (stated["bits"], stated["group_size"], stated["mixed"]) == (3, GROUP, False)
    assert levels.grid_of(base) is None
    assert levels.grid_of(good) == models.quantization_of(good)
    study = Study(base, quantized=tmp_path / "bad", n_facts=10, run=tmp_path / "run")
    found = list(weights.faulty(weights.measure(study)))
    assert len(found) == 7
    assert all(line.startswith("layer 1, ") and "wrong scale" in line for line in found)


def test_another_models_quantization_is_named(base: Path, cache: Path, tmp_path: Path) -> None:
    torch.manual_seed(6)
    config = models.config_of(base)
    other = save(LlamaForCausalLM(config), tmp_path / "other")
    folder = quantize(base, Scheme("rtn", 4, GROUP), TEXT, cache)
    findings = check(models.load(other), models.load(folder), folder, table(other, folder))
    assert "was not made from other: their embeddings" in findings.origin
    assert findings.faults == ()


def test_the_table_of_a_study(base: Path, tmp_path: Path) -> None:
    study = Study(base, method="rtn", bits="4,2", group_size=GROUP, n_facts=10, run=tmp_path)
    table = weights.measure(study)
    assert table.groupby("variant")["module"].count().to_dict() == {"rtn-4bit-g64": 14, "rtn-2bit-g64": 14}
    assert (table["layer"].value_counts() == 14).all()
    assert (tmp_path / "weights.parquet").is_file()


def test_faults_are_planted_only_where_they_can_be(base: Path, cache: Path, tmp_path: Path) -> None:
    good = quantize(base, Scheme("rtn", 4, GROUP), TEXT, cache)
    even = quantize(base, Scheme("rtn", 4, GROUP, symmetric=True), TEXT, cache)
    with pytest.raises(InputError, match="no quantized layer 7"):
        planted.scaled(good, tmp_path / "a", 7)
    with pytest.raises(InputError, match="no quantized module mlp"):
        planted.moved(good, tmp_path / "b", 0, "mlp.nothing")
    with pytest.raises(InputError, match="no zero points"):
        planted.moved(even, tmp_path / "c", 0, "mlp.up_proj")
    with pytest.raises(InputError, match="no compressed-tensors"):
        planted.scaled(base, tmp_path / "d", 0)
    assert found(base, planted.swapped(even, tmp_path / "e", 0, "mlp.up_proj", (0, 0), (1, 0)))
