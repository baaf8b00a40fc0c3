"""Energon's rounds and MNNFast's skipping against loops written here, and what they fetch."""

import math

import numpy as np
import pytest

from sim.rivals import measure, select_all
from sim.rivals.energon import EnergonConfig, top_bits
from sim.rivals.energon import Machine as Energon
from sim.rivals.mnnfast import Machine as MnnFast
from sim.rivals.mnnfast import MnnFastConfig
from tests.sim.rivals_case import rounded, tensors


def test_top_bits_are_the_upper_bits_of_a_wide_number() -> None:
    x = np.random.default_rng(0).standard_normal(500)
    wide = np.clip(np.floor(x / np.abs(x).max() * 2**15), -(2**15), 2**15 - 1).astype(int)
    for bits in (2, 4):
        assert (top_bits(x, bits) - 0.5 == wide >> (16 - bits)).all()


@pytest.mark.parametrize("alpha", [-0.3, 0.0, 0.4])
def test_two_rounds_of_filtering(alpha: float) -> None:
    work = tensors(25, 60, 32, seed=3, causal=True)
    (done,) = select_all(Energon(EnergonConfig(128, alpha_1=alpha, alpha_2=alpha)), [work])
    for row, seen in enumerate(work.seen.tolist()):
        alive = list(range(seen))
        for bits in (2, 4):
            score = {j: float(top_bits(work.q, bits)[row] @ top_bits(work.k, bits)[j]) for j in alive}
            mean = sum(score.values()) / len(score)
            far = max(score.values()) if alpha >= 0 else min(score.values())
            limit = abs(alpha) * far + (1 - abs(alpha)) * mean
            # A difference of rounding decides nothing: such a row is left to the other tests.
            if any(abs(value - limit) < 1e-9 for value in score.values()) and len(score) > 1:
                break
            alive = [j for j in alive if score[j] > limit] or [max(score, key=lambda j: score[j])]
        else:
            assert np.flatnonzero(done.keys[row]).tolist() == alive


def test_energon_fetches_planes_of_survivors_alone() -> None:
    work = tensors(1, 400, 64, seed=1)._replace(decode=True)
    rival = Energon(EnergonConfig(128))
    (done,) = select_all(rival, [work])
    streams = {stream.name: stream for stream in rival.cost(work, done).streams}
    first, last = int(done.detail["round_1"].sum()), int(done.keys.sum())
    assert last < first < 400
    assert streams["k round 1"].useful_bytes == 400 * 16
    assert streams["k round 2"].useful_bytes == first * 16
    assert streams["k rest"].useful_bytes == last * 96
    assert streams["v"].useful_bytes == last * 128
    # V rows are four whole accesses each; a 96-byte row of K is three.
    assert len(streams["v"].places) == 4 * last
    assert len(streams["k rest"].places) == 3 * last
    everything = Energon(EnergonConfig(128, filters=False))
    dense = measure(everything, [work], select_all(everything, [work]))
    assert measure(rival, [work], [done]).dram_bytes < dense.dram_bytes / 2


def test_mnnfast_skips_what_is_small_when_its_chunk_comes() -> None:
    work = tensors(15, 50, 16, seed=2, causal=True)
    (done,) = select_all(MnnFast(MnnFastConfig(128, skip_below=0.05, chunk_keys=8)), [work])
    q, k, v = (rounded(x, 12) for x in (work.q, work.k, work.v))
    for row, seen in enumerate(work.seen.tolist()):
        denominator, total, kept = 0.0, np.zeros(16), []
        for start in range(0, seen, 8):
            chunk = range(start, min(start + 8, seen))
            power = {j: math.exp(float(q[row] @ k[j]) / 4) for j in chunk}
            denominator += sum(power.values())
            for j in chunk:
                if power[j] >= 0.05 * denominator:
                    total += power[j] * v[j]
                    kept.append(j)
        assert np.flatnonzero(done.values[row]).tolist() == kept
        np.testing.assert_allclose(done.output[row], total / denominator, atol=1e-9)


def test_mnnfast_time_with_and_without_its_choices() -> None:
    work = tensors(50, 320, 64)
    cycles = {}
    for skip_saves_time in (False, True):
        for overlap in (False, True):
            rival = MnnFast(MnnFastConfig(128, overlap=overlap, skip_saves_time=skip_saves_time))
            cycles[skip_saves_time, overlap] = measure(rival, [work], select_all(rival, [work])).compute_cycles
    assert cycles[False, False] == 50 * 640
    assert cycles[False, True] == 51 * 320
    assert 50 * 320 < cycles[True, False] < 50 * 640
