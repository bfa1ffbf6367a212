"""Steps for a CUDA device: on a CPU nothing is captured, and what they compute is what the plain loop computes."""

from copy import deepcopy
from pathlib import Path

import numpy as np
import pytest
import torch

from quantcliff.training import captured
from quantcliff.training import train as training

TINY = training.Recipe(layers=2, width=32, ffn=48, vocab=300, length=16, batch=8)


def tokens(n: int) -> list[torch.Tensor]:
    draw = np.random.default_rng(0)
    return [torch.from_numpy(draw.integers(1, TINY.vocab, (TINY.batch, TINY.length))) for _ in range(n)]


def test_on_a_cpu_the_plain_loop_trains(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: object) -> None:
        raise AssertionError("a captured step on a CPU")

    facts = training.load_facts()[:40]
    monkeypatch.setattr(training, "load_facts", lambda: facts)
    for name in ("Step", "Muon", "ahead"):
        monkeypatch.setattr(captured, name, never)
    small = training.Recipe(layers=1, width=32, ffn=32, vocab=400, length=8, batch=2, stop=1, warmup=1)
    with torch._dynamo.config.patch(disable=True):
        training.train(tmp_path, small)
    assert (tmp_path / "model" / "model.safetensors").is_file()


def test_steps_without_a_device_are_the_plain_ones() -> None:
    """Five steps: losses agree, and so do weights, but for the rounding of bfloat16 products in attention, which is
    fused here and eager in the plain loop. That alone parts these weights by .19 of their way.
    """
    plain = training.build_model(TINY)
    start = deepcopy(plain.state_dict())
    optimizers = training.build_optimizers(plain, TINY)
    with torch._dynamo.config.patch(disable=True):
        step = training._Step(plain, optimizers)
    other = training.build_model(TINY)
    muon, adamw = training.build_optimizers(other, TINY)
    group = muon.param_groups[0]
    own = captured.Muon(group["params"], lr=TINY.lr, weight_decay=TINY.weight_decay, adjust_lr_fn="match_rms_adamw")
    taken = captured.Step(other, [own, adamw], (TINY.batch, TINY.length))
    for batch in tokens(5):
        with torch._dynamo.config.patch(disable=True):
            step(batch, 3e-3)
        taken(batch, 3e-3)
        assert taken.loss.item() == pytest.approx(step.loss.item(), rel=5e-3)
    assert taken.graph is None and taken.done == 5
    for name, value in plain.state_dict().items():
        moved = (value - start[name]).norm()
        assert (other.state_dict()[name] - value).norm() < 0.3 * moved + 1e-6, name


@pytest.mark.parametrize("shape", [(8, 24), (24, 8), (16, 16)])
def test_muon_moves_as_torchs_does(shape: tuple[int, int]) -> None:
    torch.manual_seed(0)
    firsts = [torch.nn.Parameter(torch.randn(shape)) for _ in range(3)]
    ours = [torch.nn.Parameter(one.detach().clone()) for one in firsts]
    settings = {"lr": 0.01, "weight_decay": 0.1, "adjust_lr_fn": "match_rms_adamw"}
    start = [one.detach().clone() for one in firsts]
    optimizers = [torch.optim.Muon(firsts, **settings), captured.Muon(ours, **settings)]
    for _ in range(4):
        for one, other in zip(firsts, ours, strict=True):
            one.grad = torch.randn(shape)
            other.grad = one.grad.clone()
        for optimizer in optimizers:
            optimizer.step()
    for one, other, before in zip(firsts, ours, start, strict=True):
        assert (one - other).norm() < 0.02 * (one - before).norm()


def test_batches_come_in_the_order_of_steps() -> None:
    made = captured.ahead(lambda step: np.full((1, 2), step), range(3, 8))
    assert [int(batch[0, 0]) for batch in made] == [3, 4, 5, 6, 7]
