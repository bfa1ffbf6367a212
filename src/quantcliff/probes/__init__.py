"""In: facts or running text, and a tokenizer. Out: prompts as token ids, with right answers and subject positions."""

from quantcliff.probes import facts, recall, sources
from quantcliff.probes.facts import DROPPED, Facts, Probes
from quantcliff.probes.positions import POSITIONS, aligned, inside, other_facts, spans

__all__ = ["DROPPED", "POSITIONS", "Facts", "Probes", "aligned", "facts", "inside", "other_facts", "recall",
           "sources", "spans"]  # fmt: skip
