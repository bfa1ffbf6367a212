"""One model, run with hooks: the only place that touches TransformerLens.

What a model quantizes while it runs (`Model.served`) is quantized here, in every forward pass (`serving`).

A site is a named point in the network. `Runner.run` reads tensors at sites and may replace them on the way; hooks live
for one call only. What an edit reaches, tried on Llama, Gemma 2, Qwen 3 and GPT-NeoX (tests/tracing/test_trace.py):

- `resid_pre`, `resid_post`: the whole residual stream, skip connection included.
- `attn_out`, `mlp_out`: what the sublayer adds to the stream (after Gemma's post-norm).
- `resid_mid`: only what the FFN reads, through its norm; the skip connection keeps the old value. To move the stream
  itself by some amount, edit `attn_out` by that amount. Parallel blocks (GPT-NeoX) have no such point.
- `attn_in`, `mlp_in`: the sublayer's input, after its norm.
"""

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from inspect import signature
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformer_lens.model_bridge.sources import build_bridge_from_module
from transformers import Cache

from quantcliff.errors import InputError
from quantcliff.models import Model, turn_back
from quantcliff.tracing.serving import Serving
from quantcliff.tracing.sites import SITES, drop_expert_aliases, site

Edit = Callable[[Tensor], Tensor]
"""Takes the tensor at a site and returns its replacement: a new tensor of the same shape, never changed in place."""

Pick = Callable[[Tensor], Tensor]
"""Takes the tensor at a site and returns what is to be kept of it."""


def _whole(tensor: Tensor) -> Tensor:
    return tensor


