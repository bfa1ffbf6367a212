"""Gradients are those of the loss by the embeddings, finite slopes and Jacobians those of small cases done by hand."""

from pathlib import Path

import pytest
import torch
from tiny import TEXT
from transformers import PretrainedConfig, PreTrainedModel

from quantcliff import models
from quantcliff.models import Model
from quantcliff.quantizers.healing import rows_of
from quantcliff.quantizers.healing.blocks import Blocks
from quantcliff.stages.smoothness import slopes


@pytest.fixture(scope="module", params=["tiny_llama", "tiny_gemma"])
def model(request: pytest.FixtureRequest) -> Model:
    """Of the second the head is the embedding matrix."""
    return models.load(request.getfixturevalue(request.param))


@pytest.fixture(scope="module")
def ids(model: Model) -> torch.Tensor:
    return rows_of(model.tokenizer, TEXT * 3, 10, 10)


def test_a_gradient_is_what_the_loss_changes_by(model: Model) -> None:
    draw = torch.Generator().manual_seed(0)
    ids = torch.randint(1, 320, (10, 10), generator=draw)
    one, two = slopes.input_gradients(model.hf, ids, (1.0, 0.5))
    e = slopes.embedded(model.hf, ids)
    step = torch.zeros_like(e)
    step[:, 4] = torch.randn(e.shape[-1], generator=draw)
    for tau, gradient in ((1.0, one), (0.5, two)):
        with torch.no_grad():
            ends = [slopes.loss(tau * model.hf(inputs_embeds=e + sign * 1e-3 * step).logits, ids) for sign in (1, -1)]
        there = (ends[0] - ends[1]) / 2e-3
        torch.testing.assert_close((gradient * step).sum((1, 2)), there, rtol=0.03, atol=5e-3)
    assert not torch.allclose(one, two, rtol=0.1) and (one[:, -1] == 0).all(), "nothing follows the last token"


def test_the_loss_is_that_of_the_next_token(model: Model, ids: torch.Tensor) -> None:
    with torch.no_grad():
        logits = model.hf(ids).logits
    pairs = zip(logits, ids, strict=True)
    want = [sum(-torch.log_softmax(row[t], -1)[own[t + 1]] for t in range(9)) / 9 for row, own in pairs]
    torch.testing.assert_close(slopes.loss(logits, ids), torch.stack(want), rtol=1e-4, atol=1e-4)


def test_norms_count_in_embedding_norms_and_only_where_asked() -> None:
    gradient, e = torch.tensor([[[3.0, 4.0], [0.0, 2.0]]]), torch.tensor([[[1.0, 0.0], [0.0, 7.0]]])
    norms = slopes.scaled_norms(gradient, e)
    assert norms.tolist() == [[5.0, 14.0]]
    assert slopes.averaged(norms, torch.tensor([[False, True]])).tolist() == [14.0]
    assert slopes.averaged(norms, torch.tensor([[True, True]])).tolist() == [9.5]
    values = torch.tensor([[9.0, 1.0, torch.e**2]])
    assert slopes.spread(values, torch.tensor([[False, True, True]])).tolist() == pytest.approx([1.0])
    cosine = slopes.cosines(gradient, torch.tensor([[[-3.0, -4.0], [0.0, 0.0]]]))
    assert cosine[0].tolist() == pytest.approx([-1.0, 0.0])


class Straight(PreTrainedModel):
    """Logits are a matrix times the embedding of each token alone."""

    def __init__(self, matrix: torch.Tensor):
        super().__init__(PretrainedConfig())
        self.matrix = torch.nn.Parameter(matrix)

    def get_input_embeddings(self) -> torch.nn.Module:
        return torch.nn.Embedding.from_pretrained(torch.eye(3))

    def forward(self, inputs_embeds: torch.Tensor, use_cache: bool = False) -> object:
        return type("Out", (), {"logits": inputs_embeds @ self.matrix.T})


def test_a_finite_slope_is_a_distance_over_a_step() -> None:
    matrix = torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.0, 0.0]])
    ids, inside = torch.tensor([[0, 1, 2, 1]]), torch.tensor([[False, True, True, False]])
    found = slopes.finite_slopes(Straight(matrix), ids, inside, (0.1, 0.2), 2.0, 3, (1.0, 2.0), seed=5)
    assert found.shape == (2, 2, 1)
    draw, means = torch.Generator().manual_seed(5), torch.zeros(2, 2)
    for _ in range(3):
        u = torch.nn.functional.normalize(torch.randn(1, 4, 3, generator=draw), dim=-1)[0]
        for number, tau in enumerate((1.0, 2.0)):
            for place, r in enumerate((0.1, 0.2)):
                for t in (1, 2):
                    e = torch.eye(3)[ids[0, t]]
                    ends = [torch.log_softmax(tau * matrix @ (e + moved * 2.0 * u[t]), -1) for moved in (r, 0.0)]
                    means[number, place] += (ends[0] - ends[1]).square().sum().sqrt() / r / 2 / 3
    torch.testing.assert_close(found[..., 0], means, rtol=1e-3, atol=1e-4)


def test_jacobians_are_those_of_the_layers(model: Model, ids: torch.Tensor) -> None:
    few = ids[:2]
    inside = torch.ones_like(few, dtype=torch.bool)
    inside[:, 0] = False
    blocks = Blocks(model, few[:1])
    inner, whole = slopes.jacobian_norms(blocks, few, inside, probes=200)
    assert inner.shape == whole.shape == (3, 2) and (whole >= inner).all()
    layer, row = 1, 1
    stream = [blocks.start(few)]
    for number in range(3):
        stream.append(blocks.call(number, stream[-1]).detach())

    def top(x: torch.Tensor) -> torch.Tensor:
        x = x[None]
        for number in range(layer, 3):
            x = blocks.call(number, x)
        return x[0, 1:]

    exact = torch.autograd.functional.jacobian(top, stream[layer][row])[:, :, 1:]
    n, width = exact.shape[:2]
    sizes = [part[row, 1:].square().sum(-1).mean().sqrt() for part in (stream[layer], stream[3])]
    want = (exact.square().sum() / width / n).sqrt() * sizes[0] / sizes[1]
    assert float(inner[layer, row]) == pytest.approx(float(want), rel=0.15)


def test_a_layer_that_adds_nothing_has_a_jacobian_of_one(tiny_llama: Path) -> None:
    model = models.load(tiny_llama)
    with torch.no_grad():
        for name, weight in model.hf.named_parameters():
            if name.endswith(("o_proj.weight", "down_proj.weight")):
                weight.zero_()
    ids = rows_of(model.tokenizer, TEXT, 10, 4)
    inside = torch.ones_like(ids, dtype=torch.bool)
    inner, whole = slopes.jacobian_norms(Blocks(model, ids[:1]), ids, inside, probes=200)
    assert torch.allclose(inner, torch.ones(3, 4), atol=0.05) and torch.equal(inner, whole)
