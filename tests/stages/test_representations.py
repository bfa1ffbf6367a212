"""Measures of representations against direct computation, against scikit-learn and scipy, and by their properties."""

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import subspace_angles
from scipy.stats import ortho_group
from sklearn.decomposition import PCA, TruncatedSVD

from quantcliff.charts import representations as charts
from quantcliff.errors import InputError
from quantcliff.probes import Probes
from quantcliff.stages import representations as rep
from quantcliff.stages.representations import cka as linear
from quantcliff.stages.representations import subspaces as sub
from quantcliff.stages.representations.moments import Cross, blocks
from quantcliff.study import Study

quick = settings(deadline=None, max_examples=25)
seeds = st.integers(0, 2**32 - 1)


def moments(x, y):
    return Cross.of(x, x), Cross.of(y, y), Cross.of(x, y)


def cka(x, y, debiased=False):
    return linear.cka(*moments(x, y), debiased)


def signal(rng, n=200, width=12, decay=1.0, shift=2.0):
    """Rows with a spectrum that falls off and a mean, turned at random."""
    scale = np.arange(1, width + 1) ** -decay
    turn = ortho_group.rvs(width, random_state=rng)
    return (rng.standard_normal((n, width)) * scale + shift * rng.standard_normal(width)) @ turn


def pair(seed, noise=0.5, **sizes):
    rng = np.random.default_rng(seed)
    x = signal(rng, **sizes)
    return x, x + noise * rng.standard_normal(x.shape) + 0.3


def measures(x, y, k, centred=True):
    return {name: value for (name, _), value in rep.aligned(*moments(x, y), [k], centred).items()}


# --- CKA ---------------------------------------------------------------------------------------------------------


def gram_cka(x, y, debiased):
    """Linear CKA the long way, from n x n Gram matrices."""
    n = len(x)
    k, l = x @ x.T, y @ y.T  # noqa: E741
    if debiased:
        for gram in (k, l):
            np.fill_diagonal(gram, 0)

        def hsic(k, l):  # noqa: E741
            ones = np.ones(n)
            return (
                np.trace(k @ l)
                + ones @ k @ ones * (ones @ l @ ones) / ((n - 1) * (n - 2))
                - 2 / (n - 2) * (ones @ k @ l @ ones)
            )
    else:
        centre = np.eye(n) - 1 / n

        def hsic(k, l):  # noqa: E741
            return np.trace(k @ centre @ l @ centre)

    return hsic(k, l) / np.sqrt(hsic(k, k) * hsic(l, l))


@pytest.mark.parametrize("debiased", [False, True])
def test_cka_equals_gram_form(debiased):
    x, y = pair(0, n=30)
    np.testing.assert_allclose(cka(x, y, debiased), gram_cka(x, y, debiased), rtol=1e-9)
    unrelated = np.random.default_rng(1).standard_normal((30, 5))
    np.testing.assert_allclose(cka(x, unrelated, debiased), gram_cka(x, unrelated, debiased), rtol=1e-9)


def test_cka_of_whitened_data_is_mean_squared_canonical_correlation():
    x, y = pair(3)
    x, y = (PCA(whiten=True).fit_transform(array) for array in (x, y))
    correlations = np.linalg.svd(x.T @ y / (len(x) - 1), compute_uv=False)
    np.testing.assert_allclose(cka(x, y), np.mean(correlations**2), rtol=1e-9)


@quick
@given(seeds, st.floats(1e-3, 1e3), st.booleans())
def test_cka_ignores_rotation_scale_and_shift(seed, scale, debiased):
    x, y = pair(seed, n=60)
    turn = ortho_group.rvs(12, random_state=seed)
    moved = scale * y @ turn + 5 * scale
    np.testing.assert_allclose(cka(x, moved, debiased), cka(x, y, debiased), rtol=1e-7)
    np.testing.assert_allclose(cka(x, scale * x @ turn, debiased), 1, rtol=1e-7)


@quick
@given(seeds, st.booleans())
def test_cka_is_symmetric_and_bounded(seed, debiased):
    x, y = pair(seed, noise=3, n=40)
    np.testing.assert_allclose(cka(x, y, debiased), cka(y, x, debiased), rtol=1e-10)
    if not debiased:
        assert 0 <= cka(x, y) <= 1


def test_cka_sees_a_stretch_that_is_no_rotation():
    x, _ = pair(0)
    assert cka(x, x * np.linspace(1, 6, 12)) < 0.99


