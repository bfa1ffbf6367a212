"""Knowledge per weight: how many bits of knowledge a model holds, and what quantization leaves of them.

A fact is worth max(0, log2 N - CE) bits: N objects of its relation are possible, and CE, in bits, is the model's
cross-entropy of the whole object after the fact's prompt. A model that knows nothing of it is at log2 N or worse.
Summed over all facts and divided by all weights this is the density that arXiv 2404.05405 calls knowledge capacity (2
bits a weight at 1,000 exposures, 0.7 with 4-bit weights); the sum over single facts, each at least 0, is chosen here,
since its own measure is a bound over many made-up names. Objects are not equally frequent: `above_frequency` holds each
fact against how often its object occurs in the relation, which a model may know without knowing the fact.

A folder of models has one folder a model, with `model/` (a checkpoint) and `facts.csv` (relation, subject, object, most
popular first: the form of the embedded facts, of whose relations they must be).
"""

import dataclasses
from collections import Counter
from collections.abc import Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from tqdm import tqdm
from transformers import PreTrainedTokenizerBase

from quantcliff import models, quantizers, stats
from quantcliff.atlas import Fact, Writer, load_facts, load_relations, prompt
from quantcliff.errors import InputError
from quantcliff.models import Model
from quantcliff.quantizers import CALIBRATION_DOCUMENTS, Scheme
from quantcliff.study import FULL
from quantcliff.study.shelf import Shelf

TRAINED = Path(__file__).parent / "trained"
"""Where the table lies that ships with the book."""

SEED = 20_261_128
ROWS = 256

WIDTHS, GROUPS, METHODS = (8, 4, 3, 2), (32, -1), ("rtn", "gptq")


@dataclasses.dataclass(frozen=True)
class Asked:
    """Some facts as token ids: `ids` prompt and object together, `starts` where the object begins, `n_objects` and
    `frequency` of each (objects of its relation; share of the relation's facts that have this object)."""

    ids: list[list[int]]
    starts: list[int]
    n_objects: Float[np.ndarray, " fact"]
    frequency: Float[np.ndarray, " fact"]

    @classmethod
    def of(cls, facts: Sequence[Fact], drawn: Sequence[Fact], tokenizer: PreTrainedTokenizerBase) -> "Asked":
        """Those of the drawn facts whose prompt is not joined with the object by the tokenizer.

        Args:
            facts: all that the model was trained on.
        """
        objects: dict[str, Counter[str]] = {}
        for fact in facts:
            objects.setdefault(fact.relation, Counter())[fact.object] += 1
        rows = []
        for fact in drawn:
            before = tokenizer(prompt(fact)).input_ids
            whole = tokenizer(f"{prompt(fact)} {fact.object}").input_ids
            if whole[: len(before)] == before and len(whole) > len(before):
                count = objects[fact.relation]
                rows.append((whole, len(before), len(count), count[fact.object] / count.total()))
        ids, starts, n_objects, frequency = zip(*rows, strict=True)
        return cls(list(ids), list(starts), np.array(n_objects, float), np.array(frequency, float))


@torch.no_grad()
def object_costs(
    model: Model, asked: Asked
) -> tuple[Float[np.ndarray, " fact"], Float[np.ndarray, " fact"]]:  # fmt: skip
    """Cross-entropy of every object in bits, and whether its first token is the model's first choice (0 or 1)."""
    cost, first = np.zeros(len(asked.ids)), np.zeros(len(asked.ids))
    order = np.argsort([len(row) for row in asked.ids], kind="stable")
    for start in range(0, len(order), ROWS):
        chosen = order[start : start + ROWS]
        longest = max(len(asked.ids[index]) for index in chosen)
        ids = torch.tensor([[*asked.ids[index], *[0] * (longest - len(asked.ids[index]))] for index in chosen])
        logits = model.hf(ids.to(model.hf.device)).logits.float().cpu()
        logprobs = torch.log_softmax(logits[:, :-1].double(), -1).gather(-1, ids[:, 1:, None])[..., 0]
        for row, index in enumerate(chosen):
            begin, end = asked.starts[index] - 1, len(asked.ids[index]) - 1
            cost[index] = -float(logprobs[row, begin:end].sum()) / np.log(2)
            first[index] = float(logits[row, begin].argmax() == ids[row, begin + 1])
    return cost, first


