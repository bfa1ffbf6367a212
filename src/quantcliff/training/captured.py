"""Training steps on a CUDA device: many small kernels, so what limits is launching them, and a graph launches all.

The computation is that of the loop on a CPU: same batches, same optimizers, bfloat16 products. Muon orthogonalises
matrices of one shape side by side; a step is captured once as a CUDA graph and replayed with new tokens and a new rate.
Where capturing fails, steps run one kernel after the other, and a line says so.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import cast

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm
from transformers import LlamaForCausalLM

WORKERS = 2
"""Processes that write batches ahead; one writes about 150 a second."""

WARM = 3
"""Steps before the capture, in which libraries choose their kernels; they train as any other."""


class Muon(torch.optim.Muon):
    """torch's Muon with Nesterov momentum and `match_rms_adamw`; state and results are torch's, but for rounding."""

    @torch.no_grad()
    def step(self, closure: Callable | None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            by_shape: dict[torch.Size, list[Tensor]] = defaultdict(list)
            for parameter in group["params"]:
                by_shape[parameter.shape].append(parameter)
            for shape, parameters in by_shape.items():
                self._step(parameters, 0.2 * math.sqrt(max(shape)), group)

    def _step(self, parameters: list[Tensor], ratio: float, group: dict) -> None:
        rate, momentum = group["lr"], group["momentum"]
        gradients = cast(list[Tensor], [parameter.grad for parameter in parameters])
        for parameter in parameters:
            if "momentum_buffer" not in self.state[parameter]:
                self.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
        buffers = [self.state[parameter]["momentum_buffer"] for parameter in parameters]
        torch._foreach_lerp_(buffers, gradients, 1 - momentum)
        updates = torch.stack(torch._foreach_lerp(gradients, buffers, momentum))
        moved = orthogonal(updates, group["ns_coefficients"], group["ns_steps"], group["eps"]).float() * (rate * ratio)
        torch._foreach_mul_(parameters, 1 - rate * group["weight_decay"])
        torch._foreach_sub_(parameters, list(moved.unbind()))


def orthogonal(
    matrices: Float[Tensor, "n rows columns"], coefficients: tuple[float, float, float], steps: int, eps: float
) -> Float[Tensor, "n rows columns"]:
    """Newton-Schulz in bfloat16 as torch.optim.Muon does it, on many matrices at once."""
    a, b, c = coefficients
    tall = matrices.shape[1] > matrices.shape[2]
    found = (matrices.mT if tall else matrices).bfloat16()
    found = found / torch.linalg.matrix_norm(found, keepdim=True).clamp(min=eps)
    for _ in range(steps):
        gram = found @ found.mT
        found = torch.baddbmm(found, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), found, beta=a)
    return found.mT if tall else found


class Step:
    """A training step as a function of tokens and rate.

    Attributes:
        loss: of the last step, on the device.
    """

    def __init__(self, model: LlamaForCausalLM, optimizers: list[torch.optim.Optimizer], size: tuple[int, int]):
        device = next(model.parameters()).device
        model.set_attn_implementation("sdpa")
        self.model, self.optimizers = model, optimizers
        self.tokens = torch.zeros(size, dtype=torch.long, device=device)
        self.rate, self.loss = torch.zeros((), device=device), torch.zeros((), device=device)
        self.mask = torch.ones(size[1], size[1], dtype=torch.bool, device=device).tril()[None, None]
        self.places = torch.arange(size[1], device=device)[None]
        for group in (group for optimizer in optimizers for group in optimizer.param_groups):
            group["lr"] = self.rate
        self.done = 0
        self.graph: torch.cuda.CUDAGraph | None = None

    def __call__(self, tokens: Int[Tensor, "batch pos"], rate: float) -> None:
        self.tokens.copy_(tokens, non_blocking=True)
        self.rate.fill_(rate)
        if self.done == WARM and self.tokens.is_cuda:
            self._capture()
        if self.graph is not None:
            self.graph.replay()
        elif self.done < WARM and self.tokens.is_cuda:
            self._aside()
        else:
            self._run()
        self.done += 1

    def _aside(self) -> None:
        """A step on a stream of its own, as what is captured later must find nothing of autograd on the usual one."""
        side, usual = torch.cuda.Stream(), torch.cuda.current_stream()
        side.wait_stream(usual)
        with torch.cuda.stream(side):
            self._run()
        usual.wait_stream(side)

    def _run(self) -> None:
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none=True)
        with torch.autocast(self.tokens.device.type, torch.bfloat16, cache_enabled=False):
            hidden = self.model.model(
                input_ids=self.tokens, attention_mask=self.mask, position_ids=self.places
            ).last_hidden_state
            logits = self.model.lm_head(hidden[:, :-1]).float()
        loss = cross_entropy(logits.flatten(0, 1), self.tokens[:, 1:].flatten())
        loss.backward()
        self.loss = loss.detach()
        for optimizer in self.optimizers:
            optimizer.step()

    def _capture(self) -> None:
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none=True)
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(graph):
                self._run()
        except RuntimeError as error:
            tqdm.write(f"steps are not captured: {str(error).splitlines()[0]}")
            torch.cuda.synchronize()
        else:
            self.graph = graph


class _Batches(Dataset):
    def __init__(self, make: Callable[[int], np.ndarray]):
        self.make = make

    def __getitem__(self, step: int) -> Tensor:
        return torch.from_numpy(self.make(step))


def ahead(make: Callable[[int], np.ndarray], steps: range) -> Iterator[Tensor]:
    """`make` of every step in turn, written by other processes ahead of time."""
    return iter(DataLoader(_Batches(make), batch_size=None, sampler=steps, num_workers=WORKERS, prefetch_factor=32))
