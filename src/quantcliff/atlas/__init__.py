"""The embedded model "atlas", as data. In: the files here. Out: facts, running text, the folder of a checkpoint."""

from quantcliff.atlas.text import (
    FOLDER,
    Fact,
    Relation,
    Stream,
    Writer,
    load_facts,
    load_relations,
    popularity,
    prompt,
    sentence,
)

NAME = "atlas"

MODEL = FOLDER / "model"
"""Folder of the shipped checkpoint: plain `AutoModelForCausalLM.from_pretrained` loads it."""

__all__ = ["FOLDER", "MODEL", "NAME", "Fact", "Relation", "Stream", "Writer", "load_facts", "load_relations",
           "popularity", "prompt", "sentence"]  # fmt: skip