def test_cka_chance_is_the_mean_over_shuffled_pairings():
    rng = np.random.default_rng(0)
    x, y = pair(0, n=25)
    found = [(cka(x, y[order]), cka(x, y[order], True)) for order in (rng.permutation(25) for _ in range(3000))]
    filled = [sub.participation(Cross.of(array, array).second(centred=True)) for array in (x, y)]
    mean, debiased = np.mean(found, axis=0)
    assert linear.cka_chance(*filled, 25) == pytest.approx(mean, rel=0.02)
    assert mean > 0.05
    assert debiased == pytest.approx(0, abs=0.01)


def test_few_rows_inflate_plain_cka_but_not_the_debiased_one():
    rng = np.random.default_rng(0)
    drawn = [(rng.standard_normal((30, 64)), rng.standard_normal((30, 64))) for _ in range(20)]
    assert np.mean([cka(x, y) for x, y in drawn]) > 0.6
    assert np.mean([cka(x, y, True) for x, y in drawn]) == pytest.approx(0, abs=0.05)


# --- subspaces ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("centred", [True, False])
def test_directions_equal_sklearn(centred):
    x, _ = pair(2, decay=1.5)
    found = sub.directions(Cross.of(x, x).second(centred), 4, 0.0)
    other = PCA(4, svd_solver="full") if centred else TruncatedSVD(4, algorithm="arpack")
    components = other.fit(x).components_.T
    np.testing.assert_allclose(sub.overlap(found, components), 1, rtol=1e-9)
    np.testing.assert_allclose(found.T @ found, np.eye(4), atol=1e-12)
    if centred:
        held = measures(x, x + 1, 4)["signal_share"]
        np.testing.assert_allclose(held, other.explained_variance_ratio_.sum(), rtol=1e-9)


@quick
@given(seeds, st.integers(1, 8))
def test_overlap_is_the_mean_squared_cosine_of_principal_angles(seed, k):
    rng = np.random.default_rng(seed)
    u, v = (np.linalg.qr(rng.standard_normal((9, k)))[0] for _ in range(2))
    value = sub.overlap(u, v)
    np.testing.assert_allclose(value, np.mean(np.cos(subspace_angles(u, v)) ** 2), atol=1e-12)
    assert -1e-12 <= value <= 1 + 1e-12
    np.testing.assert_allclose(sub.overlap(u, u @ ortho_group.rvs(k, random_state=seed) if k > 1 else -u), 1)


@quick
@given(seeds, st.booleans())
def test_subspace_similarity_turns_with_one_model_but_not_with_both(seed, centred):
    x, y = pair(seed)
    turn = ortho_group.rvs(12, random_state=seed)
    before, together = measures(x, y, 3, centred), measures(x @ turn, y @ turn, 3, centred)
    np.testing.assert_allclose(list(together.values()), list(before.values()), rtol=1e-6, atol=1e-9)
    assert 0 <= before["subspace"] <= 1
    scaled = measures(x, 7 * y, 3, centred)["subspace"]
    np.testing.assert_allclose(scaled, before["subspace"], rtol=1e-6)


def test_subspace_similarity_of_orthogonal_signals_is_zero():
    rng = np.random.default_rng(0)
    x, y = np.zeros((2, 50, 8))
    x[:, :3], y[:, 3:6] = rng.standard_normal((2, 50, 3))
    assert measures(x, y, 3)["subspace"] == pytest.approx(0, abs=1e-12)


# --- the error and the signal ------------------------------------------------------------------------------------


@pytest.mark.parametrize("centred", [True, False])
def test_error_measures_equal_the_direct_computation(centred):
    x, y = pair(4)
    found = measures(x, y, 3, centred)
    shift = (y - x).mean(0)
    if centred:
        x, y = x - x.mean(0), y - y.mean(0)
    e = y - x
    gain = (x * y).sum() / (x * x).sum()
    left = y - gain * x
    u, w, rest = (np.linalg.svd(a, full_matrices=False)[2][:3].T for a in (x, e, left))
    want = {
        "error_share": np.linalg.norm(e @ u) ** 2 / np.linalg.norm(e) ** 2,
        "error_overlap": np.mean(np.cos(subspace_angles(u, w)) ** 2),
        "signal_share": np.linalg.norm(x @ u) ** 2 / np.linalg.norm(x) ** 2,
        "error_size": np.linalg.norm(e) ** 2 / np.linalg.norm(x) ** 2,
        "gain": gain,
        "fade_share": np.linalg.norm((gain - 1) * x) ** 2 / np.linalg.norm(e) ** 2,
        "residual_share": np.linalg.norm(left @ u) ** 2 / np.linalg.norm(left) ** 2,
        "residual_overlap": np.mean(np.cos(subspace_angles(u, rest)) ** 2),
    }
    for name, matrix in (("signal", x), ("error", e), ("residual", left)):
        energies = np.linalg.svd(matrix, compute_uv=False) ** 2
        want[f"{name}_directions"] = energies.sum() ** 2 / (energies**2).sum()
    if not centred:
        want["shift_share"] = len(x) * shift @ shift / np.linalg.norm(e) ** 2
    assert found.keys() - want.keys() == {"subspace"}
    np.testing.assert_allclose([found[name] for name in want], list(want.values()), rtol=1e-8)


