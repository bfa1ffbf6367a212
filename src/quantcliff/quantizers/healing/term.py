"""A second thing that a layer may be trained for: to hand a gradient back as full precision's layer does.

With v the gradient of full precision's next-token loss behind a layer and J the derivative of the layer's output by its
input, J^T v is by the chain rule that gradient *in front of* the layer. The term is |J_Q^T v - J^T v|^2 over the mean
of |J^T v|^2, first token left out (it rules gradients), J_Q taken where the quantized stream is, J where full
precision's is. What arXiv 2605.08894 calls a smoothness-preserving principle is not published; this is *chosen*.

Control: a random v, at each token as long as the gradient there. The cost is the same: a backward pass through a
backward pass.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from quantcliff.quantizers.healing.blocks import Blocks, Stream

GRADIENT, RANDOM = "gradient", "random"


@dataclass(frozen=True, eq=False)
class Term:
    """Of one layer.

    Attributes:
        weight: how much of it is added to the loss; with 0 it is measured and not trained for.
        behind: v.
        before: J^T v.
    """

    weight: float
    behind: Stream
    before: Stream

    @property
    def unit(self) -> Tensor:
        """Mean of |J^T v|^2 per token and channel, first tokens left out."""
        return self.before[:, 1:].square().mean()

    def error(self, x: Stream, y: Stream, rows: Int[Tensor, " batch"]) -> Float[Tensor, ""]:
        """The term without its weight, with gradients.

        Args:
            x: input of the quantized layer, with gradients; y: its output, made of x.
            rows: which sequences these are.
        """
        (found,) = torch.autograd.grad(y, x, self.behind[rows], create_graph=True)
        return (found - self.before[rows])[:, 1:].square().mean() / self.unit


class Terms:
    """The terms of all layers; in memory, as many streams as there are layers.

    Args:
        full: full precision's layers.
        along: `GRADIENT` or `RANDOM`.
    """

    def __init__(self, full: Blocks, ids: Int[Tensor, "sequence token"], weight: float, along: str, seed: int = 0):
        self.full, self.weight, self.along, self.seed = full, weight, along, seed
        self.gradients = stream_gradients(full, ids)

    def of(self, layer: int, stream: Stream) -> Term:
        """The term of a layer; `stream` is full precision's in front of it."""
        behind, before = self.gradients[layer + 1], self.gradients[layer]
        if self.along == RANDOM:
            draw = torch.Generator().manual_seed(self.seed * 10_007 + layer)
            unit = nn.functional.normalize(torch.randn(behind.shape, generator=draw), dim=-1).to(behind)
            behind = unit * behind.norm(dim=-1, keepdim=True)
            before = pulled_back(self.full, layer, stream, behind)
        return Term(self.weight, behind, before)


def pulled_back(blocks: Blocks, layer: int, stream: Stream, behind: Stream) -> Stream:
    """J^T v of a layer at a stream."""
    found = []
    for x, v in zip(stream.split(blocks.rows), behind.split(blocks.rows), strict=True):
        x = x.detach().requires_grad_()
        found += torch.autograd.grad(blocks.call(layer, x), x, v)
    return torch.cat(found)


def stream_gradients(blocks: Blocks, ids: Int[Tensor, "sequence token"]) -> list[Stream]:
    """Gradient of each sequence's mean next-token loss by the stream in front of every layer, and behind the last."""
    parts: list[list[Tensor]] = []
    hf = blocks.model.hf
    for part in ids.split(blocks.rows):
        part = part.to(hf.device)
        e = hf.get_input_embeddings()(part).detach().requires_grad_()
        with _streams(blocks) as streams:
            logits = hf(inputs_embeds=e, use_cache=False).logits.float()
        log = torch.log_softmax(logits[:, :-1], -1)
        loss = -log.gather(-1, part[:, 1:, None])[..., 0].mean(-1).sum()
        parts.append([gradient.detach() for gradient in torch.autograd.grad(loss, streams)])
    return [torch.cat(own) for own in zip(*parts, strict=True)]


@contextmanager
def _streams(blocks: Blocks) -> Iterator[list[Tensor]]:
    """Inside, a run of the model leaves the stream in front of every layer, and behind the last, in the list."""
    found: list[Tensor] = []

    def before(module: nn.Module, args: tuple, named: dict) -> None:
        found.append(args[0] if args else named["hidden_states"])

    def after(module: nn.Module, args: tuple, output: object) -> None:
        found.append(output[0] if isinstance(output, tuple) else output)  # type: ignore[arg-type]

    handles = [layer.register_forward_pre_hook(before, with_kwargs=True) for layer in blocks.layers]
    handles.append(blocks.layers[-1].register_forward_hook(after))
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()
