"""Where a GPU's memory does not reach for a batch, half of it is tried, said once, and no number changes.

The GPU is a fake: a runner that raises PyTorch's own error when it is given too many rows.
"""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from tiny import random_probes

from quantcliff import models
from quantcliff.errors import InputError
from quantcliff.probes import Probes
from quantcliff.tracing import Patch, Runner, Trace, batches, chain, one_at_a_time, relay, score, sweep
from quantcliff.tracing.batches import patiently


@pytest.fixture(scope="module")
def runner(tiny_llama: Path) -> Runner:
    return Runner(models.load(tiny_llama))


@pytest.fixture(scope="module")
def probes() -> Probes:
    return random_probes(14)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch):
    """Lets a run have so many rows and no more; counts the refusals."""
    run, refused = Runner.run, []

    def limit(most: int) -> list[int]:
        def limited(self: Runner, ids: torch.Tensor, *rest: object, **named: object):
            if len(ids) > most:
                refused.append(len(ids))
                raise torch.cuda.OutOfMemoryError("CUDA out of memory")
            return run(self, ids, *rest, **named)

        monkeypatch.setattr(Runner, "run", limited)
        return refused

    return limit


def test_scores_do_not_change_and_the_new_size_is_said_and_kept(runner, probes, small, capsys) -> None:
    plain = score(runner, probes, size=7)
    refused = small(3)
    pd.testing.assert_frame_equal(score(runner, probes, size=7), plain, rtol=1e-4)
    assert refused == [7], "the second batch begins at the size that fitted"
    assert capsys.readouterr().err.count("the GPU's memory is full; going on with 3 prompts at once") == 1


def test_streams_do_not_change(runner, probes, small, tmp_path: Path) -> None:
    def all_of_it(folder: str) -> list[np.ndarray]:
        trace = Trace.record(runner, probes, ["resid_post", "pattern"], "all", tmp_path / folder, size=8)
        cut = relay(runner, runner, [0, 1, 3], probes)
        streams = [*cut.values(), chain([runner] * runner.n_layers, probes), one_at_a_time(runner, runner, probes)]
        return [trace["resid_post"], trace["pattern"], *(stream.numpy() for stream in streams)]

    plain = all_of_it("plain")
    refused = small(3)
    for ours, theirs in zip(all_of_it("small"), plain, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-5)
    assert len(refused) >= 4, "every way of running was refused at first"


def test_a_sweep_does_not_change(runner, small, tmp_path: Path) -> None:
    probes = random_probes(16)
    trace = Trace.record(runner, probes, ["resid_post", "mlp_out"], "all", tmp_path)
    patches = [Patch(kind, "all", "same", 1, layer) for kind in ("resid_post", "mlp_out") for layer in range(3)]
    rows, partner = np.arange(16), np.full(16, -1)
    plain = sweep(runner, trace, probes, rows, partner, patches, size=8)
    refused = small(5)
    pd.testing.assert_frame_equal(sweep(runner, trace, probes, rows, partner, patches, size=8), plain, rtol=1e-4)
    assert refused


def test_one_prompt_that_does_not_fit_is_one_sentence(runner, probes, small) -> None:
    small(0)
    with pytest.raises(InputError, match="does not hold one prompt beside the model; use dtype bfloat16 or device cpu"):
        score(runner, probes)


def test_other_errors_are_not_swallowed(probes) -> None:
    def work(batch: object) -> None:
        raise RuntimeError("something else")

    with pytest.raises(RuntimeError, match="something else"):
        patiently(batches(probes), work)


def test_halves_are_padded_no_further_than_they_must_be(probes) -> None:
    whole = next(batches(probes, 13))
    first, second = whole.halves()
    assert (len(first), len(second)) == (6, 7)
    for part, rows in ((first, slice(0, 6)), (second, slice(6, 13))):
        assert part.ids.shape[1] == part.lengths.max()
        assert part.indices.tolist() == whole.indices[rows].tolist()
        for ids, length, index in zip(part.ids, part.lengths, part.indices, strict=True):
            assert ids[:length].tolist() == probes.input_ids[index]
