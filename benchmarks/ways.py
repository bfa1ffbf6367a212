"""Ways of patching that come to the same numbers: ours, and those of libraries that people know."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from quantcliff.probes import inside, spans
from quantcliff.study import Study
from quantcliff.tracing import Edit, Patch, batches, likeliest, plan, rank_of, site, sweep


@dataclass(frozen=True)
class Pair:
    """Two functions without arguments that return the same numbers."""

    name: str
    plain_way: str
    ours: Callable[[], np.ndarray]
    plain: Callable[[], np.ndarray]
    tolerance: float = 1e-4


def blocks(hf: torch.nn.Module) -> torch.nn.ModuleList:
    """The layers of a transformers model."""
    return next(part for part in hf.modules() if isinstance(part, torch.nn.ModuleList))


def stream_of(output: torch.Tensor | tuple) -> torch.Tensor:
    """The residual stream in what a layer returns."""
    return output if isinstance(output, torch.Tensor) else output[0]


def patching(study: Study, label: str, way: str, kinds: Sequence[str], positions: Sequence[str]) -> Pair:
    """`sweep` and another way of patching at most eight layers, evenly spread; batches and scores are the same."""
    own, hf = study.runner(label), study.model(label).hf
    some = study.sample(64 if own.n_layers <= 8 else 16)  # a minute for each way, on SmolLM2 too
    trace, every = study.trace(*kinds, probes=some), np.arange(len(some))
    step = -(-own.n_layers // 8)
    patches = [patch for patch in sorted(plan(own.n_layers, kinds, positions)) if patch.layer % step == 0]

    def ours() -> np.ndarray:
        found = sweep(own, trace, some, every, every, patches).pivot(
            index=["kind", "positions", "layer"], columns="prompt", values="probability"
        )
        return np.nan_to_num(found.to_numpy())

    def whole(ids: torch.Tensor, last: torch.Tensor, patch: Patch, put: Edit) -> torch.Tensor:
        return own.run(ids, edits={site(patch.kind, patch.layer): put}, last=last)[0]

    def lens(ids: torch.Tensor, last: torch.Tensor, patch: Patch, put: Edit) -> torch.Tensor:
        hooks = [(site(patch.kind, patch.layer), lambda stream, hook: put(stream))]
        return own.bridge.run_with_hooks(ids, fwd_hooks=hooks)[torch.arange(len(ids)), last]

    def transformers(ids: torch.Tensor, last: torch.Tensor, patch: Patch, put: Edit) -> torch.Tensor:
        def hook(module: torch.nn.Module, args: tuple, out: torch.Tensor | tuple) -> torch.Tensor | tuple:
            new = put(stream_of(out))
            return new if isinstance(out, torch.Tensor) else (new, *out[1:])

        handle = blocks(hf)[patch.layer].register_forward_hook(hook)
        try:
            return hf(ids, use_cache=False).logits[torch.arange(len(ids)), last]
        finally:
            handle.remove()

    def nnsight(ids: torch.Tensor, last: torch.Tensor, patch: Patch, put: Edit) -> torch.Tensor:
        from nnsight import NNsight

        model = NNsight(hf)
        name = next(name for name, part in hf.named_modules() if part is blocks(hf)[patch.layer])
        block = model.get(name)
        with model.trace(ids, use_cache=False):
            block.output = put(block.output)
            logits = model.output.logits.save()
        return logits[torch.arange(len(ids)), last]

    run, words = {
        "whole": (whole, "the whole network runs for every patch"),
        "transformer_lens": (lens, "TransformerLens' own run_with_hooks"),
        "transformers": (transformers, "plain transformers with hooks"),
        "nnsight": (nnsight, "nnsight's trace"),
    }[way]

    @torch.no_grad()
    def plain() -> np.ndarray:
        found = np.zeros((len(patches), len(some)))
        for batch in batches(some):
            answers = [some.answers[prompt] for prompt in batch.indices]
            for number, patch in enumerate(patches):
                span = spans(patch.positions, some.subject, some.lengths)[batch.indices]
                where = inside(span, batch.ids.shape[1])
                row, at = np.nonzero(where)
                values = torch.from_numpy(trace[patch.kind][trace.offsets[batch.indices[row]] + at, patch.layer])

                logits = run(batch.ids, batch.last, patch, _setter(torch.from_numpy(where), values))
                rank_of(logits, answers)
                found[number, batch.indices] = np.where(span[:, 0] < 0, 0, likeliest(logits, answers))
        return found

    what = "patching the stream, all tokens" if len(kinds) == 1 else "patching, all kinds and positions"
    return Pair(what, words, ours, plain)


def _setter(where: torch.Tensor, values: torch.Tensor) -> Edit:
    def put(own: torch.Tensor) -> torch.Tensor:
        new = own.clone()
        new[where] = values
        return new

    return put
