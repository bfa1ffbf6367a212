"""Colours of the book stay apart for readers who see no red or no green."""

import itertools

import numpy as np
import pytest

from quantcliff.charts import BITS, FULL, METHODS, MODELS

SIGHT = {
    "full": np.eye(3),
    "no red": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "no green": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
}
"""How linear RGB is seen (Machado, Oliveira and Fernandes 2009, doi 10.1109/TVCG.2009.113, severity 1)."""

XYZ = np.array(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
)

LEAST = 20
"""Distance in CIELAB that two colours keep at least; 2.3 is just noticeable side by side."""


def seen(color: str, sight: str) -> np.ndarray:
    """CIELAB coordinates of a colour, as someone of that sight sees it."""
    parts = np.array([int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
    ratio = XYZ @ np.clip(np.array(SIGHT[sight]) @ linear, 0, 1) / np.array([0.95047, 1, 1.08883])
    f = np.where(ratio > 216 / 24389, np.cbrt(ratio), 841 / 108 * ratio + 4 / 29)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


@pytest.mark.parametrize("sight", SIGHT)
@pytest.mark.parametrize("colors", [[*BITS.values(), FULL], [*METHODS.values(), FULL], [*MODELS.values(), FULL]])
def test_colors_that_stand_side_by_side_stay_apart(colors, sight):
    apart = {
        (a, b): float(np.linalg.norm(seen(a, sight) - seen(b, sight))) for a, b in itertools.combinations(colors, 2)
    }
    assert min(apart.values()) >= LEAST, min(apart, key=apart.get)


def test_simulation_takes_red_and_green_for_alike():
    assert np.linalg.norm(seen("#b00000", "no red") - seen("#5a5a00", "no red")) < 25
    assert np.linalg.norm(seen("#b00000", "full") - seen("#5a5a00", "full")) > 60
