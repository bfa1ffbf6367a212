"""What a unit costs by its gradients alone: the rival of measuring it.

A weight that moves by d costs about F d^2 / 2, where F is its diagonal empirical Fisher information, the mean square of
its gradient. NVIDIA's Model-Optimizer and AutoRound's AutoScheme allocate bits by relatives of this; here it is written
from the formula.
"""

import copy

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from tqdm import tqdm
from transformers import PreTrainedModel

from quantcliff.stages.mixture.readings import products
from quantcliff.stages.mixture.sensitivity import Subject

Squares = dict[str, Tensor]
"""Mean squared gradients of matrices by full module name."""


def damage(subject: Subject) -> dict[str, Float[np.ndarray, "unit option"]]:
    """Foretold increase of the losses facts (nats an answer) and text (nats a token)."""
    found = {"facts": information(subject, "facts"), "text": information(subject, "text")}
    exact = {name: subject.study.base.hf.get_submodule(name).weight.detach() for name in found["facts"]}
    columns: dict[str, list[list[float]]] = {name: [] for name in found}
    for bits in subject.options:
        own = subject.uniform(bits)
        for signal, squares in found.items():
            moved = {name: float((squares[name] * (own[name] - exact[name]) ** 2).sum()) / 2 for name in exact}
            columns[signal].append([sum(moved[name] for name in names) for names in subject.units.values()])
    return {signal: np.array(rows).T for signal, rows in columns.items()}


def information(subject: Subject, signal: str) -> Squares:
    """Of the answers of the choosing half's facts, a mean over facts; or of its text, over tokens, each piece's
    gradient squared as one (tokens of a piece are taken to be independent)."""
    hf = copy.deepcopy(subject.study.base.hf).requires_grad_(False)
    weights = {name: hf.get_submodule(name).weight for names in subject.units.values() for name in names}
    for weight in weights.values():
        weight.requires_grad_(True)
    half = subject.choosing
    asked: list[tuple[list[int], list[int] | None]] = [(ids, None) for ids in half.pieces]
    count = sum(len(ids) - 1 for ids in half.pieces)
    if signal == "facts":
        asked, count = list(zip(half.facts.input_ids, half.facts.answers, strict=True)), len(half.facts)
    total = {name: torch.zeros_like(weight) for name, weight in weights.items()}
    for ids, answers in tqdm(asked, desc=f"gradients, {signal}", leave=False, disable=None):
        with products(subject.precision):
            grads = torch.autograd.grad(loss(hf, ids, answers), list(weights.values()))
        for name, grad in zip(weights, grads, strict=True):
            total[name].addcmul_(grad, grad, value=1 / count)
    return total


def loss(hf: PreTrainedModel, ids: list[int], answers: list[int] | None) -> Tensor:
    """Of the likeliest right answer to a prompt, or without answers of a whole text but its first token, in nats."""
    row = torch.tensor(ids, device=hf.device)
    logits = hf(row[None]).logits[0]
    if answers is None:
        return torch.nn.functional.cross_entropy(logits[:-1], row[1:], reduction="sum")
    return -torch.log_softmax(logits[-1], -1)[answers].max()
