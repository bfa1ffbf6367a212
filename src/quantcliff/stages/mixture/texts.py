"""What chooses and what tests: facts by their subjects, running text, copies; and calibration text mixed by tokens.

Facts are split by a hash of the subject. Of the embedded model all running text is split too, since it is about the
same facts: no subject of the testing half is named in a text that chooses or calibrates.
"""

import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from quantcliff import atlas
from quantcliff.atlas import Writer, load_facts
from quantcliff.models import Model
from quantcliff.probes import Probes
from quantcliff.quantizers.own_text import lead_of
from quantcliff.stages.macro import running_text
from quantcliff.study import Study

CHOOSING, TESTING = "choosing", "testing"

SEEDS = {CHOOSING: 20_261_128, TESTING: 20_261_129, "calibration": 20_261_130}
"""Of the embedded model's running text."""

LENGTH = 64
"""Tokens of a piece of running text: as many as the embedded model was trained on."""

COPIED = 12
"""Tokens that are read twice."""

TOLD = 0.5
"""A model copies if the second reading costs less than this share of the first."""

BLOCKS = 20
"""Parts into which facts, pieces and copies are dealt: what is kept of a loss is its mean in each."""


@dataclass(frozen=True)
class Sizes:
    """How much is read: facts, pieces of text and copies that choose; those that test; tokens of calibration text."""

    facts: int = 480
    pieces: int = 120
    copies: int = 20
    tested: int = 1000
    tested_pieces: int = 200
    tested_copies: int = 40
    tokens: int = 6000


SMALLER = Sizes(80, 20, 20, 200, 20, 20, 8192)
"""For models of more than `LARGE` weights, which take seconds to read as much."""

LARGE = 2e7


def sizes_of(study: Study) -> Sizes:
    return SMALLER if study.base.hf.num_parameters() > LARGE else Sizes()


@dataclass(frozen=True, eq=False)
class Half:
    """What models are asked: facts that full precision answers, pieces of running text (token ids), and `copies`: rows
    of what stands in front of every text, then `COPIED` tokens twice; no rows where full precision does not copy."""

    facts: Probes
    pieces: list[list[int]]
    copies: Int[Tensor, "n pos"]


def chooses(subject: str) -> bool:
    """Whether facts about this subject choose, or test: about half of all subjects each."""
    return zlib.crc32(f"mixture|{subject}".encode()) % 2 == 0


def half_of(study: Study, name: str, sizes: Sizes) -> Half:
    """One of both halves (`CHOOSING`, `TESTING`)."""
    first = name == CHOOSING
    known = study.known
    mine = np.array([chooses(subject) == first for subject in known.table["subject"]], dtype=bool)
    n = (sizes.facts, sizes.pieces, sizes.copies) if first else (
        sizes.tested, sizes.tested_pieces, sizes.tested_copies
    )  # fmt: skip
    tokenizer = study.base.tokenizer
    pieces = pieces_of((tokenizer(text).input_ids for text in documents(study, name)), n[1])
    rows = copies(pieces, lead_of(tokenizer), n[2], study.seed)
    return Half(known.select(mine).draw(n[0], study.seed), pieces, rows if copying(study.base, rows) else rows[:0])


def documents(study: Study, name: str) -> Iterable[str]:
    """Running text of one half; of the embedded model as much as is asked for, of others every other document."""
    if study.parameters.model == atlas.NAME:
        return _written(name != TESTING, SEEDS[name])
    return running_text(study)[name == TESTING :: 2]


def _written(choosing: bool, seed: int) -> Iterable[str]:
    return Writer(tuple(fact for fact in load_facts() if chooses(fact.subject) == choosing)).texts(seed)


def pieces_of(encoded: Iterable[list[int]], n: int) -> list[list[int]]:
    """The first n pieces of at most `LENGTH` tokens that documents are cut into; a piece of one token says nothing."""
    cut = (ids[start : start + LENGTH] for ids in encoded for start in range(0, len(ids), LENGTH))
    return list(islice((piece for piece in cut if len(piece) > 1), n))


def copies(pieces: Sequence[list[int]], lead: list[int], n: int, seed: int) -> Int[Tensor, "n pos"]:
    """Rows of `COPIED` distinct tokens, drawn from the pieces, read twice after `lead`."""
    pool = np.unique(np.concatenate(pieces))
    pool = pool[~np.isin(pool, lead)]
    draw = np.random.default_rng(seed)
    rows = [draw.choice(pool, COPIED, replace=False).tolist() for _ in range(n)]
    return torch.tensor([[*lead, *row, *row] for row in rows])


@torch.no_grad()
def copying(base: Model, rows: Int[Tensor, "n pos"]) -> bool:
    """Whether a model copies: the second reading costs less than `TOLD` of the first."""
    first, second = readings(base.hf(rows.to(base.hf.device)).logits, rows)
    return bool(second.mean() < TOLD * first.mean())


def readings(
    logits: Float[Tensor, "batch pos vocab"], ids: Int[Tensor, "batch pos"]
) -> tuple[Float[np.ndarray, " batch"], Float[np.ndarray, " batch"]]:
    """Loss of the first and of the second reading of what the rows repeat, nats a token, without the first token of
    either, which nothing foretells."""
    log = torch.log_softmax(logits[:, :-1].double(), -1)
    each = -log.gather(-1, ids[:, 1:, None].to(logits.device))[..., 0].cpu().numpy()
    return each[:, -2 * COPIED + 1 : -COPIED].mean(1), each[:, 1 - COPIED :].mean(1)


def blend(study: Study, alpha: float, tokens: int, draw: int = 0) -> list[str]:
    """Calibration text of so many tokens, a share `alpha` of them general text and the rest facts of the choosing half,
    each a prompt with its answer.

    Args:
        draw: another number takes other sentences.
    """
    n_general = round(alpha * tokens)
    general, task = general_text(study, draw), task_text(study, draw)
    return first_tokens(study, general, n_general) + first_tokens(study, task, tokens - n_general)


def general_text(study: Study, draw: int = 0) -> Iterable[str]:
    if study.parameters.model == atlas.NAME:
        return _written(True, SEEDS["calibration"] + 1000 * draw)
    return _shuffled(study.calibration_for("gptq"), draw)


def task_text(study: Study, draw: int = 0) -> list[str]:
    """Prompts of the choosing half, known or not, each with its answer."""
    table = study.probes.table
    rows = [row for row in table.itertuples() if chooses(row.subject)]
    return _shuffled([f"{row.prompt} {row.object.split(' | ')[0]}." for row in rows], draw)


def _shuffled(texts: Sequence[str], draw: int) -> list[str]:
    return [texts[place] for place in np.random.default_rng(draw).permutation(len(texts))]


def first_tokens(study: Study, texts: Iterable[str], tokens: int) -> list[str]:
    """The first texts that have so many tokens together, the last one cut; all of them where they have fewer."""
    tokenizer, found = study.base.tokenizer, []
    for text in texts:
        if tokens <= 0:
            break
        ids = tokenizer(text, add_special_tokens=False).input_ids
        found.append(text if len(ids) <= tokens else tokenizer.decode(ids[:tokens]))
        tokens -= len(ids)
    return found


def digest_parts(half: Half) -> list[object]:
    """All that a half consists of, as plain values."""
    return [half.facts.digest, half.pieces, half.copies.tolist()]
