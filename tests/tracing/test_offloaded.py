"""A model whose layers lie in several places (accelerate's `dispatch_model`) runs as one that lies in one."""

from pathlib import Path

import pytest
import torch
from accelerate import dispatch_model
from families import wrapped

from quantcliff.tracing import Runner, site

IDS = torch.randint(1, 320, (3, 9), generator=torch.Generator().manual_seed(0))
STREAM = site("resid_post", 0)


@pytest.mark.parametrize(("name", "top"), [("llama", "model"), ("gpt-neox", "gpt_neox")])
def test_one_layer_on_disk(tmp_path: Path, name: str, top: str) -> None:
    whole, spread = wrapped(name), wrapped(name)
    places = {f"{top}.{part}": "cpu" for part, _ in spread.hf.get_submodule(top).named_children() if part != "layers"}
    places |= {f"{top}.layers.{layer}": "disk" if layer == 1 else "cpu" for layer in range(3)}
    places |= {part: "cpu" for part, _ in spread.hf.named_children() if part != top}
    dispatch_model(spread.hf, places, main_device="cpu", offload_dir=tmp_path, force_hooks=True)
    assert {weight.device.type for weight in spread.hf.parameters()} == {"cpu", "meta"}
    one, other = Runner(whole), Runner(spread)
    expected, seen = one.run(IDS, record=[STREAM, site("pattern", 1)])
    found, own = other.run(IDS, record=list(seen))
    assert torch.equal(found, expected)
    assert all(torch.equal(own[key], seen[key]) for key in seen)
    double = {STREAM: lambda stream: 2 * stream}
    assert torch.equal(other.run(IDS, edits=double)[0], one.run(IDS, edits=double)[0])
    assert torch.equal(other.run(own[STREAM], start_layer=1)[0], one.run(seen[STREAM], start_layer=1)[0])
