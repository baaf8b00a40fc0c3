"""The executor reproduces golden to the bit: outputs, second passes, kept V rows, importance, lists."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from accel.arch import Arch, load_arch
from accel.errors import UserError
from accel.lower.plan import Plan
from accel.lower.programs import lower_decode, lower_prefill
from accel.program import Flag, Jobs, Lsb, Opcode, ValueFetch, jobs_of
from sim.values import Executor, JobTensors
from tests.random_tensors import KINDS, PLANES, scaled, tensors_of
from tests.sim.golden_machine import GoldenMachine, assert_same
from workloads.kernels import SoftmaxAttention

TINY = load_arch("tiny")
#: The full-size arrays with a score buffer so small that 48 keys of 64 are several tiles.
WIDE = load_arch("spatten", {"softmax.buffer_keys": 16})


def both(arch: Arch, jobs: Jobs, tensors: list[JobTensors], seed: int = 1) -> tuple[GoldenMachine, Executor]:
    """Run golden and executor and compare all they leave."""
    golden, executor = GoldenMachine(arch), Executor(arch, seed)
    assert_same(golden, executor, golden.run(jobs, tensors), executor.run(jobs, tensors=tensors))
    return golden, executor


plans = st.builds(
    lambda planes, lsb, threshold, **rest: Plan(
        key_msb_bits=planes[0], key_lsb_bits=planes[1], lsb=lsb if planes[1] else Lsb.NEVER, threshold=threshold, **rest
    ),
    st.sampled_from(PLANES),
    st.sampled_from(Lsb),
    st.sampled_from([0.0, 0.05, 0.3, 1.0]),
    local_values=st.sampled_from([1.0, 0.5, 0.2, 0.01]),
    tokens=st.sampled_from([1.0, 0.6, 0.3]),
)
kinds = st.sampled_from(KINDS)
scales = st.sampled_from([2.0**-12, 2.0**-6, 0.02, 1.0, 100.0])


@settings(max_examples=40)
@given(
    plans, kinds, scales, st.integers(0, 2**31), st.integers(1, 20), st.sampled_from([8, 24, 32]),
    st.sampled_from(["none", "causal"]), st.sampled_from([(2, 2), (4, 2), (3, 1)]),
)  # fmt: skip
def test_a_prefill_is_golden(
    plan: Plan, kind: str, real: float, seed: int, n: int, dim: int, mask: Any, heads: tuple[int, int]
) -> None:
    kernel = SoftmaxAttention(*heads, queries=n, keys=n, head_dim=dim, mask=mask)
    jobs = scaled(lower_prefill(kernel, plan, TINY, layers=3).jobs, real)
    both(TINY, jobs, tensors_of(jobs, seed, kind, n), seed % 65535 + 1)


@settings(max_examples=25)
@given(
    plans, kinds, scales, st.integers(0, 2**31), st.integers(2, 30), st.sampled_from([(2, 2), (4, 1)]), st.booleans()
)
def test_decoding_is_golden(
    plan: Plan, kind: str, real: float, seed: int, n: int, heads: tuple[int, int], prefill: bool
) -> None:
    kernel = SoftmaxAttention(*heads, queries=1, keys=n, head_dim=16, query_start=n - 1)
    jobs = scaled(lower_decode(kernel, plan, TINY, layers=3, steps=3, prefill=prefill).jobs, real)
    both(TINY, jobs, tensors_of(jobs, seed, kind, n + 2), seed % 65535 + 1)


@settings(max_examples=30)
@given(
    plans, kinds, scales, st.integers(0, 2**31), st.integers(1, 48), st.sampled_from([64, 80, 96, 128]),
    st.sampled_from(["none", "causal"]),
)  # fmt: skip
def test_tiles_are_golden(plan: Plan, kind: str, real: float, seed: int, n: int, dim: int, mask: Any) -> None:
    kernel = SoftmaxAttention(2, 1, queries=n, keys=n, head_dim=dim, mask=mask)
    jobs = scaled(lower_prefill(kernel, plan, WIDE, layers=2).jobs, real)
    assert n <= WIDE.tile_keys(dim) or (jobs["flags"] & Flag.LAST_TILE == 0).any()
    both(WIDE, jobs, tensors_of(jobs, seed, kind, n))


@pytest.mark.parametrize("kind", KINDS)
def test_pruned_heads_are_golden(kind: str) -> None:
    kernel = SoftmaxAttention(4, 4, queries=6, keys=6, head_dim=8, mask="none")
    jobs = scaled(lower_prefill(kernel, Plan(head_counts=(4, 2, 1)), TINY, layers=3).jobs, 0.01)
    golden, executor = both(TINY, jobs, tensors_of(jobs, 5, kind, 6))
    assert len(golden.heads) == 1
    assert len(np.concatenate(executor.recorded.lsb)) == (4 + 2 + 1) * 6, "rows of pruned heads are not worked on"


def test_more_keys_than_token_state_work_without_importance() -> None:
    kernel = SoftmaxAttention(1, 1, queries=3, keys=150, head_dim=32, query_start=147)
    jobs = scaled(lower_prefill(kernel, Plan(local_values=0.5), TINY, layers=1).jobs, 0.001)
    assert len(jobs) > 2, "several tiles"
    both(TINY, jobs, tensors_of(jobs, 3, "normal", 150))


@pytest.mark.parametrize("rows", [1, 383, 384, 385, 800])
def test_pieces_of_many_rows_leave_no_trace(rows: int) -> None:
    arch = load_arch("tiny", {"max_context": 1024})
    job = {
        "opcode": Opcode.ATTEND, "flags": Flag.CAUSAL | Flag.FIRST_TILE | Flag.LAST_TILE | Flag.ACCUMULATE,
        "value_fetch": ValueFetch.RESIDENT, "lsb": Lsb.TEST, "threshold": 1 << 14, "msb_bits": 8, "lsb_bits": 4,
        "value_bits": 12, "group": 1, "head_dim": 8, "queries": rows, "keys": 12, "first_visible": 1,
        "keep_ratio": 30000, "score_mantissa": 40000, "score_shift": 20, "q_stride": 64,
    }  # fmt: skip
    jobs = jobs_of([{"opcode": Opcode.TOKENS, "flags": Flag.RESTART, "keys": 12}, job])
    both(arch, jobs, tensors_of(jobs, rows, "normal", 12))


def test_what_prunes_nothing_is_dense_to_the_bit() -> None:
    kernel = SoftmaxAttention(4, 4, queries=20, keys=20, head_dim=32)
    nothing = Plan(key_msb_bits=8, key_lsb_bits=4, lsb=Lsb.ALWAYS, token_counts=(20,) * 3, head_counts=(4,) * 3)
    dense = scaled(lower_prefill(kernel, Plan(), TINY, layers=3).jobs, 0.01)
    pruned = scaled(lower_prefill(kernel, nothing, TINY, layers=3).jobs, 0.01)
    pruned["q_address"][pruned["opcode"] == Opcode.ATTEND] = dense["q_address"][dense["opcode"] == Opcode.ATTEND]
    a = Executor(TINY).run(dense, tensors=tensors_of(dense, 1, "normal", 20))
    b = Executor(TINY).run(pruned, tensors=tensors_of(pruned, 1, "normal", 20))
    np.testing.assert_array_equal(np.array(a), np.array(b))


def test_tiles_are_close_to_one_pass() -> None:
    kernel = SoftmaxAttention(1, 1, queries=40, keys=40, head_dim=64)
    outputs = []
    for arch in (WIDE, load_arch("spatten")):
        jobs = scaled(lower_prefill(kernel, Plan(), arch, layers=1).jobs, 0.01)
        rows = tensors_of(jobs, 1, "normal", 40)
        q = tensors_of(scaled(lower_prefill(kernel, Plan(), load_arch("spatten"), 1).jobs, 0.01), 1, "normal", 40)[0].q
        low = 0
        fixed = []
        for job, t in zip(jobs[jobs["opcode"] == Opcode.ATTEND], rows, strict=True):
            low = (int(job["q_address"]) - int(jobs["q_address"][jobs["opcode"] == Opcode.ATTEND].min())) // int(
                job["q_stride"]
            )
            fixed.append(JobTensors(q[low : low + len(t.q)], t.k_msb, t.k_full, t.v))
        outputs.append(np.concatenate(Executor(arch).run(jobs, tensors=fixed)))
    # The weights of an earlier tile have 12 bits below that tile's maximum, not below the row's.
    assert np.abs(outputs[0] - outputs[1]).max() <= 16 * 4


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"flags": Flag.LAST_TILE}, "FIRST_TILE"),
        ({"keys": 9}, "8 tokens are alive"),
        ({"flags": Flag.FIRST_TILE | Flag.LAST_TILE | Flag.KEEP_LIST, "first_key": 1}, "keep list has 8"),
    ],
)
def test_a_job_the_state_does_not_fit_is_refused(change: dict[str, int], message: str) -> None:
    flags = Flag.FIRST_TILE | Flag.LAST_TILE
    job = {
        "opcode": Opcode.ATTEND,
        "flags": flags,
        "group": 1,
        "head_dim": 8,
        "queries": 1,
        "keys": 8,
        "keep_ratio": 65536,
    }
    jobs = jobs_of([{"opcode": Opcode.TOKENS, "flags": Flag.RESTART, "keys": 8}, job | change])
    jobs["score_shift"] = 1
    with pytest.raises(UserError, match=message):
        Executor(TINY).run(jobs, tensors=tensors_of(jobs, 1, "normal", 9))


def test_a_sequence_only_shrinks_by_a_restart() -> None:
    jobs = jobs_of([{"opcode": Opcode.TOKENS, "keys": 8}, {"opcode": Opcode.TOKENS, "keys": 7}])
    with pytest.raises(UserError, match="restart"):
        Executor(TINY).run(jobs)