class Runner:
    """A model wrapped for hooks. The bridge changes `model.hf` in place: use the runner alone from here on.

    Attributes: `n_layers`, `n_heads`, `d_model`, `vocab` (sizes), `has_gate` (False: the FFN has no gate and the site
    kind `gate` is its pre-activation), `parallel` (True: attention and FFN read the same stream), `of_experts` (kinds
    of sites that layers of experts do not have, where there are such layers).
    """

    work: ClassVar[float] = 0.0
    """Products of a weight and an activation that all runners of this process have computed; attention's own, which
    grow with the square of the length and are few in short prompts, are left out."""

    def __init__(self, model: Model):
        self.model = model
        self.block_size, self.head_size = _sizes(model)
        model.hf.set_attn_implementation("eager")
        turn_back(model.hf)
        name = type(model.hf).__name__
        self.serving = Serving(model.hf, model.served) if model.served else None
        try:
            self.bridge = build_bridge_from_module(model.hf.eval(), name, hf_config=model.hf.config)
        except ValueError as error:
            raise InputError(f"{model.name}: TransformerLens cannot wrap the architecture {name} ({error}).") from error
        if self.serving:
            self.serving.cache(self.bridge.blocks)
        self.device = next(model.hf.parameters()).device
        self.of_experts = ("gate", "up", "post") if drop_expert_aliases(self.bridge) else ()
        self._moves = self._to_norm()
        self._in_tuple: bool | None = None
        """Whether a block hands its stream on in a tuple, as BLOOM's do; seen in the first run."""
        self.bridge.blocks[0].register_forward_hook(self._see)
        cfg = self.bridge.cfg
        self.n_layers, self.n_heads, self.d_model, self.vocab = cfg.n_layers, cfg.n_heads, cfg.d_model, cfg.d_vocab
        names = self.bridge.hook_dict
        self.has_gate = site("up", 0) in names
        self.parallel = site("resid_mid", 0) not in names

    def layers_of(self, kind: str) -> list[int]:
        """The layers that have a site of this kind. Not all do: convolutions have no attention pattern, and in a layer
        of experts `gate` and `post` are many, of which each token visits a few.
        """
        names = self.bridge.hook_dict
        return [layer for layer in range(self.n_layers) if site(kind, layer) in names]

    @cached_property
    def d_ffn(self) -> int | None:
        """Width of the FFN between its matrices: that of `post`, read off a run, since a configuration may not say;
        None where no layer has that site.
        """
        layers = self.layers_of("post")
        if not layers:
            return None
        _, seen = self.run(torch.zeros((1, 1), dtype=torch.long), record=[site("post", layers[0])])
        return seen[site("post", layers[0])].shape[-1]

    def _see(self, block: nn.Module, args: tuple, out: Tensor | tuple) -> None:
        self._in_tuple = isinstance(out, tuple)

    def logits(self, ids: Int[Tensor, "batch pos"]) -> Float[Tensor, "batch pos vocab"]:
        """The model's output, before softmax, at every position."""
        return self.run(ids)[0]

    @torch.no_grad()
    def run(
        self,
        ids: Tensor,
        record: Collection[str] | Mapping[str, Pick] = (),
        edits: Mapping[str, Edit] | None = None,
        start_layer: int | None = None,
        end_layer: int | None = None,
        last: Int[Tensor, " batch"] | None = None,
        past: Cache | None = None,
    ) -> tuple[Float[Tensor, "batch pos vocab"] | Float[Tensor, "batch vocab"], dict[str, Tensor]]:
        """Run the model, or its upper part, with edits, and record what was asked for.

        Args:
            ids: token ids (batch, pos); with `start_layer` the residual stream entering it (batch, pos, d_model).
            record: full site names to return; a site that is also edited is recorded after its edit. Where only a part
                is wanted, a mapping from the name to what is to be kept of the tensor there.
            edits: full site name -> function from the tensor there to its replacement.
            start_layer: run only the blocks from this one on; the ones below are skipped, not computed. `n_layers`
                leaves the final norm and the head.
            end_layer: leave out the blocks from this one on; what the head then says is the lens on that stream.
            last: position of each prompt's last token; with it the head runs there alone and logits are (batch, vocab).
                So does the last block's FFN, unless something there is recorded or edited.
            past: what the blocks keep of the tokens before these, from `past.remember`; this run adds to it.

        Returns:
            logits, and the recorded tensors by site name.

        Raises:
            InputError: the model has no such site, or a NaN or Inf came up (named: first layer and module).
        """
        edits = edits or {}
        recorded: dict[str, Tensor] = {}
        hooks = [(name, self._edit(edit)) for name, edit in edits.items()]
        picks = record if isinstance(record, Mapping) else dict.fromkeys(record, _whole)
        hooks += [(name, self._keep(recorded, name, pick)) for name, pick in picks.items()]
        if last is not None:
            hooks += self._at_last(last.to(self.device), dict(hooks), inner=end_layer is None)
        missing = {name for name, _ in hooks} - set(self.bridge.hook_dict)
        if missing:
            raise InputError(f"{self.model.name} has no site {min(missing)}: leave that kind of activation out.")
        if self.serving:
            self.serving.lengths = None if last is None or not len(last) else last.to(self.device) + 1
        logits = self._forward(ids.to(self.device), hooks, start_layer, end_layer, past)
        if not bool(torch.isfinite(logits).all()):
            raise InputError(self.first_bad(ids, edits, start_layer))
        return (logits if last is None else logits[:, 0]), recorded

    @torch.no_grad()
    def unembed(self, resid: Float[Tensor, "*rows d_model"]) -> Float[Tensor, "*rows vocab"]:
        """Logits read off a residual stream: the model's own final norm, head and soft-cap (the logit lens).

        It is the model itself with every block skipped, so that nothing about a head has to be known here.
        """
        flat = resid.reshape(-1, 1, self.d_model).to(self.device, self.model.hf.dtype)
        return self._forward(flat, [], self.n_layers).reshape(*resid.shape[:-1], -1)

    @cached_property
    def _ffn_reads_one_stream(self) -> bool:
        """Not in BLOOM, whose FFN is given the residual stream too and adds itself to it."""
        ffn = self.bridge.blocks[self.n_layers - 1].mlp.original_component
        return len(signature(ffn.forward).parameters) == 1

    def _at_last(self, last: Int[Tensor, " batch"], names: Collection[str], inner: bool) -> list[tuple[str, Callable]]:
        """Hooks that let the head run at last tokens alone, and so (`inner`) the last block's FFN, which elsewhere adds
        0, unless one of `names` is a site that would show it."""
        rows, tokens, layer = torch.arange(len(last), device=self.device), torch.Size(), self.n_layers - 1
        ffn, shown = f"blocks.{layer}.mlp", ("mlp_in", "gate", "up", "post", "mlp_out", "resid_post")

        def pick(stream: Tensor) -> Tensor:
            return stream[rows, last][:, None]

        def begin(stream: Tensor) -> Tensor:
            nonlocal tokens
            tokens = stream.shape[:-1]
            return pick(stream) if len(tokens) == 2 else stream

        def end(added: Tensor) -> Tensor:
            if len(tokens) != 2:
                return added
            whole = added.new_zeros(*tokens, added.shape[-1])
            whole[rows, last] = added[:, 0]
            weights = self.bridge.blocks[layer].mlp.original_component.parameters()
            Runner.work -= (tokens.numel() - len(last)) * sum(weight.numel() for weight in weights)
            return whole

        found = [("unembed.hook_in", self._edit(pick))]
        ends = {f"{ffn}.hook_in": self._edit(begin), f"{ffn}.hook_out": self._edit(end)}
        inner = inner and self.serving is None  # which tells tokens apart by their place
        free = {site(kind, layer) for kind in shown}.isdisjoint(names) and set(ends) <= set(self.bridge.hook_dict)
        if inner and free and self._ffn_reads_one_stream:
            found += ends.items()
        return found

    def _forward(
        self, ids: Tensor, hooks: list, start_layer: int | None, end_layer: int | None = None, past: Cache | None = None
    ) -> Tensor:
        """The bridge's forward, or its part from `start_layer` on, up to `end_layer`; n_layers leaves norm and head.

        A stream is put in place of what the blocks below would hand on. The model itself is called with token ids in
        any case, since some make things of them that every block needs (BLOOM its position biases).
        """
        start, end = start_layer or 0, self.n_layers if end_layer is None else end_layer
        if start_layer is not None:
            stream, ids = ids, torch.zeros(ids.shape[:2], dtype=torch.long, device=self.device)
            entry = "ln_final.hook_in" if start == self.n_layers else site("resid_pre", start)
            hooks = [(entry, lambda own, hook: stream.to(own.device)), *hooks]
        hooks = [*hooks, *self._moves]
        place: dict[str, Any] = {"use_cache": False} if past is None else {"past_key_values": past}
        with self._skip([*range(start), *range(end, self.n_layers)]):
            logits = self.bridge.run_with_hooks(ids, fwd_hooks=hooks, **place).to(self.device).float()
        tokens = ids.shape[0] * ids.shape[1]
        Runner.work += tokens * self.block_size * max(end - start, 0) + logits[..., 0].numel() * self.head_size
        return logits

    def _edit(self, edit: Edit) -> Callable:
        """As a hook. Where layers lie on several cards, edits and picks see all tensors on `device`."""
        return lambda tensor, hook: edit(tensor.to(self.device)).to(tensor.device)

    def _keep(self, recorded: dict[str, Tensor], name: str, pick: Pick = _whole) -> Callable:
        def keep(tensor: Tensor, hook: object) -> None:
            recorded[name] = pick(tensor.detach().to(self.device))

        return keep

    def _to_norm(self) -> list[tuple[str, Callable]]:
        """A hook that brings the stream to the final norm's card: accelerate moves what HF's modules read, and the
        bridge computes this one by itself."""
        if not hasattr(self.model.hf, "hf_device_map"):
            return []
        weights = [weight for weight in self.bridge.ln_final.parameters() if weight.device.type != "meta"]
        return [("ln_final.hook_in", lambda stream, hook: stream.to(weights[0].device))] if weights else []

    def plain_work(self, lengths: Int[np.ndarray, " prompt"]) -> float:
        """`work` of one plain pass over prompts of these lengths: every block once at every token, the head at the
        last."""
        return float(lengths.sum() * self.block_size * self.n_layers + len(lengths) * self.head_size)

    @contextmanager
    def _skip(self, layers: Collection[int]) -> Iterator[None]:
        """Let these blocks hand their input on; TransformerLens' own `start_at_layer` computes them for nothing."""
        blocks = [vars(self.bridge.blocks[layer]) for layer in layers]  # a bridge's setattr goes elsewhere
        if blocks and self._in_tuple is None:
            self.bridge(torch.zeros((1, 1), dtype=torch.long, device=self.device), use_cache=False)
        in_tuple = self._in_tuple
        try:
            for block in blocks:
                block["forward"] = lambda stream, *args, **kwargs: (stream,) if in_tuple else stream
            yield
        finally:
            for block in blocks:
                block.pop("forward", None)

    @torch.no_grad()
    def first_bad(self, ids: Tensor, edits: Mapping[str, Edit] | None = None, start_layer: int | None = None) -> str:
        """A sentence that says in which layer and module the first NaN or Inf comes up; arguments as for `run`."""
        names = [site(k, n) for n in range(start_layer or 0, self.n_layers) for k in SITES if k != "pattern"]
        present = [name for name in names if name in self.bridge.hook_dict]
        recorded: dict[str, Tensor] = {}
        hooks = [(name, self._edit(edit)) for name, edit in (edits or {}).items()]
        self._forward(ids.to(self.device), hooks + [(n, self._keep(recorded, n)) for n in present], start_layer)
        bad = [name for name in present if name in recorded and not torch.isfinite(recorded[name]).all()]
        where = "the final norm or the head"
        if bad:
            _, layer, point = bad[0].split(".", 2)
            kind = next(kind for kind, hook in SITES.items() if hook == point)
            where = f"layer {layer}, {kind}" if (layer, kind) != ("0", "resid_pre") else "the embedding"
        return f"{self.model.name}: NaN or Inf in the activations, first in {where}: check that part of the weights."


def _sizes(model: Model) -> tuple[float, float]:
    """Weights of a block, on average, and of the head."""
    embedding, head = (part.weight for part in (model.hf.get_input_embeddings(), model.hf.get_output_embeddings()))
    ends = embedding.numel() + (0 if head is embedding else head.numel())
    return (model.hf.num_parameters() - ends) / model.hf.config.num_hidden_layers, float(head.numel())

