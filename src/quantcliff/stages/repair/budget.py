"""Which modules are worth more bits: those whose weights have the heaviest tails, within a share of all weights."""

from collections.abc import Mapping, Sequence

import numpy as np
from scipy.stats import kurtosis
from torch import Tensor
from transformers import PreTrainedModel

from quantcliff.models import linears

RANDOM_DRAWS = 2


def by_kurtosis(weights: Mapping[str, Tensor]) -> list[str]:
    """Names of weight matrices, heaviest tails first: excess kurtosis over all elements of a matrix."""
    return sorted(weights, key=lambda name: -float(kurtosis(weights[name].double().cpu().numpy(), axis=None)))


def within_budget(order: Sequence[str], sizes: Mapping[str, int], share: float) -> list[str]:
    """The first names of `order` whose sizes add up to at most `share` of all; one that does not fit is skipped."""
    left, chosen = share * sum(sizes.values()), []
    for name in order:
        if sizes[name] <= left:
            left -= sizes[name]
            chosen.append(name)
    return chosen


def heavy_and_random(hf: PreTrainedModel, share: float, seed: int) -> tuple[list[str], list[list[str]]]:
    """Module names within `share` of all weights: those of highest kurtosis, and `RANDOM_DRAWS` random sets."""
    names = linears(hf.config)
    weights = {name: hf.get_submodule(name).weight for name in names}
    sizes = {name: rows * columns for name, (rows, columns) in names.items()}
    draw = np.random.default_rng(seed)
    shuffled = [[str(name) for name in draw.permutation(list(names))] for _ in range(RANDOM_DRAWS)]
    heavy, *others = (within_budget(order, sizes, share) for order in (by_kurtosis(weights), *shuffled))
    return heavy, others
