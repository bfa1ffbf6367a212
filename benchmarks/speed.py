"""Is our way of computing something faster than the plain way, and by how much?

Each pair computes the same thing twice, ours and the plain one, taking turns in one run, so that a noisy machine slows
both. What counts is the ratio; seconds are printed to say what it is a ratio of. The results are compared first.

    python benchmarks/speed.py            on the embedded model
    python benchmarks/speed.py --repeats 9 --facts 400
    python benchmarks/speed.py --model smollm2 --only patching
    python benchmarks/speed.py --model FOLDER --facts-from FILE --group-size 64 --only patching

nnsight is among the plain ways where it is installed (0.8.1 goes with the pins): it is no dependency of this project.
"""

import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from importlib.util import find_spec
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest.mock import patch

import click
import numpy as np
import pandas as pd
import torch
from threadpoolctl import threadpool_limits
from ways import Pair, blocks, patching, stream_of

from quantcliff.probes import POSITIONS
from quantcliff.stages import components
from quantcliff.stages.components import Recorded
from quantcliff.stages.representations.cka import cka
from quantcliff.stages.representations.moments import stream
from quantcliff.study import FULL, Study, together
from quantcliff.study.presets import preset_of
from quantcliff.tracing import SETTERS, Trace, batches, relay, score


def tracing(study: Study, label: str) -> Pair:
    own, hf, some = study.runner(label), study.model(label).hf, study.sample(128)

    def ours() -> np.ndarray:
        with TemporaryDirectory() as folder:
            return np.array(Trace.record(own, some, ["resid_post"], "last", Path(folder))["resid_post"][:, -1])

    @torch.no_grad()
    def plain() -> np.ndarray:
        found, last = np.empty((len(some), own.d_model), dtype=np.float32), []
        handle = blocks(hf)[-1].register_forward_hook(lambda module, args, out: last.append(stream_of(out)))
        for batch in batches(some):
            hf(batch.ids, use_cache=False, logits_to_keep=1)
            found[batch.indices] = last.pop()[torch.arange(len(batch.ids)), batch.last].float().numpy()
        handle.remove()
        return found

    return Pair("tracing, every layer to disk", "transformers alone, which records nothing", ours, plain)


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


def several_variants(study: Study, label: str) -> Pair:
    own = study.parameters
    wide = Study(
        own.model, method="rtn", bits="8,6,5,4,3,2", group_size=own.group_size, facts=own.facts, n_facts=own.n_facts,
        run=study.run,
    )  # fmt: skip
    some, turns = study.sample(128), count(time.time_ns())

    def ours() -> np.ndarray:
        table = wide.table("several", lambda one: score(wide.runner(one), some), turn=next(turns))
        return table["logprob"].to_numpy()

    def plain() -> np.ndarray:
        with patch.object(together, "workers", return_value=0):
            return ours()

    return Pair("answers of six variants", "one variant at a time", ours, plain)


STREAM = {"kinds": ["resid_post"], "positions": ["all"]}
EVERYTHING = {"kinds": list(SETTERS), "positions": POSITIONS}

PAIRS: dict[str, Callable[[Study, str], Pair]] = {
    "tracing": tracing,
    "patching whole": partial(patching, way="whole", **STREAM),
    "patching transformer_lens": partial(patching, way="transformer_lens", **STREAM),
    "patching transformers": partial(patching, way="transformers", **STREAM),
    "patching nnsight": partial(patching, way="nnsight", **STREAM),
    "patching everything": partial(patching, way="transformer_lens", **EVERYTHING),
    "domino": domino,
    "shared_trace": shared_trace,
    "layer_by_layer_cka": layer_by_layer_cka,
    "several_variants": several_variants,
}
if find_spec("nnsight") is None:  # no dependency of this project: `pip install nnsight` puts it into the table
    del PAIRS["patching nnsight"]


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
    for name, make in PAIRS.items():
        if only in name:
            yield compare(make(study, label), repeats)


@click.command(help=__doc__)
@click.option("--model", default="atlas", show_default=True)
@click.option("--facts", "n_facts", default=400, show_default=True)
@click.option("--facts-from", "facts", help="As in `quantcliff diagnose --facts`; by default the model's own.")
@click.option("--group-size", type=int, help="By default the model's own.")
@click.option("--repeats", default=5, show_default=True)
@click.option("--only", default="", help="Pairs with this word in their name, e.g. tracing, transformers.")
def main(model: str, n_facts: int, facts: str | None, group_size: int | None, repeats: int, only: str) -> None:
    own, run = preset_of(model), f"runs/{Path(model).name}"
    size = group_size or own.group_size
    study = Study(model, method="rtn", bits=2, group_size=size, facts=facts or own.facts, n_facts=n_facts, run=run)
    rows = []
    for row in measure(study, repeats, only):
        rows.append(row)
        print(f"{row['what']}, {row['the plain way']}: {row['times faster']:.2f} times faster", file=sys.stderr)
    print(pd.DataFrame(rows).to_string(index=False, float_format="{:.2f}".format))


if __name__ == "__main__":
    main()
