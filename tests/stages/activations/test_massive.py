"""Massive activations and sinks, planted and measured; the largest inputs of linear layers."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from tiny import random_probes

from quantcliff import models
from quantcliff.stages.activations import massive
from quantcliff.tracing import Runner


def test_one_layer_by_hand() -> None:
    stream = torch.tensor([[[6.0, 8.0], [1.0, 0.0], [3.0, 4.0]], [[1.0, 1.0], [0.0, 2.0], [9.0, 9.0]]])
    pattern = torch.zeros(2, 2, 3, 3)
    pattern[:, 0, :, 0], pattern[:, 1, :, 0] = 1.0, 0.5
    pattern[0, 1, 2, 0] = 0.1
    inside = torch.tensor([[True, True, True], [True, True, False]])
    found = massive.of_layer(stream, pattern, inside)
    assert found["first"].tolist() == pytest.approx([0.64, 0.5])
    assert found["rest"].tolist() == pytest.approx([(1 + 0.64) / 2, 1.0])
    assert found["norm"].tolist() == pytest.approx([10 / 3, 2**0.5 / 2])
    assert found["sink"].tolist() == pytest.approx([(0.75 + 0.55) / 2, 0.75])


def test_padding_is_left_out_and_every_layer_has_a_row(tiny_llama: Path) -> None:
    runner, probes = Runner(models.load(tiny_llama)), random_probes(20)
    table = massive.measure(runner, probes)
    assert set(table["measure"]) == {"first", "rest", "norm", "sink"} and len(table) == 4 * 3
    one = [massive.measure(runner, probes.select([row])) for row in range(20)]
    mean = np.mean([part["estimate"] for part in one], axis=0)
    assert np.allclose(table["estimate"], mean, rtol=1e-4) and (table["n"] == 20).all()


def test_the_middle_third() -> None:
    table = pd.DataFrame({"measure": "sink", "layer": range(8), "estimate": [0, 0, 1, 2, 3, 9, 9, 9.0]})
    assert massive.middle(table, "sink") == pytest.approx(2.0)
    assert massive.middle(table[:1], "sink") == 0.0


def test_the_largest_input_with_and_without_the_first_token(tiny_llama: Path) -> None:
    model = models.load(tiny_llama)
    hf = model.hf
    with torch.no_grad():
        hf.model.embed_tokens.weight[0] *= 50
    documents = [[0, 5], [0, 7]]
    found = massive.largest(model, documents)
    names = models.linears(hf.config)
    assert set(found["all"]) == set(found["rest"]) == set(names)
    read = []
    handle = hf.model.layers[0].self_attn.q_proj.register_forward_pre_hook(lambda _, args: read.append(args[0][0]))
    for ids in documents:
        hf(torch.tensor([ids]))
    handle.remove()
    name = "model.layers.0.self_attn.q_proj"
    assert found["all"][name] == pytest.approx(max(float(x.abs().max()) for x in read))
    assert found["rest"][name] == pytest.approx(max(float(x[1:].abs().max()) for x in read))
    assert all(found["all"][name] >= found["rest"][name] for name in names)
    assert not any(module._forward_pre_hooks for module in hf.modules())
