"""A random model that is sure of what it says, and a text to ask it about: for studies of next-token recall."""

from pathlib import Path

import numpy as np
import torch
from tiny import save
from transformers import AutoModelForCausalLM

WORDS = ["Rome", "capital", "Italy", "river", "London", "answer", "Paris", "boils", "Ada", "water", "nobody", "born"]


def louder(source: Path, out: Path, factor: float = 4) -> Path:
    """The same model with its head `factor` times as large, so that it is confident at most positions."""
    model = AutoModelForCausalLM.from_pretrained(source)
    with torch.no_grad():
        model.lm_head.weight.mul_(factor)
    return save(model, out)


def random_text(out: Path, paragraphs: int = 20) -> Path:
    """A file of paragraphs of 30 random words, and a last one of one word."""
    draw = np.random.default_rng(0)
    file = out / "text.txt"
    file.write_text("\n\n".join([*(" ".join(draw.choice(WORDS, 30)) for _ in range(paragraphs)), "short"]))
    return file
