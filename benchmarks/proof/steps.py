"""A training that was killed goes on: its parameters, its optimizers and its step in one file, written whole."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.optim import Optimizer


def save(file: Path, parameters: Mapping[str, Tensor], optimizers: Sequence[Optimizer], step: int) -> None:
    """Keep what `restore` needs; `step` is the number of steps that are done."""
    file.parent.mkdir(parents=True, exist_ok=True)
    tensors = {f"model.{name}": value for name, value in parameters.items()} | {"step": torch.tensor(step)}
    for number, optimizer in enumerate(optimizers):
        for index, state in optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{number}.{index}.{name}": value for name, value in state.items()}
    part = file.with_suffix(".part")
    save_file({name: value.detach().contiguous() for name, value in tensors.items()}, part)
    part.replace(file)


@torch.no_grad()
def restore(file: Path | None, parameters: Mapping[str, Tensor], optimizers: Sequence[Optimizer]) -> int:
    """Put back what `save` kept, in place; the number of steps that are done, 0 where nothing was kept."""
    if file is None or not file.is_file():
        return 0
    tensors = load_file(file)
    for name, parameter in parameters.items():
        parameter.copy_(tensors[f"model.{name}"])
    for number, optimizer in enumerate(optimizers):
        state: dict[int, dict[str, Tensor]] = {}
        for name, value in tensors.items():
            if name.startswith(f"optimizer.{number}."):
                _, _, index, key = name.split(".", 3)
                state.setdefault(int(index), {})[key] = value
        optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
    return int(tensors["step"])