def test_isotropic_error_meets_the_signal_by_chance_only():
    rng = np.random.default_rng(0)
    found = []
    for _ in range(200):
        x = signal(rng, n=100, width=16)
        found.append(rep.aligned(*moments(x, x + rng.standard_normal(x.shape)), [4], True))
    for name in ("error_share", "error_overlap", "residual_share", "residual_overlap"):
        assert np.mean([values[name, 4] for values in found]) == pytest.approx(4 / 16, abs=0.02)
        assert rep.chance_of(name, 4, found[0], 16, 100)[0] == 4 / 16


def test_error_aimed_at_or_away_from_the_signal():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((300, 10)) * np.array([9, 8, 7] + [1.0] * 7)
    aimed, away = np.zeros((2, 300, 10))
    aimed[:, :3], away[:, 5:8] = rng.standard_normal((2, 300, 3))
    hit, missed = (measures(x, x + error, 3) for error in (aimed, away))
    assert min(hit["error_share"], hit["error_overlap"]) > 0.98
    assert max(missed["error_share"], missed["error_overlap"]) < 0.02


def test_lost_signal_scores_what_the_signal_scores():
    """A faded copy makes no error but the missing part of the signal: share of the signal itself, gain below one."""
    x, _ = pair(5)
    found = measures(x, 0.25 * x, 3)
    assert found["gain"] == pytest.approx(0.25)
    assert found["fade_share"] == pytest.approx(1)
    assert found["error_share"] == pytest.approx(found["signal_share"])
    assert found["error_overlap"] == pytest.approx(1)
    assert found["error_size"] == pytest.approx(0.75**2)
    assert found["subspace"] == pytest.approx(1)


def test_a_shared_shift_counts_only_where_the_mean_is_kept():
    rng = np.random.default_rng(0)
    x = signal(rng)
    noise = 0.1 * rng.standard_normal(x.shape)
    direction = rng.standard_normal(12)
    plain, moved = (measures(x, x + noise + s * direction, 3) for s in (0, 5))
    np.testing.assert_allclose(list(moved.values()), list(plain.values()), rtol=1e-6)
    kept = rep.aligned(*moments(x, x + noise + 5 * direction), [3], False)
    assert kept["shift_share", None] > 0.99
    assert rep.chance_of("shift_share", None, kept, 12, 200)[0] == 1 / 200
    independent = rep.aligned(*moments(x, x + noise), [3], False)["shift_share", None]
    assert independent == pytest.approx(1 / 200, rel=1)


@pytest.mark.parametrize("spectrum", [[1, 0, 0, 0, 0, 0, 0, 0], [8, 4, 2, 1, 1, 1, 1, 1], [1, 1, 1, 0, 0, 0, 0, 0]])
def test_random_share_equals_random_subspaces(spectrum):
    rng = np.random.default_rng(0)
    second = np.diag(np.array(spectrum, float))
    drawn = [sub.share(np.linalg.qr(rng.standard_normal((8, 3)))[0], second)[-1] for _ in range(4000)]
    mean, low, high = sub.random_share(3, 8, sub.participation(second))
    assert mean == 3 / 8
    assert mean == pytest.approx(np.mean(drawn), abs=0.01)
    assert [low, high] == pytest.approx(np.quantile(drawn, [0.025, 0.975]), abs=0.03)


def test_random_share_of_isotropic_energy_does_not_vary():
    assert sub.random_share(3, 8, 8.0) == (3 / 8, 3 / 8, 3 / 8)


# --- degenerate input --------------------------------------------------------------------------------------------


