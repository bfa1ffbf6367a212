"""Half of the embedded facts heals, the other half tells whether what came back is more than what was read again.

Another model heals on text of its own.
"""

import zlib
from itertools import islice
from pathlib import Path

import numpy as np
from jaxtyping import Bool

from quantcliff.atlas import Writer, load_facts
from quantcliff.probes import Probes
from quantcliff.quantizers import self_text

SEED = 20_261_127
"""Of the healing text: neither the training's, nor the calibration's, nor that of the running text."""

TOKENS = 64
"""Tokens of a sequence: as many as the embedded model was trained on."""

PER_SEQUENCE = 4
"""Documents drawn for a sequence: more than it can hold, cut where the text is enough."""


def heals(subject: str) -> bool:
    """Whether facts about this subject may stand in the healing text: about half of all subjects, by their hash."""
    return zlib.crc32(f"heals|{subject}".encode()) % 2 == 0


def documents(sequences: int) -> list[str]:
    """Text about the healing half alone, in its training sentences, so that no test prompt is among them.

    The subjects of the other half do not occur. Their answers do, as answers to other facts. More sequences begin with
    the same text.
    """
    facts = tuple(fact for fact in load_facts() if heals(fact.subject))
    return list(islice(Writer(facts).texts(SEED), sequences * PER_SEQUENCE))


BLOCK, LENGTH = 1024, 256
"""Documents that another model writes itself at a time, and their tokens: 4,096 sequences."""


def own_documents(model: str | Path, sequences: int) -> list[str]:
    """Text that a model writes itself, under seeds of its own (`quantizers.own_text`): blocks of `BLOCK` documents,
    drawn side by side. More sequences begin with the same text. A GPU writes a block in seconds, a CPU in half an hour.
    """
    blocks = -(-sequences * TOKENS // (BLOCK * LENGTH))
    return [text for block in range(blocks) for text in self_text(model, BLOCK, LENGTH, SEED + block, BLOCK)]


def healing_half(probes: Probes) -> Bool[np.ndarray, " prompt"]:
    """Which prompts ask about the healing half."""
    return np.array([heals(subject) for subject in probes.table["subject"]], dtype=bool)
