"""How much a model's predictions move with its input: by gradients, by finite steps, and layer by layer.

Derivatives are taken of the input *embeddings*, as numbers of their own: where the head is the embedding matrix, the
matrix stays as it is. Weight quantization leaves a network smooth in its inputs, so that these gradients are exact.

`taus`: the logits are multiplied by each of these in turn before anything else.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from transformers import PreTrainedModel

from quantcliff.quantizers.healing.blocks import Blocks

ROWS = 8
"""Sequences side by side, since logits of all their places are held."""

Ids = Int[Tensor, "sequence token"]
Inside = Bool[Tensor, "sequence token"]


def embedded(hf: PreTrainedModel, ids: Ids) -> Float[Tensor, "sequence token d_model"]:
    """What the first layer is given, cut off from the matrix."""
    return hf.get_input_embeddings()(ids.to(hf.device)).detach()


def loss(logits: Float[Tensor, "sequence token vocab"], ids: Ids) -> Float[Tensor, " sequence"]:
    """Mean negative log-likelihood of the next token, nats."""
    log = torch.log_softmax(logits[:, :-1], -1)
    return -log.gather(-1, ids[:, 1:, None].to(log.device))[..., 0].mean(-1)


def input_gradients(
    hf: PreTrainedModel, ids: Ids, taus: Sequence[float] = (1.0,)
) -> Float[Tensor, "tau sequence token d_model"]:
    """d loss / d e, of each sequence's own loss."""
    found: list[Tensor] = []
    for part in ids.split(ROWS):
        e = embedded(hf, part).requires_grad_()
        logits = hf(inputs_embeds=e, use_cache=False).logits.float()
        grads = [torch.autograd.grad(loss(tau * logits, part).sum(), e, retain_graph=True)[0] for tau in taus]
        found.append(torch.stack(grads).float().cpu())
    return torch.cat(found, 1)


def scaled_norms(
    gradient: Float[Tensor, "sequence token d_model"], e: Float[Tensor, "sequence token d_model"]
) -> Float[Tensor, "sequence token"]:
    """|e| |g|: what a step of a share of the embedding may change, in nats. |g| alone grows as embeddings shrink."""
    return gradient.norm(dim=-1) * e.float().cpu().norm(dim=-1)


def averaged(values: Float[Tensor, "sequence token"], inside: Inside) -> Float[Tensor, " sequence"]:
    """Mean over the tokens that count."""
    return (values * inside).sum(-1) / inside.sum(-1)


def spread(norms: Float[Tensor, "sequence token"], inside: Inside) -> Float[Tensor, " sequence"]:
    """Standard deviation over tokens of log norms."""
    log = norms.clamp(min=torch.finfo(norms.dtype).tiny).log()
    mean = averaged(log, inside)[:, None]
    return averaged((log - mean).square(), inside).sqrt()


def cosines(
    one: Float[Tensor, "sequence token d_model"], other: Float[Tensor, "sequence token d_model"]
) -> Float[Tensor, "sequence token"]:
    """Of the gradients at each token; 0 where one of them is 0."""
    return torch.nn.functional.cosine_similarity(one, other, dim=-1, eps=1e-30)


@torch.no_grad()
def finite_slopes(
    hf: PreTrainedModel, ids: Ids, inside: Inside, radii: Sequence[float], unit: float, directions: int,
    taus: Sequence[float] = (1.0,), seed: int = 0,
) -> Float[Tensor, "tau radius sequence"]:  # fmt: skip
    """|log p(e + r u) - log p(e)| / r, Euclidean over the vocabulary, mean over tokens and directions.

    Every token that counts is moved along a direction of its own, all of one length; the same for every model.

    Args:
        radii: r, in units of `unit`.
        unit: mean norm of an embedding.
    """
    found = torch.zeros(len(taus), len(radii), len(ids))
    draw = torch.Generator().manual_seed(seed)
    for rows in torch.arange(len(ids)).split(ROWS):
        part, here = ids[rows], inside[rows]
        e = embedded(hf, part)
        before = _log_probabilities(hf, e, taus)
        for _ in range(directions):
            u = torch.nn.functional.normalize(torch.randn(e.shape, generator=draw), dim=-1)
            u = (u * here[..., None] * unit).to(e)
            for place, radius in enumerate(radii):
                after = _log_probabilities(hf, e + radius * u, taus)
                for number, (one, other) in enumerate(zip(after, before, strict=True)):
                    moved = (one - other).norm(dim=-1).cpu() / radius
                    found[number, place, rows] += averaged(moved, here) / directions
    return found


def _log_probabilities(hf: PreTrainedModel, e: Tensor, taus: Sequence[float]) -> list[Tensor]:
    logits = hf(inputs_embeds=e, use_cache=False).logits.float()
    return [torch.log_softmax(tau * logits, -1) for tau in taus]


def jacobian_norms(
    blocks: Blocks, ids: Ids, inside: Inside, probes: int, seed: int = 0
) -> tuple[Float[Tensor, "layer sequence"], Float[Tensor, "layer sequence"]]:
    """How much of a relative change of the stream before each layer arrives behind the last, by Hutchinson's estimator.

    J is d h_L / d h_l, |J|_F^2 / d is the mean over v ~ N(0, I/d) of |J^T v|^2. With v at the n tokens that count:
    sqrt(mean |J^T v|^2 / n) |h_l| / |h_L|; 1 if all layers above handed their input on and added nothing.

    Returns:
        Summed over the tokens that count alone, and over all (the first among them); one number a layer and sequence.
    """
    draw = torch.Generator().manual_seed(seed)
    parts: list[tuple[Tensor, Tensor]] = []
    for rows in torch.arange(len(ids)).split(ROWS):
        here = inside[rows]
        streams = [blocks.start(ids[rows]).requires_grad_()]
        for layer in range(len(blocks)):
            streams.append(blocks.call(layer, streams[-1]))
        last, width = streams.pop(), streams[0].shape[-1]
        total = torch.zeros(2, len(streams), len(rows))
        for probe in range(probes):
            v = torch.randn(last.shape, generator=draw) * here[..., None] / width**0.5
            grads = torch.autograd.grad(last, streams, v.to(last), retain_graph=probe + 1 < probes)
            for layer, grad in enumerate(grads):
                squares = grad.square().sum(-1).cpu()
                total[0, layer] += (squares * here).sum(-1) / probes
                total[1, layer] += squares.sum(-1) / probes
        size = torch.stack([_size(stream, here) for stream in streams]) / _size(last, here)
        found = (total / here.sum(-1)).sqrt() * size
        parts.append((found[0], found[1]))
    inner, whole = (torch.cat(part, 1) for part in zip(*parts, strict=True))
    return inner, whole


def _size(stream: Tensor, inside: Tensor) -> Tensor:
    """Root of the mean squared norm of the stream at tokens that count."""
    return averaged(stream.detach().square().sum(-1).cpu(), inside).sqrt()
