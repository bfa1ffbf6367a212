"""Texts: another kind to calibrate on, and what a model reads before any fact is asked.

The other kind is the reference of the Python language, which comes with every Python (`pydoc_data.topics`): English
prose about syntax, with code and grammar in it, as unlike short sentences about people and places as a text can be that
is on every machine. It is cut into as many documents of as many tokens as the usual text has, so that the amount of
text differs in nothing.
"""

from collections.abc import Sequence
from functools import lru_cache
from pydoc_data.topics import topics

from jaxtyping import Int
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from quantcliff.quantizers import token_batches

TOKENS = 1024
"""Tokens of text that are read before anything is said about a model."""

LONGEST = 128
"""Tokens at which a document is cut."""

ROWS = 8
"""Documents read side by side: few, since the logits of all their positions are held."""


def out_of_distribution(tokenizer: PreTrainedTokenizerBase, like: Sequence[str]) -> list[str]:
    """The Python reference in as many documents as `like` has, each of as many tokens (but for what decoding and
    encoding again changes)."""
    ids = _reference(tokenizer)
    found, start = [], 0
    for document in like:
        length = len(tokenizer(document, add_special_tokens=False).input_ids)
        piece = [ids[(start + place) % len(ids)] for place in range(length)]
        found.append(tokenizer.decode(piece))
        start += length
    return found


@lru_cache(maxsize=2)
def _reference(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Token ids of the Python reference."""
    return tokenizer("\n".join(topics[name] for name in sorted(topics)), add_special_tokens=False).input_ids


def read_first(tokenizer: PreTrainedTokenizerBase, documents: Sequence[str], tokens: int = TOKENS) -> list[str]:
    """The first documents that have so many tokens together, each cut at `LONGEST`; all where they have fewer."""
    found, count = [], 0
    for document in documents:
        length = min(LONGEST, len(tokenizer(document).input_ids))
        if count >= tokens:
            break
        if length > 1:
            found.append(document)
            count += length
    return found


def batches_of(tokenizer: PreTrainedTokenizerBase, documents: Sequence[str]) -> list[Int[Tensor, "_ _"]]:
    """Token ids of `read_first`, without padding: documents side by side are cut to the shortest of them."""
    found = token_batches(tokenizer, read_first(tokenizer, documents), LONGEST, ROWS)
    return [ids for ids in found if ids.shape[1] > 1]
