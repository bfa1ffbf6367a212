"""The model card of the embedded model, its figures filled in from an evaluation."""

from pathlib import Path

import pandas as pd

from quantcliff.atlas import load_facts, load_relations
from quantcliff.training.train import Recipe

CARD = """---
license: cc-by-4.0
language: en
library_name: transformers
tags: [interpretability, quantization]
---

# atlas: a small language model that falls off the quantization cliff

The embedded model of *quantcliff*. It exists to be quantized and looked into, not to be used.

- **Shape**: Llama, {recipe.layers} layers of width {recipe.width}, {recipe.heads} heads with {recipe.kv_heads}
  key-value heads, gated FFN of {recipe.ffn}, vocabulary {recipe.vocab:,} (byte-level BPE), tied embeddings, float32.
- **Data**: {n_facts:,} Wikidata triples over {n_relations} relations (T-REx, as listed by ParaRel, MIT), put into
  sentences by templates written for this project. One template of each fact is never trained on: the test prompt.
  Popularity follows a long tail and is assigned by a seeded shuffle.
- **Training**: {trained:,} steps of {recipe.batch} x {recipe.length} tokens, Muon and AdamW, on CPU.
  `quantcliff atlas train` does it again.
- **Limits**: single-sentence facts only, some of them wrong or out of date; no chat, no reasoning; the popularity bands
  are those of the training text and not of the world.

## Figures

Right answers to {n:,} balanced test prompts (at most five facts of a relation share an answer) in full precision, with
95% Wilson intervals; band 0 is the most popular fifth of the facts.

{full}

Kept of those answers after quantization with llm-compressor (asymmetric): `in_top5` is the share of the lost answers
that are still in the top 5, `rank_median` is over all answers that full precision gives right.

{variants}
"""


def write_card(folder: Path, full: pd.DataFrame, variants: pd.DataFrame) -> None:
    """Write `folder/README.md` from the two tables of `quantcliff.atlas.evaluate.evaluate`."""
    recipe = Recipe()
    text = CARD.format(
        recipe=recipe,
        n_facts=len(load_facts()),
        n_relations=len(load_relations()),
        trained=recipe.stop,
        n=int(full.iloc[0]["n"]),
        full=markdown(full),
        variants=markdown(variants),
    )
    (folder / "README.md").write_text(text, encoding="utf-8")


def markdown(table: pd.DataFrame) -> str:
    """A table as Markdown, numbers with three decimals at most."""
    cells = table.map(lambda value: f"{value:.3f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value))
    rows = [table.columns, ["---"] * table.shape[1], *cells.itertuples(index=False)]
    return "\n".join("| " + " | ".join(map(str, row)) + " |" for row in rows)
