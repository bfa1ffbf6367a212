"""What a model quantizes while it runs (`models.Served`), done in every forward pass, a prompt read in one go included.

Numbers are rounded by compressed-tensors, which vLLM and llm-compressor round by too: inputs of linear layers by the
forward that it gives a layer with `input_activations`; keys and values, after rotary positions, in its
`QuantizedKVCache`, which stands in the cache's place whether or not there is one. Three things are added here.

- Its "token" strategy keeps the first two axes of a tensor. Of an input these are prompt and token; of keys they are
  prompt and *head*, and one scale would be shared by all tokens, padding included. So a scale for each token of a head
  is asked for as one group as wide as the head.
- A scale for each channel (KIVI, arXiv 2402.02750): the same on keys turned over, with tokens in groups. KIVI itself
  leaves the last 128 tokens alone, which would be all of these prompts; here none is.
- Tokens that are left alone keep their numbers.

transformers' own `QuantizedCache` would not do: it hands back the first prompt as it was.
"""

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from transformers import PreTrainedModel

from quantcliff.errors import InputError
from quantcliff.models import Served, linears
from quantcliff.models.served import Settings

Hidden = Float[Tensor, "batch head pos channel"]


class Serving:
    """The fake quantizers of one model, on modules of its own.

    Attributes:
        lengths: tokens of each prompt of the pass that is going to be made; None for as many as there are.
    """

    lengths: Int[Tensor, " batch"] | None = None

    def __init__(self, hf: PreTrainedModel, served: Served):
        self.hf, self.served = hf, served
        self.names = {module: name for name, module in hf.named_modules()}
        for name, settings in served.inputs_at(linears(hf.config)).items():
            self._inputs(name, settings, hf.get_submodule(name))

    def _inputs(self, name: str, settings: Settings, module: nn.Module) -> None:
        """Let a linear layer quantize what it reads. Its weights are shared: a turned one is a new one."""
        from compressed_tensors.quantization import QuantizationArgs, QuantizationScheme
        from compressed_tensors.quantization.lifecycle.initialize import initialize_module_for_quantization

        if not isinstance(module, nn.Linear):
            raise InputError(
                f"{name} is a {type(module).__name__}, whose inputs compressed-tensors cannot quantize; look at this "
                "model's weights or cache, or at the inputs of another architecture"
            )
        args = QuantizationArgs(**settings)
        initialize_module_for_quantization(module, QuantizationScheme(targets=["Linear"], input_activations=args))
        if args.dynamic is not True:  # "local": scales come with the inputs, in units of this one
            module.get_parameter(f"input_{'global_' * bool(args.dynamic)}scale").data.fill_(self.served.scales[name])
        if self.served.rotated:
            turn = hadamard(module.in_features).to(module.weight)
            module.weight = nn.Parameter(module.weight.detach() @ turn, requires_grad=False)
            module.register_forward_pre_hook(lambda _, read: (read[0] @ turn,))
        if self.served.first or self.served.largest:
            module.register_forward_hook(self._exact)

    def _exact(self, module: nn.Module, read: tuple[Tensor, ...], out: Tensor) -> Tensor:
        """The outputs of a linear layer with those of tokens that are left alone put right."""
        alone = self.alone(read[0].abs().amax(-1))
        out = out.clone()
        out[alone] = nn.Linear.forward(module, read[0][alone])  # type: ignore[arg-type]
        return out

    def alone(self, size: Float[Tensor, "batch pos"]) -> Bool[Tensor, "batch pos"]:
        """Which tokens are left alone: the first, and those whose largest number (`size`) is largest."""
        found = torch.zeros_like(size, dtype=torch.bool)
        found[:, 0] = self.served.first
        if self.served.largest:
            inside = torch.arange(size.shape[1], device=size.device) < self._lengths(size)[:, None]
            rest = size.masked_fill(~inside | found, -torch.inf)
            found |= (rest >= rest.topk(min(self.served.largest, size.shape[1]), 1).values[:, -1:]) & inside & ~found
        return found

    def _lengths(self, size: Float[Tensor, "batch pos"]) -> Int[Tensor, " batch"]:
        if self.lengths is None:
            return torch.full((len(size),), size.shape[1], device=size.device)
        return self.lengths.to(size.device)

    def cache(self, blocks: Iterable[nn.Module]) -> None:
        """Let the attention of a bridge's blocks quantize keys and values."""
        served = self.served
        if not (served.keys or served.values):
            return
        from compressed_tensors.modeling import kvcache

        for layer, block in enumerate(blocks):
            if "attn" not in block._modules:
                continue
            own: Any = block.attn.original_component  # type: ignore[union-attr]
            cache = kvcache.QuantizedKVCache(self.hf.config, own)
            own.register_module(kvcache.KV_CACHE_ATTR, cache)
            if served.keys and layer not in served.keys_left:
                kvcache.register_key_hook(own, partial(self._rounded, served.keys, f"{self.names[own]}.k"))
            if served.values and layer not in served.values_left:
                kvcache.register_value_hook(own, partial(self._rounded, served.values, f"{self.names[own]}.v"))
            block.attn.register_forward_pre_hook(_hand(cache), with_kwargs=True)  # type: ignore[operator, union-attr]

    def _rounded(self, settings: Settings, name: str, module: nn.Module, states: Hidden) -> Hidden:
        """Keys or values as they come out of the cache."""
        found = self._by_strategy(settings, name, states)
        if self.served.first or self.served.largest:
            alone = self.alone(states.abs().amax((1, 3)))
            found = torch.where(alone[:, None, :, None], states, found)
        return found

    def _by_strategy(self, settings: Settings, name: str, states: Hidden) -> Hidden:
        n_tokens, width = states.shape[2:]
        if settings["strategy"] == "channel":
            size = min(settings["group_size"], n_tokens)
            places = torch.arange(-(-n_tokens // size) * size, device=states.device)
            places = torch.minimum(places, self._lengths(states[:, 0, :, 0])[:, None] - 1)  # padding repeats the end
            turned = states.gather(2, places[:, None, :, None].expand(-1, states.shape[1], -1, width)).mT
            return fake(turned, {**settings, "strategy": "group", "group_size": size}).mT[:, :, :n_tokens]
        if settings["strategy"] == "tensor" and not settings["dynamic"]:
            return fake(states, settings, self.served.scales[name])
        if settings["strategy"] == "token":
            return fake(states, {**settings, "strategy": "group", "group_size": width})
        return fake(states, settings)


def fake(values: Tensor, settings: Settings, scale: float | None = None) -> Tensor:
    """Rounded by compressed-tensors and put back into the units they had; the scale is taken from them if none is
    given."""
    from compressed_tensors.quantization import QuantizationArgs
    from compressed_tensors.quantization.lifecycle.forward import fake_quantize
    from compressed_tensors.quantization.utils import compute_dynamic_scales_and_zp

    args = QuantizationArgs(**settings)
    if scale is not None:
        fixed = torch.tensor([scale], dtype=values.dtype, device=values.device)
        return fake_quantize(values, fixed, torch.zeros_like(fixed), args)
    return fake_quantize(values, *compute_dynamic_scales_and_zp(values, args, nn.Identity()), args)


def hadamard(size: int) -> Float[Tensor, "size size"]:
    """An orthogonal matrix of entries of one size and random signs, the same every time, which spreads a large channel
    over all: compressed-tensors' own.

    Raises:
        ValueError: it knows none of that size.
    """
    from compressed_tensors.transform.utils.hadamard import random_hadamard_matrix

    return random_hadamard_matrix(size, torch.float32, gen=torch.Generator().manual_seed(0)) / size**0.5


def _hand(cache: Any) -> Callable:
    """Give an attention this cache, which passes what it has rounded on to the one that was meant."""

    def give(module: nn.Module, args: tuple, kwargs: dict[str, Any]) -> tuple[tuple, dict[str, Any]]:
        cache.add_past_key_values(kwargs.get("past_key_values"))
        return args, kwargs | {"past_key_values": cache}

    return give