def known_bits(
    cost: Float[np.ndarray, " fact"], reference: Float[np.ndarray, " fact"]
) -> Float[np.ndarray, " fact"]:  # fmt: skip
    """max(0, reference - cost), bits."""
    return np.maximum(0.0, reference - cost)


def found_in(folder: Path) -> dict[str, tuple[Path, Path]]:
    """Checkpoint and facts of every model in a folder of models.

    Raises:
        InputError: there is none, or one lacks its facts.
    """
    names = sorted(path.parent.parent.name for path in folder.glob("*/model/config.json"))
    if not names:
        raise InputError(f"{folder} holds no models; it needs NAME/model and NAME/facts.csv for each of them")
    for name in names:
        if not (folder / name / "facts.csv").is_file():
            raise InputError(f"{folder / name} has no facts.csv (relation, subject, object) that its model learned")
    return {name: (folder / name / "model", folder / name / "facts.csv") for name in names}


def density(folder: Path, run: Path, n_facts: int = 2000, device: str = "cpu") -> pd.DataFrame:
    """Every model of a folder of models, in full precision and quantized, one after the other; what is finished is
    read back from RUN.

    Returns:
        model, facts (learned), layers, width, parameters, method ("full"), bits, group_size, average_bits; accuracy
        (Wilson, of the facts asked), kept (of full precision's right answers, Wilson), n, n_known; density (bits of
        knowledge per weight, bootstrap over facts), above_frequency (likewise); each with `_low` and `_high`.

    Raises:
        InputError: see `found_in`.
    """
    parts = []
    for name, (checkpoint, file) in tqdm(found_in(folder).items(), desc="density", disable=None):
        facts = load_facts(file)
        if unknown := {fact.relation for fact in facts} - set(load_relations()):
            raise InputError(f"{file} has facts of relation {min(unknown)}, for which there are no sentences")
        content = [models.digest_of(checkpoint), [dataclasses.astuple(fact) for fact in facts], n_facts]
        made = partial(_model, checkpoint, facts, run, n_facts, device)
        one = Shelf(run).kept("boundary_density", name, content, made)
        parts.append(one.assign(model=name))
    whole = pd.concat(parts, ignore_index=True)
    return whole[["model", *(column for column in whole if column != "model")]]


def _model(checkpoint: Path, facts: Sequence[Fact], run: Path, n_facts: int, device: str) -> pd.DataFrame:
    full = models.load(checkpoint, device=device)
    drawn = np.sort(np.random.default_rng(SEED).permutation(len(facts))[:n_facts])
    asked = Asked.of(facts, [facts[index] for index in drawn], full.tokenizer)
    config, weights = full.hf.config, full.hf.num_parameters()
    text = list(islice(Writer(tuple(facts)).texts(SEED), CALIBRATION_DOCUMENTS))
    about = {
        "facts": len(facts), "layers": config.num_hidden_layers, "width": config.hidden_size, "parameters": weights,
    }  # fmt: skip
    known = object_costs(full, asked)[1] == 1
    schemes = [None, *(Scheme(method, bits, size) for method in METHODS for bits in WIDTHS for size in GROUPS)]
    rows = []
    for scheme in tqdm(schemes, desc=checkpoint.parent.name, leave=False, disable=None):
        if scheme is None:
            own, names = full, {"method": FULL, "bits": 32, "group_size": -1, "average_bits": 32.0}
        else:
            folder = quantizers.quantize(checkpoint, scheme, text, run / "quantized")
            own = models.load(folder, device=device, base=checkpoint)
            names = {"method": scheme.method, "bits": scheme.bits, "group_size": scheme.group_size,
                     "average_bits": quantizers.average_bits(config, scheme)}  # fmt: skip
        rows.append(about | names | _knowledge(own, asked, known, len(facts) / weights))
    return pd.DataFrame(rows)


def _knowledge(model: Model, asked: Asked, known: np.ndarray, facts_per_weight: float) -> dict[str, Any]:
    cost, first = object_costs(model, asked)
    found = {"accuracy": stats.share(first == 1), "kept": stats.share(first[known] == 1)}
    for name, reference in (("density", np.log2(asked.n_objects)), ("above_frequency", -np.log2(asked.frequency))):
        found[name] = stats.bootstrap_mean(known_bits(cost, reference) * facts_per_weight)
    row: dict[str, Any] = {"n": len(known), "n_known": int(known.sum())}
    for name, (value, low, high) in found.items():
        row |= {name: float(value), f"{name}_low": float(low), f"{name}_high": float(high)}
    return row