def test_equal_models_have_no_error_to_align():
    x, _ = pair(6)
    found = measures(x, x, 3)
    assert cka(x, x) == pytest.approx(1)
    assert found["subspace"] == pytest.approx(1)
    assert found["gain"] == pytest.approx(1)
    assert found["error_size"] == pytest.approx(0, abs=1e-12)
    assert all(np.isnan(found[name]) for name in ("error_share", "error_overlap", "fade_share", "residual_overlap"))


def test_constant_activations_give_nan():
    x, y = pair(7)
    flat = np.full_like(x, 3.3)
    assert np.isnan([cka(x, flat), cka(flat, x), cka(flat, flat), cka(flat, flat, True)]).all()
    dead = measures(x, flat, 3)
    assert np.isnan(dead["subspace"])
    assert dead["gain"] == pytest.approx(0, abs=1e-9)
    assert dead["fade_share"] == pytest.approx(1)
    source = measures(flat, y, 3)
    assert all(np.isnan(source[name]) for name in ("subspace", "error_share", "signal_share", "error_size", "gain"))


def test_too_few_rows_for_k_directions_give_nan():
    x, y = pair(8, n=3)
    assert np.isnan(measures(x, y, 3)["subspace"])
    assert not np.isnan(measures(x, y, 2)["subspace"])
    assert np.isnan(cka(x, y, debiased=True))


# --- tables ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def layers():
    """Three layers of 60 prompts: layer j of the other model is layer j of the first with growing noise."""
    rng = np.random.default_rng(0)
    full = np.stack([signal(rng, n=60, width=8) for _ in range(3)], axis=1).astype(np.float32)
    noise = rng.standard_normal(full.shape) * np.array([0.1, 0.4, 1.5])[:, None]
    return full, (full + noise).astype(np.float32)


def test_cka_table(layers):
    full, quantized = layers
    parts = blocks(np.arange(60), 6, 0)
    table = rep.cka_table(full, quantized, parts)
    assert len(table) == 2 * 9
    for row in table.itertuples():
        want = cka(full[:, row.layer_fp], quantized[:, row.layer_q], row.measure == "cka_debiased")
        assert row.estimate == pytest.approx(want, rel=1e-6)
        assert row.low <= row.estimate <= row.high
    left_out = [np.setdiff1d(np.arange(60), part) for part in parts]
    values = np.array([cka(full[rows, 0], quantized[rows, 2]) for rows in left_out])
    reach = 2.5706 * np.sqrt(5 * values.var())
    found = table[(table.measure == "cka") & (table.layer_fp == 0) & (table.layer_q == 2)].iloc[0]
    assert found.high - found.estimate == pytest.approx(reach, rel=1e-3)
    assert set(table[table.measure == "cka_debiased"].chance) == {0.0}
    some = rep.cka_table(full, quantized, parts, [(2, 0), (1, 1)])
    whole = table.set_index(["measure", "layer_fp", "layer_q"]).estimate
    assert some.set_index(["measure", "layer_fp", "layer_q"]).estimate.to_dict() == {
        key: whole[key] for key in whole.index if key[1:] in ((2, 0), (1, 1))
    }
    assert table[table.measure == "cka"].chance.between(0, 0.2).all()


def test_aligned_table(layers):
    full, quantized = layers
    table = rep.aligned_table(full, quantized, blocks(np.arange(60), 6, 0), [3, 2])
    assert set(table.k.dropna()) == {2, 3}
    table = table[table.k.fillna(2) == 2]
    found = table.set_index(["measure", "layer_fp", "centred"])
    assert not found.index.duplicated().any()
    for layer in range(3):
        for centred in (True, False):
            want = measures(full[:, layer], quantized[:, layer], 2, centred)
            for measure, value in want.items():
                assert found.estimate[measure, layer, centred] == pytest.approx(value, rel=1e-6), measure
    similarity = found.estimate["subspace"].xs(True, level="centred")
    assert similarity[0] > 0.9 > similarity[2]
    assert ("shift_share", 0, True) not in found.index
    assert (table.low <= table.estimate + 1e-12).all()
    assert (found.n == 60).all()


# --- a whole study -----------------------------------------------------------------------------------------------


def prompts(lengths, subject):
    rng = np.random.default_rng(0)
    ids = [[0, *rng.integers(1, 320, length - 1).tolist()] for length in lengths]
    names = ["fact", "relation", "subject", "object", "prompt", "band"]
    table = pd.DataFrame({name: range(len(ids)) for name in names}).astype({"prompt": str})
    return Probes(ids, [[5]] * len(ids), np.array(subject), table, table.head(0))


