"""Heal a quantized checkpoint: layer by layer, each on the stream that the healed layers below it really give.

Block-AP of EfficientQAT (arXiv 2407.11062): the target of a layer is full precision's output on full precision's
stream, its input the quantized stream. Once trained it is frozen to its grid, and the quantized stream moves on through
it. Grid, bits, file format stay; embeddings, norms and biases are not trained.

Every finished layer is a file in OUT.partial, so that a killed run goes on from the layer it was in and ends with the
same bytes. In memory: the two models, and three streams of the text (with a term, one more for each layer).
"""

import hashlib
import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from jaxtyping import Int
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor
from tqdm import tqdm

from quantcliff import disk
from quantcliff.errors import InputError
from quantcliff.models import check_pair, digest_of, folder_of, layer_of, load, quantization_of
from quantcliff.quantizers.calibration import rows_of
from quantcliff.quantizers.healing import stored
from quantcliff.quantizers.healing.blocks import Blocks
from quantcliff.quantizers.healing.fit import Recipe, fit
from quantcliff.quantizers.healing.grid import Codes, Grid
from quantcliff.quantizers.healing.term import Term, Terms

STANDARD = Recipe()

DOCUMENTS = 16_384
"""Documents of a text that the command line takes at most: 4,096 sequences of the embedded facts' text."""

REPORT = "healing.json"
"""Beside the weights: what was done, and the course of training."""


def check(base: str | Path, quantized: str | Path, out: str | Path, recipe: Recipe) -> None:
    """Raises InputError for what `heal` cannot use, without loading a model."""
    recipe.check()
    if quantization_of(folder_of(base)):
        raise InputError(f"{base} is quantized already; give the full-precision model first")
    stored.check(quantized)
    disk.absent(Path(out))


def heal(
    base: str | Path,
    quantized: str | Path,
    documents: Sequence[str],
    out: str | Path,
    recipe: Recipe = STANDARD,
    *,
    tokens: int = 64,
    sequences: int | None = None,
    device: str = "cpu",
) -> Path:
    """Train every layer of a quantized checkpoint towards full precision's, into the new folder `out`.

    Args:
        base: folder of the full-precision model, or a name.
        quantized: compressed-tensors checkpoint of it, weights only.
        documents: text to train on.
        tokens, sequences: sizes of what is made of the text (`rows_of`).

    Raises:
        InputError: not a pair, a checkpoint of another kind, too little text, `out` exists, or OUT.partial belongs to
            another run.
    """
    with disk.making(Path(out)):
        check(base, quantized, out, recipe)
        return _heal(base, quantized, documents, Path(out), recipe, tokens, sequences, device)


