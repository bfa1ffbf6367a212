"""Was it read again? Facts that SmolLM2 knows, by whether the text it healed on names their subject.

Written down after the learning curve was known and before any of this was measured; plain rounding, healed on `EQUAL`
sequences:

- A fact is *never named* if its subject stands nowhere in the documents that the text was cut from (whole words, case
  ignored, the last document counted whole although it may be cut), else *named*; *told* are those of the named whose
  answer stands in one of the same documents.
- *What returns was not read* if among the never named the interval of the share kept lies above that of the model as it
  is, and at least half as much returns among them as among the named.
- The model that is asked is *the one of the shipped table* if its share kept of all facts lies in that one's interval.
"""

import re
import shutil
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Bool
from safetensors.torch import load_file, save_file

from quantcliff import models
from quantcliff.errors import InputError
from quantcliff.stages.healing.text import TOKENS, own_documents
from quantcliff.stages.healing.trials import COLUMNS, Arm, checkpoint, measured_on, place
from quantcliff.study import Study

NAME = "healing_named"
"""Of the table."""

PARTS = ("never named", "named", "told")


def read_by(model: str, sequences: int) -> list[str]:
    """The documents of its own that a model read when it healed on so many sequences; the last may have been cut."""
    tokenizer = models.tokenizer_of(models.folder_of(model))
    documents, left = [], sequences * TOKENS
    for text in own_documents(model, sequences):
        if left <= 0:
            break
        documents.append(text)
        left -= len(tokenizer(text).input_ids)
    return documents


def parts(facts: pd.DataFrame, documents: Sequence[str]) -> dict[str, Bool[np.ndarray, " fact"]]:
    """Which facts are of each of `PARTS`.

    Args:
        facts: subject and object (several joined by " | "), as `Probes.table` has them.
    """
    plain = [" ".join(text.split()) for text in documents]
    whole = "\n".join(plain)

    def stands(words: str, text: str) -> bool:
        return re.search(rf"(?<!\w){re.escape(words)}(?!\w)", text, re.IGNORECASE) is not None

    named = np.array([stands(subject, whole) for subject in facts["subject"]], dtype=bool)
    told = named.copy()
    for row in np.flatnonzero(named):
        subject, objects = facts.iloc[row][["subject", "object"]]
        about = "\n".join(text for text in plain if stands(subject, text))
        told[row] = any(stands(answer, about) for answer in objects.split(" | "))
    return dict(zip(PARTS, (~named, named, told), strict=True))


def measure(study: Study, arm: Arm) -> pd.DataFrame:
    """What an arm keeps of each of `PARTS`, and of all -> RUN/healing_named.parquet, columns as of `trials.measure`."""
    found = parts(study.known.table, read_by(study.parameters.model, arm.sequences))
    found = {"all": np.ones(len(study.known), dtype=bool), **found}
    about = (arm.name, arm.sequences, arm.sequences * TOKENS, arm.recipe.epochs)

    def compute(label: str) -> pd.DataFrame:
        rows = measured_on(study, checkpoint(study, label, arm), found, [])
        return pd.DataFrame([(*about, *row) for row in rows], columns=COLUMNS)

    return study.table(NAME, partial(compute), sequences=arm.sequences)


def rebuild(study: Study, arm: Arm, files: Sequence[Path]) -> Path:
    """The folder of an arm from its packed tensors, which another machine made: config and all the rest are the
    unhealed checkpoint's. It lies where `checkpoint` looks.

    Raises:
        InputError: the files do not hold the packed matrices of that checkpoint, all of them, each of its shape.
    """
    (label,) = study.variants
    source, out = study.variant(label).path, place(study, label, arm)
    given = {name: tensor for file in files for name, tensor in load_file(file).items()}
    tensors = load_file(source / "model.safetensors")
    packed = {name for name in tensors if ".weight_" in name}
    alike = packed == set(given) and all(given[name].shape == tensors[name].shape for name in packed)
    if not alike:
        raise InputError(f"{', '.join(map(str, files))} are not the packed matrices of {source}")
    part = out.with_name(f".{out.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    shutil.copytree(source, part, ignore=shutil.ignore_patterns("*.safetensors"))
    save_file(tensors | given, part / "model.safetensors", {"format": "pt"})
    part.rename(out)
    return out
