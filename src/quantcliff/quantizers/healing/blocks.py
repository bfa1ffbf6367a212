"""The decoder layers of a model run one by one on streams kept in memory."""

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.func import functional_call

from quantcliff.errors import InputError
from quantcliff.models import LAYER, Model, linears

Stream = Float[Tensor, "sequence token d_model"]


class Blocks:
    """Layers of one model, each callable by itself on sequences of one length.

    What a layer is given beside the stream (mask, positions) depends on the length alone where nothing is padded; it is
    taken from one run of the whole model.

    Raises:
        InputError: layers run one by one do not give what the model gives.
    """

    def __init__(self, model: Model, ids: Int[Tensor, "sequence token"], rows: int = 32):
        self.model, self.rows = model, rows
        root = LAYER.split(next(iter(linears(model.hf.config))), maxsplit=1)[0]
        layers = model.hf.get_submodule(root)
        assert isinstance(layers, nn.ModuleList)
        self.layers = layers
        self._given: list[tuple[tuple, dict[str, Any]]] = []
        self._look(ids[:1].to(model.hf.device))

    def __len__(self) -> int:
        return len(self.layers)

    def call(self, layer: int, stream: Stream, weights: Mapping[str, Tensor] | None = None) -> Stream:
        """A layer's output; `weights` replaces parameters by their names inside the layer."""
        args, named = self._given[layer]
        found = functional_call(self.layers[layer], dict(weights or {}), (stream, *args), named)
        return found[0] if isinstance(found, tuple) else found

    @torch.no_grad()
    def whole(self, layer: int, stream: Stream, weights: Mapping[str, Tensor] | None = None) -> Stream:
        """`call` of a long stream, some sequences at a time."""
        return torch.cat([self.call(layer, part, weights) for part in stream.split(self.rows)])

    @torch.no_grad()
    def start(self, ids: Int[Tensor, "sequence token"]) -> Stream:
        """What the first layer is given."""
        return torch.cat(list(self._embedded(ids)))

    def _embedded(self, ids: Tensor) -> Iterator[Tensor]:
        seen: list[Tensor] = []

        def stop(module: nn.Module, args: tuple, named: dict[str, Any]) -> None:
            seen.append(args[0] if args else named["hidden_states"])
            raise _Enough

        handle = self.layers[0].register_forward_pre_hook(stop, with_kwargs=True)
        try:
            for part in ids.split(self.rows):
                try:
                    self.model.hf(part.to(self.model.hf.device), use_cache=False)
                except _Enough:
                    yield seen.pop()
        finally:
            handle.remove()

    @torch.no_grad()
    def _look(self, ids: Tensor) -> None:
        """Keep what every layer is given, and try whether that is all it needs."""
        outputs: list[Tensor] = []

        def before(module: nn.Module, args: tuple, named: dict[str, Any]) -> None:
            named = {name: value for name, value in named.items() if name != "hidden_states"}
            self._given.append((args[1:], named))

        def after(module: nn.Module, args: tuple, output: Any) -> None:
            outputs.append(output[0] if isinstance(output, tuple) else output)

        handles = [layer.register_forward_pre_hook(before, with_kwargs=True) for layer in self.layers]
        handles += [layer.register_forward_hook(after) for layer in self.layers]
        try:
            self.model.hf(ids, use_cache=False)
        finally:
            for handle in handles:
                handle.remove()
        stream = self.start(ids)
        for layer, output in enumerate(outputs):
            stream = self.call(layer, stream)
            if len(outputs) != len(self) or not torch.allclose(stream, output, rtol=1e-3, atol=1e-3):
                raise InputError(
                    f"layers of {self.model.hf.config.model_type} models cannot be run one by one; choose a Llama, "
                    "Mistral, Qwen, Gemma 2 or GPT-NeoX model"
                )


class _Enough(Exception):  # noqa: N818  not an error
    pass
