"""What two numbers or arrays have in common and where they differ, in a sentence that a student can act on."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

FACTORS = {2.0: "twice", 0.5: "half of", 100.0: "100 times", 10.0: "10 times", 0.1: "a tenth of"}


def numbers(answer: Any) -> np.ndarray | str:
    """An answer as an array of floats, of whatever library it comes from; or one sentence why it is none."""
    if hasattr(answer, "detach"):
        answer = answer.detach().cpu()
    if isinstance(answer, pd.Series | pd.DataFrame):
        answer = answer.to_numpy()
    if isinstance(answer, list | tuple) and any(hasattr(part, "detach") for part in answer):
        answer = [numbers(part) for part in answer]
    try:
        return np.asarray(answer, dtype=float)
    except (TypeError, ValueError):
        return f"A number (or an array of numbers) is asked for, and this is {kind(answer)}."


def kind(answer: Any) -> str:
    """What an answer is, in words: "a str"."""
    name = type(answer).__name__
    return f"{'an' if name[0].lower() in 'aeiou' else 'a'} {name}"


def same(found: np.ndarray | str, right: np.ndarray | str, rtol: float, atol: float) -> bool:
    """Whether both are arrays of one shape whose numbers are near each other; nan is near nan."""
    if isinstance(found, str) or isinstance(right, str) or found.shape != right.shape:
        return False
    return bool(np.allclose(found, right, rtol=rtol, atol=atol, equal_nan=True))


def copied(case: Sequence[Any]) -> tuple[Any, ...]:
    """Arguments whose arrays, tensors, tables and lists are copies; models stay as they are."""
    return tuple(_copy(value) for value in case)


def _copy(value: Any) -> Any:
    if hasattr(value, "detach") and hasattr(value, "clone"):
        return value.detach().clone()
    if isinstance(value, np.ndarray | pd.DataFrame | pd.Series | list):
        return value.copy()
    return value


def unchanged(given: Sequence[Any], case: Sequence[Any]) -> bool:
    """Whether the arrays, tensors and lists of a call are still what they were."""
    for one, other in zip(given, case, strict=True):
        if (hasattr(other, "detach") and hasattr(other, "clone")) or isinstance(other, np.ndarray):
            if not np.array_equal(np.asarray(one), np.asarray(other), equal_nan=_floats(other)):
                return False
        elif isinstance(other, list) and one != other:
            return False
    return True


def _floats(values: Any) -> bool:
    return np.asarray(values).dtype.kind == "f"


def difference(found: np.ndarray, right: np.ndarray, rtol: float, atol: float) -> str:
    """How an answer differs from the right one, without saying what that is."""

    def near(one: ArrayLike, other: ArrayLike) -> bool:
        return same(np.asarray(one), np.asarray(other), rtol, atol)

    if found.shape != right.shape:
        if found.ndim == 2 and found.T.shape == right.shape:
            return "The axes are swapped: rows stand where columns should."
        return f"Its shape is {found.shape}, and {right.shape} is asked for (() is a single number)."
    if np.isnan(found).any() and not np.isnan(right).any():
        return "Some of it is no number (nan): look for 0 / 0, or for a mean over nothing."
    if near(found, -right):
        return "The size is right and the sign is wrong: look which is taken from which."
    if near(found, 100 * right):
        return "This is a percentage; give the share, between 0 and 1."
    if near(found, 1 - right):
        return "This is one minus what is asked for: the share of the others."
    if found.ndim == 2 and near(found.T, right):
        return "The axes are swapped: rows stand where columns should."
    if found.size > 1 and near(np.sort(found, axis=None), np.sort(right, axis=None)):
        return "The numbers are right, but they stand in the wrong order."
    return _size(found, right, rtol)


def _size(found: np.ndarray, right: np.ndarray, rtol: float) -> str:
    """A factor that all numbers have in common, or else whether they are too large or too small."""
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.atleast_1d(found / right)
    if right.size > 1 and np.isfinite(ratio).all() and np.allclose(ratio, ratio.flat[0], rtol=rtol):
        return f"All numbers are off by one factor, {ratio.flat[0]:.3g}: a division is missing, or one too many."
    for factor, words in FACTORS.items():
        if right.size == 1 and np.isclose(ratio.flat[0], factor, rtol=rtol):
            return f"This is {words} what is asked for."
    off = np.atleast_1d(~np.isclose(found, right, rtol=rtol, equal_nan=True))
    sign = np.atleast_1d(found - right)[off]
    side = "too large" if (sign > 0).all() else "too small" if (sign < 0).all() else "some too large, some too small"
    if right.size == 1:
        return f"This is {side}."
    return f"{off.sum()} of {right.size} numbers are wrong, and these are {side}."