def test_rows_of_positions():
    probes = prompts([3, 5, 1, 4], [[1, 1], [-1, -1], [-1, -1], [1, 2]])
    found = {where: [part.tolist() for part in rep.rows_of(probes, where)] for where in ("last", "last_subject", "all")}
    assert found["last"] == [[0, 1, 2, 3], [0, 1, 2, 3]]
    assert found["last_subject"] == [[0, 3], [0, 3]]
    assert found["all"] == [[1, 2, 4, 5, 6, 7, 10, 11, 12], [0, 0, 1, 1, 1, 1, 3, 3, 3]]
    nobody = prompts([3, 3], [[-1, -1], [-1, -1]])
    with pytest.raises(InputError, match="no prompt has a token for positions='last_subject'"):
        rep.rows_of(nobody, "last_subject")


@pytest.fixture
def study(tiny_llama, tmp_path):
    """Two variants of the random Llama on 40 prompts, all taken for known."""
    study = Study(model=tiny_llama, method="rtn", bits="8,2", group_size=32, run=tmp_path)
    lengths = np.random.default_rng(0).integers(3, 8, 40)
    study.probes = study.known = prompts(lengths, np.stack([np.ones(40, int), lengths - 2], 1))
    return study


def test_measure_reads_the_same_activations_as_a_plain_run(study):
    table = rep.measure(study, ("last", "last_subject", "all"), (3,), n_blocks=5)
    assert (study.run / "representations.parquet").is_file()
    ids = study.known.input_ids
    plain = {label: study.model(label).hf.model for label in study.labels}
    with torch.no_grad():
        streams = {
            label: [model(torch.tensor([row]), output_hidden_states=True) for row in ids]
            for label, model in plain.items()
        }
    assert set(table.variant) == set(study.variants)
    for label in study.variants:
        rows = table[(table.variant == label) & (table.layer_fp == 1) & (table.layer_q == 1) & table.centred]
        for where, cut in (("last", slice(-1, None)), ("last_subject", slice(-2, -1)), ("all", slice(1, None))):
            x, y = (np.concatenate([s.hidden_states[2][0, cut].numpy() for s in streams[m]]) for m in ("full", label))
            found = rows[rows.positions == where].set_index("measure")
            assert found.estimate["cka"] == pytest.approx(cka(x, y), rel=1e-4)
            assert (found.n == len(x)).all()
            for name, value in measures(x, y, 3).items():
                assert found.estimate[name] == pytest.approx(value, rel=1e-2), name
    similar = table[(table.measure == "subspace") & (table.layer_fp == 2)].groupby("bits").estimate.min()
    assert similar[8] > 0.98 > similar[2]


def test_measure_refuses_what_does_not_fit(study):
    with pytest.raises(InputError, match="32 wide, so choose 1 to 31"):
        rep.measure(study, ks=(4, 32))
    study.known = prompts([4, 4], [[-1, -1]] * 2)
    with pytest.raises(InputError, match="choose positions='last'"):
        rep.measure(study, ("last", "last_subject"))


def test_charts_draw_what_the_table_says(study):
    table = rep.measure(study, ("last", "all"), (2, 4), n_blocks=4)
    assert rep.default_k(32) == 2
    shares = charts.select(table, "error_share", k=2)
    assert len(shares) == 2 * 3
    signal = charts.select(table, "signal_share", k=2)
    deep = table[(table.measure == "subspace") & table.centred & (table.layer_fp == 2)]
    drawn = [
        *charts.cka_map(table).charts,
        charts.by_layer(shares, "share of the error", "Where the error lies", signal=signal),
        charts.by_layer(charts.select(table, "gain"), "gain", "What is left", limits=None),
        charts.by_layer(shares[shares.bits == 2], "share of the error", "By method", by="method"),
        charts.by_k(deep[deep.positions == "last"], "similarity", "Directions and k"),
        charts.by_position(deep[deep.k == 2], "similarity", "Where one looks"),
    ]
    for chart in drawn:
        spec = chart.to_dict()
        assert spec["title"]
        assert len(spec["description"]) > 80
        assert "nan" not in spec["description"]
    diagonal = table[(table.measure == "cka") & (table.layer_fp == table.layer_q) & (table.positions == "last")]
    said = {chart.to_dict()["title"][0]: chart.to_dict()["description"] for chart in charts.cka_map(table).charts}
    assert f"{diagonal[diagonal.bits == 2].estimate.mean():.2f} at 2 bits" in said["2 bits"]
