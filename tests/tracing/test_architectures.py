"""Runs, parts of runs and sites mean the same in every architecture; what a layer does not have is absent."""

from pathlib import Path

import numpy as np
import pytest
import torch
from families import FAMILIES, MIXTURES, family, wrapped
from tiny import random_probes

from quantcliff.tracing import Runner, Trace, site

IDS = torch.randint(1, 320, (3, 9), generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module", params=FAMILIES)
def name(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def runner(name: str) -> Runner:
    return Runner(wrapped(name))


def close(one: torch.Tensor, other: torch.Tensor) -> bool:
    return torch.allclose(one, other, atol=1e-4 * float(other.abs().max()), rtol=0)


def test_logits_are_those_of_plain_transformers(name: str, runner: Runner) -> None:
    plain = family(name)
    plain.set_attn_implementation("eager")  # the others leave out Gemma 2's soft cap
    assert close(runner.logits(IDS), plain(IDS).logits.float())


def test_upper_part_lower_part_and_head_alone(runner: Runner) -> None:
    streams = [site("resid_post", layer) for layer in range(3)]
    full, seen = runner.run(IDS, record=streams)
    for start in (1, 2, 3):
        assert close(runner.run(seen[streams[start - 1]], start_layer=start)[0], full)
    assert close(runner.unembed(seen[streams[2]]), full)
    for end in (1, 2):
        assert close(runner.run(IDS, end_layer=end)[0], runner.unembed(seen[streams[end - 1]]))


def test_the_head_at_the_last_tokens_alone(runner: Runner) -> None:
    last = torch.tensor([8, 5, 3])
    assert close(runner.run(IDS, last=last)[0], runner.logits(IDS)[torch.arange(3), last])


def test_width_of_the_ffn_is_read_off_a_run(name: str, runner: Runner) -> None:
    if name in MIXTURES:
        assert runner.d_ffn is None
        return
    layer = runner.layers_of("post")[-1]
    _, seen = runner.run(IDS, record=[site("post", layer)])
    assert runner.d_ffn == seen[site("post", layer)].shape[-1] == (128 if name in ("gpt2", "bloom", "falcon") else 64)


def test_what_each_site_is_called_it_is(name: str, runner: Runner) -> None:
    kinds = [kind for kind in ("gate", "post", "mlp_in", "mlp_out", "pattern") if 1 in runner.layers_of(kind)]
    _, seen = runner.run(IDS, record=[site(kind, 1) for kind in kinds])
    for own, other in (("gate", "mlp_in"), ("post", "mlp_out")):
        assert (own in kinds) == (name not in MIXTURES)
        if own in kinds:
            a, b = seen[site(own, 1)], seen[site(other, 1)]
            assert a.shape != b.shape or not torch.equal(a, b)
    attention = seen[site("pattern", 1)].sum(-1)
    assert (attention < 0.999).any() if name == "gpt-oss" else torch.allclose(attention, torch.ones(()), atol=1e-4)


@pytest.mark.parametrize("name", ["mixtral", "lfm2"])
def test_a_trace_holds_nan_where_a_layer_has_no_such_site(name: str, tmp_path: Path) -> None:
    runner, probes = Runner(wrapped(name)), random_probes()
    trace = Trace.record(runner, probes, ["pattern", "gate", "mlp_out"], "last", tmp_path)
    there = {
        kind: ~np.isnan(trace[kind]).all(axis=(0, *range(2, trace[kind].ndim)))
        for kind in ("pattern", "gate", "mlp_out")
    }
    assert there["mlp_out"].all()
    assert list(there["pattern"]) == ([True] * 3 if name == "mixtral" else [False, True, False])
    assert list(there["gate"]) == [name != "mixtral"] * 3
    _, seen = runner.run(torch.tensor([probes.input_ids[0]]), record=[site("pattern", 1)])
    np.testing.assert_allclose(
        trace["pattern"][0, 1, :, : probes.lengths[0]], seen[site("pattern", 1)][0, :, -1], atol=1e-6
    )
