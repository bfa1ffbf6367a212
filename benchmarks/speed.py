"""Is our way of computing something faster than the plain way, and by how much?

Each pair computes the same thing twice, ours and the plain one, taking turns in one run, so that a noisy machine slows
both. What counts is the ratio; seconds are printed to say what it is a ratio of. The results are compared first.

    python benchmarks/speed.py            on the embedded model
    python benchmarks/speed.py --repeats 9 --facts 400
    python benchmarks/speed.py --model FOLDER --facts-from FILE --group-size 64 --only patching

nnsight is not among the plain ways: it is no dependency of this project.
"""

import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import click
import numpy as np
import pandas as pd
import torch
from threadpoolctl import threadpool_limits

from quantcliff.stages import components
from quantcliff.stages.components import Recorded
from quantcliff.stages.representations.cka import cka
from quantcliff.stages.representations.moments import stream
from quantcliff.study import FULL, Study
from quantcliff.tracing import Trace, batches, own_stream, patch_resid_post, relay, site


@dataclass(frozen=True)
class Pair:
    """Two functions without arguments that return the same numbers."""

    name: str
    plain_way: str
    ours: Callable[[], np.ndarray]
    plain: Callable[[], np.ndarray]
    tolerance: float = 1e-4


def tracing(study: Study, label: str) -> Pair:
    own, hf, some = study.runner(label), study.model(label).hf, study.sample(128)

    def ours() -> np.ndarray:
        with TemporaryDirectory() as folder:
            return np.array(Trace.record(own, some, ["resid_post"], "last", Path(folder))["resid_post"][:, -1])

    @torch.no_grad()
    def plain() -> np.ndarray:
        found, last = np.empty((len(some), own.d_model), dtype=np.float32), []
        handle = _blocks(hf)[-1].register_forward_hook(lambda module, args, out: last.append(_stream(out)))
        for batch in batches(some):
            hf(batch.ids, use_cache=False, logits_to_keep=1)
            found[batch.indices] = last.pop()[torch.arange(len(batch.ids)), batch.last].float().numpy()
        handle.remove()
        return found

    return Pair("tracing, every layer to disk", "transformers alone, which records nothing", ours, plain)


def _blocks(hf: torch.nn.Module) -> torch.nn.ModuleList:
    return next(part for part in hf.modules() if isinstance(part, torch.nn.ModuleList))


def _stream(output: torch.Tensor | tuple) -> torch.Tensor:
    return output if isinstance(output, torch.Tensor) else output[0]


def _patching(study: Study, label: str, way: str) -> Pair:
    """The stream after every layer in turn replaced by full precision's, at all tokens: ours, and another way."""
    full, own, batch = study.runner(FULL), study.runner(label), next(batches(study.inside))
    donor = own_stream(full, batch.ids, batch.last)[1:]
    where = (torch.arange(batch.ids.shape[1]) < batch.lengths[:, None]).to(own.device)
    tokens = donor[:, where].transpose(0, 1)
    hf, rows, layers = study.model(label).hf, torch.arange(len(batch.ids)), range(full.n_layers)

    def ours() -> np.ndarray:
        mine = own_stream(own, batch.ids, batch.last)
        parts = [patch_resid_post(own, mine, range(n, n + 1), where, tokens, batch.last) for n in layers]
        return torch.stack(parts).cpu().numpy()

    def put(n: int, stream: torch.Tensor) -> torch.Tensor:
        return torch.where(where[..., None], donor[n], stream)

    def whole(n: int) -> torch.Tensor:
        return own.run(batch.ids, edits={site("resid_post", n): partial(put, n)}, last=batch.last)[0]

    def lens(n: int) -> torch.Tensor:
        hooks = [(site("resid_post", n), lambda stream, hook: put(n, stream))]
        return own.bridge.run_with_hooks(batch.ids, fwd_hooks=hooks)[rows, batch.last]

    def transformers(n: int) -> torch.Tensor:
        def hook(module: torch.nn.Module, args: tuple, out: torch.Tensor | tuple) -> torch.Tensor | tuple:
            new = put(n, _stream(out))
            return new if isinstance(out, torch.Tensor) else (new, *out[1:])

        handle = _blocks(hf)[n].register_forward_hook(hook)
        try:
            return hf(batch.ids, use_cache=False).logits[rows, batch.last]
        finally:
            handle.remove()

    run, words = {
        "whole": (whole, "the whole network runs for every patch"),
        "transformer_lens": (lens, "TransformerLens' own run_with_hooks"),
        "transformers": (transformers, "plain transformers with hooks"),
    }[way]

    @torch.no_grad()
    def plain() -> np.ndarray:
        return torch.stack([run(n) for n in layers]).float().cpu().numpy()

    return Pair("patching, every layer", words, ours, plain, tolerance=1e-3)