def _heal(
    base: str | Path, quantized: str | Path, documents: Sequence[str], out: Path, recipe: Recipe, tokens: int,
    sequences: int | None, device: str,
) -> Path:  # fmt: skip
    exact, damaged = load(base, device=device), load(quantized, device=device)
    check_pair(exact, damaged)
    ids = rows_of(exact.tokenizer, documents, tokens, sequences)
    work = _Work(out, plan_of(recipe, ids, base=base, quantized=quantized))
    full, own = Blocks(exact, ids), Blocks(damaged, ids)
    right, left = full.start(ids), own.start(ids)
    terms = Terms(full, ids, recipe.smooth, recipe.along, recipe.seed) if recipe.along else None
    matrices = stored.read(quantized)
    made: dict[str, Codes] = {}
    for layer in tqdm(range(len(full)), desc="healing layers", disable=None):
        here = {stored.local(name): codes for name, codes in matrices.items() if layer_of(name) == layer}
        wanted = full.whole(layer, right)
        done = work.read(layer, here)
        if done is None and here:
            other = (layer + len(full) // 2) % len(full)
            target = full.whole(other, right) if recipe.target == "wrong" else wanted
            term = terms.of(layer, right) if terms else None
            done = _fit(full, own, layer, here, left, target, recipe, term)
            work.write(layer, *done)
        codes = done[0] if done else {}
        left = own.whole(layer, left, {f"{name}.weight": one.weight.to(left) for name, one in codes.items()})
        right = wanted
        made |= {name: codes[stored.local(name)] for name in matrices if layer_of(name) == layer}
    return work.finish(quantized, made)


def plan_of(recipe: Any, ids: Int[Tensor, "sequence token"], **models: str | Path) -> dict[str, Any]:
    """What a run of healing is made by: only a run of the same plan goes on from what another left.

    Args:
        recipe: a dataclass.
        ids: the text.
        models: folders by the names they get in the plan, each told by a digest of its weights.
    """
    return {
        **{name: digest_of(folder) for name, folder in models.items()}, "recipe": asdict(recipe),
        "text": hashlib.sha256(ids.numpy().tobytes()).hexdigest()[:16], "sequences": len(ids), "tokens": ids.shape[1],
    }  # fmt: skip


def passes(recipe: Recipe = STANDARD) -> int:
    """What `heal` costs, in plain forward passes over its text: one for the targets, one for the stream of the layers
    above, and three (forward and backward) for every epoch."""
    return 2 + 3 * recipe.epochs


def tried(
    base: str | Path,
    quantized: str | Path,
    documents: Sequence[str],
    recipes: Sequence[Recipe],
    layers: Sequence[int],
    *,
    tokens: int = 64,
    sequences: int | None = None,
    device: str = "cpu",
) -> list[dict[str, float]]:
    """What recipes do to some layers, each given full precision's own stream; nothing is written.

    Returns:
        A row for each recipe (its number), layer and epoch: recipe, layer and the columns of `fit`.
    """
    exact, damaged = load(base, device=device), load(quantized, device=device)
    ids = rows_of(exact.tokenizer, documents, tokens, sequences)
    full, own = Blocks(exact, ids), Blocks(damaged, ids)
    stream, matrices, rows = full.start(ids), stored.read(quantized), []
    for layer in tqdm(range(max(layers) + 1), desc="trying recipes", disable=None):
        wanted = full.whole(layer, stream)
        here = {stored.local(name): codes for name, codes in matrices.items() if layer_of(name) == layer}
        for number, recipe in enumerate(recipes if layer in layers else ()):
            _, course = _fit(full, own, layer, here, stream, wanted, recipe)
            rows += [{"recipe": float(number), "layer": float(layer), **row} for row in course]
        stream = wanted
    return rows


def improved(folder: str | Path) -> tuple[int, int]:
    """Layers of a healed checkpoint of which an epoch of training was kept, and all that were trained."""
    course = json.loads((Path(folder) / REPORT).read_text(encoding="utf-8"))["course"]
    kept = [row["epoch"] > 0 for row in course if row["kept"]]
    return sum(kept), len(kept)


def _fit(
    full: Blocks,
    own: Blocks,
    layer: int,
    here: dict[str, Codes],
    stream: Tensor,
    target: Tensor,
    recipe: Recipe,
    term: Term | None = None,
) -> tuple[dict[str, Codes], list[dict[str, float]]]:
    grids = {}
    for name, codes in here.items():
        weight = full.layers[layer].get_submodule(name).weight
        assert isinstance(weight, Tensor)
        grids[name] = Grid(codes.to(weight.device), weight.detach().float(), recipe.scales_only)
    n = recipe.epochs * -(-len(stream) // recipe.batch)
    with tqdm(total=n, desc=f"layer {layer}", leave=False, disable=None) as bar:
        return fit(
            lambda x, weights: own.call(layer, x, weights), grids, stream, target, recipe,
            recipe.seed * 10_007 + layer, bar.update, term,
        )  # fmt: skip


class _Work:
    """The layers that are finished, on disk, and what they were made by."""

    def __init__(self, out: Path, plan: dict[str, Any]):
        self.out, self.plan = out, plan
        self.folder = out.with_name(f"{out.name}.partial")
        with disk.plainly(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
        disk.clear(*self.folder.glob(".*.part"))
        file = self.folder / "plan.json"
        if not file.is_file():
            disk.write(file, json.dumps(plan, indent=1))
        if json.loads(file.read_text(encoding="utf-8")) != plan:
            raise InputError(f"{self.folder} holds layers of another run; delete it, or give another OUT")

    def _file(self, layer: int) -> Path:
        return self.folder / f"layer-{layer:03}.safetensors"

    def read(self, layer: int, before: dict[str, Codes]) -> tuple[dict[str, Codes], list[dict[str, float]]] | None:
        if not self._file(layer).is_file():
            return None
        with safe_open(self._file(layer), "pt") as handle:
            history = json.loads(handle.metadata()["history"])
            found = {
                name: Codes(
                    handle.get_tensor(f"{name}.codes"), handle.get_tensor(f"{name}.scale"),
                    handle.get_tensor(f"{name}.zero"), old.bits, old.symmetric,
                )
                for name, old in before.items()
            }  # fmt: skip
        return found, history

    def write(self, layer: int, codes: dict[str, Codes], history: list[dict[str, float]]) -> None:
        parts = ("codes", "scale", "zero")
        tensors = {f"{n}.{part}": getattr(one, part).cpu().contiguous() for n, one in codes.items() for part in parts}
        with disk.whole(self._file(layer)) as part:
            save_file(tensors, part, {"history": json.dumps(history)})

    def finish(self, quantized: str | Path, made: dict[str, Codes]) -> Path:
        """The whole checkpoint, moved into place when it is complete."""
        course = []
        for file in sorted(self.folder.glob("layer-*.safetensors")):
            with safe_open(file, "pt") as handle:
                layer = int(file.stem.removeprefix("layer-"))
                course += [{"layer": layer, **row} for row in json.loads(handle.metadata()["history"])]
        with disk.whole(self.out) as part:
            stored.write(quantized, made, part)
            disk.write(part / REPORT, json.dumps({**self.plan, "course": course}, indent=1) + "\n")
        shutil.rmtree(self.folder)
        return self.out
