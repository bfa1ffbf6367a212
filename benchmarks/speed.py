"""Is our way of computing something faster than the plain way, and by how much?

Each pair computes the same thing twice, ours and the plain one, taking turns in one run, so that a noisy machine slows
both. What counts is the ratio; seconds are printed to say what it is a ratio of. The results are compared first.

    python benchmarks/speed.py            on the embedded model
    python benchmarks/speed.py --repeats 9 --facts 400
"""

import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
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
from quantcliff.tracing import batches, own_stream, patch_resid_post, relay, site


@dataclass(frozen=True)
class Pair:
    """Two functions without arguments that return the same numbers."""

    name: str
    plain_way: str
    ours: Callable[[], np.ndarray]
    plain: Callable[[], np.ndarray]
    tolerance: float = 1e-4


def patching(study: Study, label: str) -> Pair:
    full, own, batch = study.runner(FULL), study.runner(label), next(batches(study.inside))
    donor = own_stream(full, batch.ids, batch.last)[1:]
    where = (torch.arange(batch.ids.shape[1]) < batch.lengths[:, None]).to(own.device)
    tokens = donor[:, where].transpose(0, 1)
    layers = range(full.n_layers)

    def ours() -> np.ndarray:
        mine = own_stream(own, batch.ids, batch.last)
        parts = [patch_resid_post(own, mine, range(n, n + 1), where, tokens, batch.last) for n in layers]
        return torch.stack(parts).cpu().numpy()

    def plain() -> np.ndarray:
        def edit(n: int) -> Callable[[torch.Tensor], torch.Tensor]:
            return lambda stream: torch.where(where[..., None], donor[n], stream)

        parts = [own.run(batch.ids, edits={site("resid_post", n): edit(n)}, last=batch.last)[0] for n in layers]
        return torch.stack(parts).cpu().numpy()

    return Pair("patching, every layer", "the whole network runs for every patch", ours, plain)


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


PAIRS = (patching, domino, shared_trace, layer_by_layer_cka)


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


def measure(study: Study, repeats: int) -> Iterator[dict[str, object]]:
    label = next(iter(study.variants))
    for make in PAIRS:
        yield compare(make(study, label), repeats)


@click.command(help=__doc__)
@click.option("--model", default="atlas", show_default=True)
@click.option("--facts", "n_facts", default=400, show_default=True)
@click.option("--repeats", default=5, show_default=True)
def main(model: str, n_facts: int, repeats: int) -> None:
    study = Study(model, method="rtn", bits=2, n_facts=n_facts, run=f"runs/{Path(model).name}")
    rows = []
    for row in measure(study, repeats):
        rows.append(row)
        print(f"{row['what']}: {row['times faster']:.1f} times faster", file=sys.stderr)
    print(pd.DataFrame(rows).to_string(index=False, float_format="{:.2f}".format))


if __name__ == "__main__":
    main()
