"""Partial rank correlations: against their formula, and where one number is but another one's shadow."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import rankdata, spearmanr

from quantcliff.stages.smoothness import beyond


def cells(n: int = 96, seed: int = 0) -> pd.DataFrame:
    """kept depends on the divergence and on `own`; `shadow` is the divergence with noise."""
    draw = np.random.default_rng(seed)
    kl, own, other = draw.normal(size=(3, n))
    return pd.DataFrame({
        "text_kl": np.exp(kl), "own": own, "kept": -kl + own + 0.1 * other, "shadow": kl + 0.3 * draw.normal(size=n),
        "stream_snr": -kl + 0.3 * draw.normal(size=n), "bits": np.repeat([4, 3, 2], n // 3),
        "group_size": np.tile([32, 64, 128, -1], n // 4),
    })  # fmt: skip


def test_one_given_follows_the_formula() -> None:
    grid = cells()
    x, y, z = (grid[name].to_numpy() for name in ("shadow", "kept", "text_kl"))
    xy, xz, yz = (spearmanr(*pair).statistic for pair in ((x, y), (x, z), (y, z)))
    want = (xy - xz * yz) / np.sqrt((1 - xz**2) * (1 - yz**2))
    assert beyond.partial(x, y, z[:, None]) == pytest.approx(want)
    assert beyond.partial(x, y, np.empty((len(x), 0))) == pytest.approx(xy)
    assert beyond.partial(np.exp(x), y**3, np.log(z)[:, None]) == pytest.approx(want), "ranks alone count"
    assert np.isnan(beyond.partial(z, y, z[:, None]))


def test_two_given_follow_the_formula() -> None:
    grid = cells(seed=1)
    x, y, z, w = (grid[name].to_numpy() for name in ("own", "kept", "text_kl", "stream_snr"))

    def one(a: np.ndarray, b: np.ndarray) -> float:
        return beyond.partial(a, b, z[:, None])

    want = (one(x, y) - one(x, w) * one(y, w)) / np.sqrt((1 - one(x, w) ** 2) * (1 - one(y, w) ** 2))
    assert beyond.partial(x, y, np.column_stack([z, w])) == pytest.approx(want)


def drawn_by_hand(x: np.ndarray, y: np.ndarray, given: np.ndarray) -> float:
    """The definition: ranks, least squares, correlation."""
    ranks = rankdata(np.column_stack([x, y, given]), axis=0)
    ranks -= ranks.mean(0)
    target, design = ranks[:, :2], ranks[:, 2:]
    left = target - design @ np.linalg.lstsq(design, target, rcond=None)[0]
    return float((left[:, 0] * left[:, 1]).sum() / np.sqrt((left**2).sum(0)).prod())


def test_samples_are_as_if_each_were_drawn_by_hand() -> None:
    grid = cells(24)
    grid["own"] = grid["own"].round(1)  # ties
    columns = grid[["own", "kept", "text_kl", "stream_snr"]].to_numpy()
    rows = np.random.default_rng(3).integers(24, size=(20, 24))
    counts = np.stack([np.bincount(sample, minlength=24) for sample in rows]).astype(float)
    found = beyond.partials(columns, counts)
    for sample, value in zip(rows, found, strict=True):
        own = columns[sample]
        assert value == pytest.approx(drawn_by_hand(own[:, 0], own[:, 1], own[:, 2:]), abs=1e-9)
    twice = np.column_stack([columns, columns[:, 2]])
    assert beyond.partials(twice, counts) == pytest.approx(found, abs=1e-6), "what is given twice is given once"


def test_blocks_are_drawn_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(beyond, "RESAMPLES", 50)
    grid, draw = cells(24), np.random.default_rng(0)
    grid["group_size"] = grid["group_size"].where(grid.index >= 6, 32)  # blocks of 2, and of more
    members = list(pd.Series(range(24)).groupby(beyond.blocks(grid)).indices.values())
    columns, found = grid[["own", "kept", "text_kl"]].to_numpy(), []
    for _ in range(50):
        rows = np.concatenate([members[block] for block in draw.integers(len(members), size=len(members))])
        found.append(drawn_by_hand(*columns[rows, :2].T, columns[rows, 2:]))
    interval = beyond.between(grid, "own", ["text_kl"], 0.9)
    assert list(interval[1:]) == pytest.approx(list(np.quantile(found, [0.05, 0.95])), abs=1e-9)


def test_blocks_are_of_one_width_and_group_size() -> None:
    grid = cells(24)
    found = beyond.blocks(grid)
    assert len(set(found)) == 12 and len(set(zip(found, grid["bits"], grid["group_size"], strict=True))) == 12


def test_a_shadow_says_nothing_beyond_and_an_own_voice_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(beyond, "RESAMPLES", 300)
    found = beyond.table(cells(), ("own", "shadow"), ("stream_snr",)).set_index(["number", "given"])
    assert found.loc[("own", "divergence"), "low"] > 0.5 and found.loc[("own", "all errors"), "low"] > 0.5
    assert found.loc[("shadow", "nothing"), "high"] < 0
    for given in ("divergence", "all errors"):
        row = found.loc[("shadow", given)]
        assert row["low"] < 0 < row["high"] and row["low"] < row["estimate"] < row["high"]
    assert found["kind"].to_dict()[("stream_snr", "divergence")] == "error"
    assert set(found.loc["stream_snr"].index) == {"nothing", "divergence", "all errors"}


def test_intervals_widen_with_the_level_and_come_out_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(beyond, "RESAMPLES", 300)
    grid = cells().assign(kept=lambda table: table["kept"] + 2 * np.random.default_rng(9).normal(size=len(table)))
    wide, narrow = (beyond.between(grid, "own", ["text_kl"], level) for level in (0.99, 0.5))
    assert wide.low < narrow.low < narrow.estimate < narrow.high < wide.high
    assert beyond.between(grid, "own", ["text_kl"], 0.99) == wide
    assert beyond.between(grid, "own", [], target="shadow").estimate == pytest.approx(
        spearmanr(grid["own"], grid["shadow"]).statistic
    )
