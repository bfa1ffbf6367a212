"""What the two models say: a few prompts with the right answer and the words of each.

A share of answers kept does not tell how a model fails. Three prompts do: lost answers, and beside them one that is
kept. The words are greedy, so that they are the same in every run; an answer counts as right by its first token alone.
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Int

from quantcliff.study import FULL, Study
from quantcliff.tracing import Runner

N, TOKENS = 3, 6
"""Prompts shown, and tokens that each model is let say."""

COLUMNS = ["prompt", "right", "full", "quantized", "kept"]


def examples(study: Study, label: str, n: int = N, tokens: int = TOKENS) -> pd.DataFrame:
    """A few of the facts that full precision knows, as the two models answer them -> RUN/examples.parquet.

    Returns:
        One row a prompt: prompt, right (the answer, several joined by " | "), full and quantized (the next words of
        full precision and of the variant), kept (whether the variant's first token is a right one).
    """
    source = hashlib.sha256(Path(__file__).read_bytes()).hexdigest()[:16]  # no stage, so not in the shelf's own digest
    found = study.table(
        "examples", lambda label: _asked(study, label, n, tokens), [label], n=n, tokens=tokens, source=source
    )
    return found[COLUMNS]


def _asked(study: Study, label: str, n: int, tokens: int) -> pd.DataFrame:
    kept = (study.known_scores(label)["rank"] == 1).to_numpy()
    chosen = draw(kept, study.known.table["relation"].astype(str).tolist(), n, study.seed)
    probes = study.known.select(chosen)
    said = {
        name: [words(study.runner(which), ids, tokens) for ids in probes.input_ids]
        for name, which in (("full", FULL), ("quantized", label))
    }
    return pd.DataFrame(
        {"prompt": probes.table["prompt"], "right": probes.table["object"], **said, "kept": kept[chosen]}
    )


def draw(kept: Bool[np.ndarray, " known"], relations: Sequence[str], n: int, seed: int) -> Int[np.ndarray, " n"]:
    """Numbers of at most n facts: lost ones first, as many relations as there are, and last one that is kept.

    Where too few are lost, more of the kept ones fill up.
    """
    mixed = np.random.default_rng(seed).permutation(len(kept))
    turn = pd.Series([kept[number] for number in mixed]).astype(str) + [relations[number] for number in mixed]
    mixed = mixed[np.argsort(turn.groupby(turn).cumcount().to_numpy(), kind="stable")]
    lost, still = mixed[~kept[mixed]], mixed[kept[mixed]]
    shown = lost[: max(n - 1, n - len(still))]
    return np.concatenate([shown, still[: n - len(shown)]]).astype(np.int64)


def words(runner: Runner, ids: Sequence[int], tokens: int) -> str:
    """What a model says after a prompt, its first choice at every step; shorter where it ends its text."""
    hf, said = runner.model.hf, list[int]()
    ends = hf.generation_config.eos_token_id if hf.generation_config else None
    stops = set(ends) if isinstance(ends, list) else {ends}
    while len(said) < tokens:
        asked = torch.tensor([[*ids, *said]])
        logits, _ = runner.run(asked, last=torch.tensor([asked.shape[1] - 1]))
        choice = int(logits[0].argmax())
        if choice in stops:
            break
        said.append(choice)
    return str(runner.model.tokenizer.decode(said))
