"""A model that one card has no room for lies on several, and all that is measured on it is what one device gives.

The cards are pretended (`cards.py`): a tensor that a real pair of cards would refuse to mix is refused here.
"""

from pathlib import Path

import pandas as pd
import pytest
import torch
from cards import card_of, pretended
from families import family, wrapped
from tiny import TEXT, save

from quantcliff import models
from quantcliff.diagnosis import diagnose
from quantcliff.errors import InputError
from quantcliff.models import spread
from quantcliff.quantizers import Scheme, export
from quantcliff.tracing import Runner, site
from quantcliff.tracing.past import remember, take

IDS = torch.randint(1, 320, (3, 9), generator=torch.Generator().manual_seed(0))
STREAM, PATTERN = site("resid_post", 0), site("pattern", 2)
CARD = 300_000
"""Bytes; a tiny model takes 206 kB, of which a card may hold 135."""


def test_pretended_cards_refuse_what_real_ones_refuse() -> None:
    with pretended(2, CARD):
        one, other = torch.ones(2, device="cuda:0"), torch.ones(2, 2).to("cuda:1")
        places = [str(tensor.device) for tensor in (one, other[0], torch.zeros_like(other), other.cpu())]
        assert places == ["cuda:0", "cuda:1", "cuda:1", "cpu"]
        with pytest.raises(RuntimeError, match="tensors on"):
            one + other
        with pytest.raises(RuntimeError, match="tensors on"):
            torch.cat([one, other[0]])
        with pytest.raises(RuntimeError, match="tensors on"):
            one @ torch.ones(2)
        with pytest.raises(TypeError, match="numpy"):
            one.numpy()
        assert float((one + other[0].to(one)).cpu().sum()) == 4


@pytest.mark.parametrize("name", ["llama", "gpt-neox", "gemma2", "bloom"])
def test_tracing(name: str) -> None:
    whole = Runner(wrapped(name))
    picked = {STREAM: lambda stream: stream[:, -1], PATTERN: lambda pattern: pattern}
    double = {site("resid_post", 1): lambda stream: 2 * stream}
    last = torch.tensor([4, 8, 6])

    def told(runner: Runner) -> list[torch.Tensor]:
        logits, seen = runner.run(IDS, record=picked, last=last)
        entered = runner.run(IDS, record=[STREAM])[1][STREAM]
        upper, _ = runner.run(entered, edits=double, start_layer=1, last=last)
        past = take(remember(runner, IDS[:, :5]), torch.tensor([2, 0, 1], device=runner.device))
        after, _ = runner.run(IDS[[2, 0, 1], 5:], past=past)
        return [logits, *seen.values(), upper, after, runner.unembed(entered)]

    expected = told(whole)
    model = wrapped(name)
    with pretended(2, int(2 * model.hf.get_memory_footprint())):
        spread.put(model.hf, "cuda", name)
        assert {card_of(weight) for weight in model.hf.parameters()} == {0, 1}
        found = [tensor.cpu() for tensor in told(Runner(model))]
    for one, other in zip(found, expected, strict=True):
        assert torch.equal(one, other)


def test_diagnose(tmp_path: Path) -> None:
    sure = family("llama")
    sure.model.norm.weight.mul_(30)  # a random model is sure of nothing
    base = save(sure, tmp_path / "base")
    text = tmp_path / "text.txt"
    text.write_text("\n".join(TEXT * 2))
    export(base, Scheme("rtn", 2, 16), (), tmp_path / "quantized")
    asked = {"text": text, "n_facts": 12}
    one = diagnose(base, tmp_path / "quantized", out=tmp_path / "one", device="cpu", **asked)
    with pretended(2, CARD):
        assert models.load(base, device="auto").hf.hf_device_map
        several = diagnose(base, tmp_path / "quantized", out=tmp_path / "several", device="auto", **asked)
    assert several.exit_code == one.exit_code
    names = sorted(file.name for file in (tmp_path / "one").glob("*.parquet"))
    assert names and names == sorted(file.name for file in (tmp_path / "several").glob("*.parquet"))
    for name in names:
        left, right = (pd.read_parquet(tmp_path / folder / name) for folder in ("one", "several"))
        pd.testing.assert_frame_equal(left, right, rtol=1e-4, atol=1e-5)


def test_where_a_model_goes(tmp_path: Path) -> None:
    base = save(family("llama"), tmp_path / "base")
    with pretended(2, 10 * CARD):
        assert {card_of(weight) for weight in models.load(base, device="cuda").hf.parameters()} == {0}
    with pretended(1, CARD):
        assert {card_of(weight) for weight in models.load(base, device="cuda").hf.parameters()} == {0}
    with pretended(2, CARD):
        assert {card_of(weight) for weight in models.load(base, device="cuda:1").hf.parameters()} == {1}
    with pretended(2, CARD // 2), pytest.raises(InputError, match=r"2 cards with .* have no room for it"):
        models.load(base, device="cuda")
