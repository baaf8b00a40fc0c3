"""ELSA: the Kronecker hash against the full matrix, the angle bias, candidates and lanes."""

import functools
import math

import numpy as np
import pytest

from accel.errors import UserError
from sim.rivals import select_all
from sim.rivals.elsa import (
    ElsaConfig,
    Machine,
    angle_bias,
    factors,
    hash_multiplications,
    kronecker_sizes,
    signs,
    similarity,
)
from tests.sim.rivals_case import rounded, tensors


@pytest.mark.parametrize("dim", [8, 32, 64, 128])
def test_the_hash_is_the_sign_of_the_full_orthogonal_projection(dim: int) -> None:
    full = functools.reduce(np.kron, factors(dim, 7))
    np.testing.assert_allclose(full @ full.T, np.eye(dim), atol=1e-12)
    x = np.random.default_rng(1).standard_normal((50, dim))
    assert (signs(x, dim, 7) == (x @ full.T < 0)).all()


def test_multiplications_of_a_hash() -> None:
    """3 d^(4/3) at d = 64 instead of d^2 = 4096."""
    assert kronecker_sizes(64) == (4, 4, 4)
    assert hash_multiplications(64) == 768
    assert hash_multiplications(32) == 32 * 10
    with pytest.raises(UserError, match="power of two"):
        kronecker_sizes(48)


def test_the_angle_bias_is_what_is_recalled_of_the_paper() -> None:
    assert angle_bias(64) == pytest.approx(0.127, abs=0.005)
    assert angle_bias(32) > angle_bias(64) > angle_bias(128)


def test_similarity_and_candidates() -> None:
    work = tensors(10, 40, 64, seed=4)
    q, k = rounded(work.q, 9), rounded(work.k, 9)
    full = functools.reduce(np.kron, factors(64, 1))
    rival = Machine(ElsaConfig(512, strictness=1.0))
    done = rival.select_and_run(work.q, work.k, work.v, work.seen, 0.2)
    for row in range(10):
        for key in range(40):
            distance = int(((full @ q[row] < 0) != (full @ k[key] < 0)).sum())
            angle = max(0.0, math.pi / 64 * distance - angle_bias(64))
            estimate = np.linalg.norm(k[key]) * math.cos(min(math.pi, angle))
            assert similarity(q, k, 1)[row, key] == pytest.approx(estimate)
            if done.keys[row].sum() > 1:
                assert done.keys[row, key] == (estimate > 0.2 * np.linalg.norm(k, axis=1).max())


def test_the_learned_threshold_is_the_mean_of_the_smallest_heavy_scores() -> None:
    work = tensors(12, 30, 16, seed=6)
    total = 0.0
    for query in work.q:
        score = work.k @ query
        weight = np.exp(score / 4) / np.exp(score / 4).sum()
        heavy = score[weight > 2 / 30]
        least = heavy.min() if len(heavy) else score.max()
        total += least / np.linalg.norm(query) / np.linalg.norm(work.k, axis=1).max()
    assert Machine(ElsaConfig(512, strictness=2.0)).learn(work.q, work.k, work.seen) == pytest.approx(total / 12)


def test_more_strictness_keeps_less() -> None:
    work = tensors(40, 100, 64, seed=8)
    kept = [select_all(Machine(ElsaConfig(512, strictness=p)), [work])[0].keys.sum() for p in (0.0, 1.0, 2.0, 4.0)]
    assert kept[0] == 4000
    assert kept == sorted(kept, reverse=True)
    assert kept[-1] < kept[1]


def test_stage_cycles() -> None:
    """n = 512 on four lanes: 128 cycles dense, a floor of 16 for the selection, 3 for the hash of a query."""
    work = tensors(5, 512, 64)
    base = Machine(ElsaConfig(512, strictness=0.0))
    (done,) = select_all(base, [work])
    assert (base.cost(work, done).stages["attention"] == 128).all()
    rival = Machine(ElsaConfig(512))
    (done,) = select_all(rival, [work])
    cost = rival.cost(work, done)
    assert (cost.stages["selection"] == 16).all()
    assert (cost.stages["hash"] == 3).all()
    assert (cost.stages["division"] == 4).all()
    assert cost.prepare == 512 * 3
    lanes = [done.keys[:, lane::4].sum(axis=1) for lane in range(4)]
    assert (cost.stages["attention"] == np.max(lanes, axis=0)).all()
