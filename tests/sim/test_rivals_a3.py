"""A3: the greedy search against sorting all products, post-scoring, and its cycle counts."""

import dataclasses
import math

import numpy as np
import pytest

from sim.rivals import measure, select_all
from sim.rivals.a3 import A3Config, Machine, greedy_scores
from tests.sim.rivals_case import rounded, tensors


def brute_force(q: np.ndarray, k: np.ndarray, iterations: int) -> np.ndarray:
    """The same search on the sorted list of all products of one query; -1 where a tie makes the order open."""
    product = q * k
    order = sorted((value, row) for row, line in enumerate(product.tolist()) for value in line)
    score, total = np.zeros(len(k)), 0.0
    low, high = 0, len(order) - 1
    for _ in range(iterations):
        value, row = order[high]
        high -= 1
        if value > 0:
            score[row] += value
            total += value
        if total < 0:
            continue
        value, row = order[low]
        low += 1
        if value < 0:
            score[row] += value
            total += value
    return score


@pytest.mark.parametrize("seed", range(4))
def test_the_search_pops_the_products_of_the_whole_matrix_in_order(seed: int) -> None:
    work = tensors(6, 30, 16, seed)
    order = np.argsort(work.k, axis=0, kind="stable")
    for iterations in (1, 7, 60, 240):
        found = greedy_scores(work.q, work.k, order, work.seen, np.full(6, iterations))
        for row in range(6):
            np.testing.assert_allclose(found[row], brute_force(work.q[row], work.k, iterations), atol=1e-12)


def test_a_query_that_sees_fewer_keys_searches_only_those() -> None:
    work = tensors(5, 24, 8, seed=2, causal=True)
    order = np.argsort(work.k, axis=0, kind="stable")
    found = greedy_scores(work.q, work.k, order, work.seen, np.full(5, 20))
    for row, seen in enumerate(work.seen.tolist()):
        assert not found[row, seen:].any()
        np.testing.assert_allclose(found[row, :seen], brute_force(work.q[row], work.k[:seen], 20), atol=1e-12)


def test_candidates_and_post_scoring() -> None:
    work = tensors(20, 64, 16, seed=5)
    config = A3Config(128, search_share=0.5, post_threshold=0.1)
    (done,) = select_all(Machine(config), [work])
    q, k = rounded(work.q, 9), rounded(work.k, 9)
    for row in range(20):
        candidates = brute_force(q[row], k, 32) > 0
        assert (done.keys[row] == candidates).all()
        score = k @ q[row] / 4
        best = score[candidates].max()
        assert (done.values[row] == (candidates & (np.exp(score - best) >= 0.1))).all()


def test_cycles_per_query() -> None:
    """n + 9 for the base machine, n / 2 + n / 16 + 9 where the search is the longest stage."""
    work = tensors(200, 320, 64, seed=1)
    base = Machine(A3Config(128, search_share=0.0, post_threshold=0.0))
    found = measure(base, [work], select_all(base, [work]))
    assert found.compute_cycles == 329 * 201  # two stages: 200 rows behind the first's first
    search = Machine(A3Config(128))
    found = measure(search, [work], select_all(search, [work]))
    assert found.compute_cycles / 200 == pytest.approx(160 + 20 + 9, rel=0.02)
    double = Machine(A3Config(256))
    again = measure(double, [work], select_all(double, [work]))
    assert again.compute_cycles == pytest.approx(found.compute_cycles / 2, rel=0.02)


def test_sorting_is_charged_where_it_is_on_the_machine() -> None:
    work = tensors(3, 320, 64, seed=1)
    config = A3Config(128, sort_lanes=16)
    rival = Machine(config)
    (done,) = select_all(rival, [work])
    assert rival.cost(work, done).prepare == 320 * math.ceil(math.log2(320)) * 64 / 16
    assert Machine(dataclasses.replace(config, sort_lanes=0)).cost(work, done).prepare == 0
    step = work._replace(decode=True)
    assert rival.cost(step, done).prepare == 320 * 64 / 16
    names = [stream.name for stream in rival.cost(step, done).streams]
    assert "sorted k" in names