patching = partial(_patching, way="whole")
patching_transformer_lens = partial(_patching, way="transformer_lens")
patching_transformers = partial(_patching, way="transformers")


def domino(study: Study, label: str) -> Pair:
    full, own, some = study.runner(FULL), study.runner(label), study.sample(128)
    cuts = list(range(full.n_layers + 1))

    def ours() -> np.ndarray:
        return np.stack([streams[:, -1].numpy() for streams in relay(own, full, cuts, some).values()])

    def plain() -> np.ndarray:
        return np.stack([relay(own, full, [cut], some)[cut][:, -1].numpy() for cut in cuts])

    return Pair("domino, every depth", "the lower model runs again for every depth", ours, plain)


def shared_trace(study: Study, label: str) -> Pair:
    full, own = study.runner(FULL), study.runner(label)
    some = study.sample(128)
    recorded = Recorded.of(full, some, study.run / "trace")

    def measured(theirs: Recorded) -> np.ndarray:
        return components.side_by_side(theirs, own)["last", "in_situ", "ffn_cosine", False]

    def plain() -> np.ndarray:
        with TemporaryDirectory() as folder:
            return measured(Recorded.of(full, some, Path(folder)))

    name = "components of one more variant"
    return Pair(name, "full precision is recorded again for every variant", lambda: measured(recorded), plain)


def layer_by_layer_cka(study: Study, label: str, n: int = 4000, layers: int = 3) -> Pair:
    draw, width, rows = np.random.default_rng(study.seed), study.runner(FULL).d_model, np.arange(n)
    x = draw.normal(size=(n, layers, width))
    y = x + draw.normal(size=x.shape)

    def ours() -> np.ndarray:
        with threadpool_limits(1):
            xx, yy = ([stream(z[:, i], z[:, i], rows) for i in range(layers)] for z in (x, y))
            pairs = np.ndindex(layers, layers)
            return np.array([cka(xx[i], yy[j], stream(x[:, i], y[:, j], rows)) for i, j in pairs])

    def plain() -> np.ndarray:
        with threadpool_limits(1):
            centred = [[z[:, i] - z[:, i].mean(0) for i in range(layers)] for z in (x, y)]
            one, other = ([rows @ rows.T for rows in side] for side in centred)
            return np.array([np.vdot(k, m) / (np.linalg.norm(k) * np.linalg.norm(m)) for k in one for m in other])

    return Pair(f"CKA of {n:,} rows", "a Gram matrix of all rows with all rows", ours, plain)


PAIRS = (tracing, patching, patching_transformer_lens, patching_transformers, domino, shared_trace, layer_by_layer_cka)


def compare(pair: Pair, repeats: int) -> dict[str, object]:
    """Median seconds of both, and the median, least and largest ratio plain / ours over turns."""
    ours, plain = pair.ours(), pair.plain()
    np.testing.assert_allclose(ours, plain, atol=pair.tolerance, err_msg=pair.name)
    seconds = np.array([[_seconds(way) for way in (pair.ours, pair.plain)] for _ in range(repeats)])
    ratio = seconds[:, 1] / seconds[:, 0]
    return {
        "what": pair.name, "ours, s": np.median(seconds[:, 0]), "plain, s": np.median(seconds[:, 1]),
        "times faster": np.median(ratio), "least": ratio.min(), "most": ratio.max(), "the plain way": pair.plain_way,
    }  # fmt: skip


def _seconds(way: Callable[[], np.ndarray]) -> float:
    start = time.perf_counter()
    way()
    return time.perf_counter() - start


def measure(study: Study, repeats: int, only: str = "") -> Iterator[dict[str, object]]:
    label = next(iter(study.variants))
    for make in PAIRS:
        name = f"patching {make.keywords['way']}" if isinstance(make, partial) else make.__name__
        if only in name:
            yield compare(make(study, label), repeats)


@click.command(help=__doc__)
@click.option("--model", default="atlas", show_default=True)
@click.option("--facts", "n_facts", default=400, show_default=True)
@click.option("--facts-from", "facts", default="atlas", show_default=True, help="As in `quantcliff diagnose --facts`.")
@click.option("--group-size", default=128, show_default=True)
@click.option("--repeats", default=5, show_default=True)
@click.option("--only", default="", help="Pairs with this word in their name, e.g. tracing, transformers.")
def main(model: str, n_facts: int, facts: str, group_size: int, repeats: int, only: str) -> None:
    run = f"runs/{Path(model).name}"
    study = Study(model, method="rtn", bits=2, group_size=group_size, facts=facts, n_facts=n_facts, run=run)
    rows = []
    for row in measure(study, repeats, only):
        rows.append(row)
        print(f"{row['what']}, {row['the plain way']}: {row['times faster']:.2f} times faster", file=sys.stderr)
    print(pd.DataFrame(rows).to_string(index=False, float_format="{:.2f}".format))


if __name__ == "__main__":
    main()
