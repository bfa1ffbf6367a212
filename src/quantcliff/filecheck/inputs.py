"""The inputs that modules get while a model reads prompts."""

from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

Result = TypeVar("Result")


@torch.no_grad()
def on_inputs(
    hf: PreTrainedModel, measures: Mapping[str, Callable[[nn.Module, Tensor], Result]], prompts: Sequence[Sequence[int]]
) -> dict[str, Result]:
    """Each measure of its module's inputs (token, width), all real tokens in one table; the model runs once.

    Args:
        hf: a plain model that no `Runner` has wrapped.
        measures: by full module name, from (module, inputs) to what is kept of them.
        prompts: token ids.
    """
    lengths = torch.tensor([len(ids) for ids in prompts])
    ids = torch.zeros(len(prompts), int(lengths.max()), dtype=torch.long)
    for row, prompt in enumerate(prompts):
        ids[row, : len(prompt)] = torch.tensor(prompt)
    real = torch.arange(ids.shape[1])[None] < lengths[:, None]
    found: dict[str, Result] = {}

    def hook(name: str) -> Callable:
        def measured(module: nn.Module, args: tuple[Tensor, ...]) -> None:
            found[name] = measures[name](module, args[0].flatten(0, -2)[real.flatten()])

        return measured

    modules = dict(hf.named_modules())
    handles = [modules[name].register_forward_pre_hook(hook(name)) for name in measures]
    try:
        hf.base_model(ids.to(hf.device), use_cache=False)
    finally:
        for handle in handles:
            handle.remove()
    return found
