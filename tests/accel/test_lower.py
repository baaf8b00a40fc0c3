"""Attention lowered to jobs: every query sees its keys exactly once, in order; plans, layouts, batches, refusals."""

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from accel.arch import load_arch
from accel.errors import UserError
from accel.lower.attention import Lowering, parts
from accel.lower.plan import Plan
from accel.lower.programs import lower_decode, lower_prefill
from accel.program import Flag, Fused, Jobs, Lsb, Opcode, ValueFetch
from workloads.cascade import layer_shares
from workloads.kernels import SoftmaxAttention

SPATTEN = load_arch("spatten")
TINY = load_arch("tiny")
SMALL_TILES = load_arch("spatten", {"softmax.buffer_keys": 64})


def attends(jobs: Jobs) -> Jobs:
    return jobs[jobs["opcode"] == Opcode.ATTEND]


@given(st.integers(1, 40), st.integers(0, 60), st.integers(0, 30), st.integers(1, 20), st.booleans())
def test_parts_cover_each_query_key_pair_once_and_in_order(
    queries: int, query_start: int, extra: int, tile: int, causal: bool
) -> None:
    keys = query_start + queries + extra
    seen: list[list[int]] = [[] for _ in range(queries)]
    ended = [False] * queries
    for part in parts(queries, keys, tile, query_start if causal else None):
        assert 1 <= part.keys <= tile
        assert part.queries >= 1
        for i in range(part.queries):
            query = part.first_query + i
            visible = min(part.keys, part.first_visible + i) if part.first_visible else part.keys
            assert visible >= 1
            assert not ended[query]
            assert part.starts == (not seen[query])
            seen[query] += range(part.first_key, part.first_key + visible)
            ended[query] = part.ends
    for query in range(queries):
        assert seen[query] == list(range(query_start + query + 1 if causal else keys))
    assert all(ended)


@pytest.mark.parametrize("dim", [8, 32, 64, 80, 96, 128])
@pytest.mark.parametrize("mask", ["none", "causal"])
def test_head_dims_and_masks_lower_to_programs_the_machine_accepts(dim: int, mask: Any) -> None:
    kernel = SoftmaxAttention(6, 2, queries=50, keys=50, head_dim=dim, mask=mask)
    for plan in (
        Plan(),
        Plan(key_msb_bits=6, key_lsb_bits=4, lsb=Lsb.TEST, threshold=0.1, tokens=0.5, local_values=0.3),
    ):
        jobs = attends(lower_prefill(kernel, plan, SMALL_TILES, layers=4).jobs)
        assert set(jobs["head"]) == {0, 1}
        assert (jobs["group"] == 3).all()
        assert (jobs["value_fetch"] == ValueFetch.RESIDENT).all()


def test_queries_of_a_group_share_one_job() -> None:
    jobs = attends(lower_prefill(SoftmaxAttention(9, 3, 100, 100, 64), Plan(), SPATTEN, 2).jobs)
    assert len(jobs) == 2 * 3
    assert (jobs["queries"] * jobs["group"]).tolist() == [300] * 6
    assert (jobs["first_visible"] == 1).all()
    assert (jobs["flags"] == Flag.CAUSAL | Flag.FIRST_TILE | Flag.LAST_TILE).all()


def test_cross_attention_keeps_its_queries_when_keys_are_pruned() -> None:
    kernel = SoftmaxAttention(4, 4, queries=7, keys=40, head_dim=64, mask="none", cross=True)
    jobs = attends(lower_prefill(kernel, Plan(tokens=0.5), SPATTEN, 6).jobs)
    assert (jobs["queries"] == 7).all()
    assert jobs["keys"].min() < 40


def test_self_attention_loses_the_queries_of_pruned_tokens() -> None:
    plan = Plan(token_counts=(40, 30, 10))
    jobs = lower_prefill(SoftmaxAttention(4, 4, 40, 40, 64), plan, SPATTEN, 3).jobs
    rows = attends(jobs)
    assert rows["queries"].tolist() == rows["keys"].tolist() == [40] * 4 + [30] * 4 + [10] * 4
    assert ((rows["flags"] & Flag.KEEP_LIST) != 0).tolist() == [False] * 4 + [True] * 8
    assert ((rows["flags"] & Flag.ACCUMULATE) != 0).all()
    assert jobs["keep_values"][jobs["opcode"] == Opcode.PRUNE_TOKENS].tolist() == [30, 10]


def test_nothing_to_prune_leaves_no_prunes_and_no_importance() -> None:
    jobs = lower_prefill(SoftmaxAttention(4, 4, 40, 40, 64), Plan(), SPATTEN, 3).jobs
    assert set(jobs["opcode"]) == {Opcode.TOKENS, Opcode.ATTEND}
    assert not (attends(jobs)["flags"] & (Flag.ACCUMULATE | Flag.KEEP_LIST)).any()


def test_decode_steps_see_one_more_key_each_and_prune_anew() -> None:
    kernel = SoftmaxAttention(4, 4, queries=1, keys=100, head_dim=64, query_start=99)
    jobs = lower_decode(kernel, Plan(tokens=0.5, halve_every=2), SPATTEN, layers=10, steps=3).jobs
    assert jobs["keys"][jobs["opcode"] == Opcode.TOKENS].tolist() == [100, 101, 102]
    rows = attends(jobs)
    assert (rows["keys"][rows["iteration"] == 0] == 100).all(), "importance is not known in the first step"
    for step in (1, 2):
        keys = rows["keys"][rows["iteration"] == step].reshape(10, 4)[:, 0].tolist()
        assert keys[:2] == [100 + step] * 2
        assert all(a >= b for a, b in itertools.pairwise(keys))
        assert np.mean(keys[2:]) == pytest.approx((100 + step) / 2, rel=0.02)
    prunes = jobs[jobs["opcode"] == Opcode.PRUNE_TOKENS]
    assert ((prunes["flags"] & Flag.RESTART) != 0).tolist() == ([True] + [False] * 7) * 2
    halved = rows[(rows["flags"] & Flag.HALVE) != 0]
    assert halved["iteration"].tolist() == [0, 2]
    assert (halved["layer"] == 0).all()


def test_a_prefill_before_decoding_lets_the_first_step_prune() -> None:
    kernel = SoftmaxAttention(4, 4, queries=1, keys=65, head_dim=64, query_start=64)
    jobs = lower_decode(kernel, Plan(tokens=0.5), SPATTEN, layers=4, steps=2, prefill=True).jobs
    assert jobs["keys"][jobs["opcode"] == Opcode.TOKENS].tolist() == [64, 65, 66]
    rows = attends(jobs)
    assert (rows["queries"][:16] == 64).all()
    assert rows["keys"][16:32].min() < 65


@pytest.mark.parametrize(
    ("heads", "local", "fetch"),
    [((4, 4), 1.0, "RESIDENT"), ((4, 4), 0.4, "SELECTED"), ((9, 3), 0.3, "SELECTED"), ((9, 3), 0.4, "RESIDENT")],
)
def test_values_are_selected_where_rows_need_fewer_than_all(heads: tuple[int, int], local: float, fetch: str) -> None:
    kernel = SoftmaxAttention(*heads, queries=1, keys=100, head_dim=64, query_start=99)
    jobs = attends(lower_decode(kernel, Plan(local_values=local), SPATTEN, 1, 1).jobs)
    assert (jobs["value_fetch"] == ValueFetch[fetch]).all()


def test_a_batch_is_one_sequence_after_the_other_with_tensors_of_its_own() -> None:
    kernel = SoftmaxAttention(4, 4, 20, 20, 64, batch=3)
    jobs = lower_prefill(kernel, Plan(tokens=0.5), SPATTEN, 2).jobs
    starts = jobs[jobs["opcode"] == Opcode.TOKENS]
    assert len(starts) == 3
    assert (starts["flags"] & Flag.RESTART != 0).all()
    rows = attends(jobs)
    assert rows["layer"].tolist() == sorted(rows["layer"][:8].tolist()) * 3
    for field in ("q_address", "k_msb_address", "v_address", "output_address"):
        assert len(set(rows[field].tolist())) == len(rows)
    one = lower_prefill(SoftmaxAttention(4, 4, 20, 20, 64), Plan(tokens=0.5), SPATTEN, 2).jobs
    assert len(jobs) == 3 * len(one)


@settings(max_examples=20)
@given(
    st.sampled_from([8, 24, 64, 96, 128]),
    st.sampled_from([(12, 0), (6, 4), (8, 4)]),
    st.integers(1, 40),
    st.integers(1, 3),
)
def test_tensors_do_not_overlap(dim: int, planes: tuple[int, int], n: int, batch: int) -> None:
    kernel = SoftmaxAttention(6, 3, n, n, dim, batch=batch)
    plan = Plan(key_msb_bits=planes[0], key_lsb_bits=planes[1], lsb=Lsb.TEST if planes[1] else Lsb.NEVER)
    low = Lowering(SMALL_TILES, plan, kernel, 2)
    layout = low.layout
    names = ["q", "k_msb", "v", "output"] + ["k_lsb"] * bool(planes[1]) + ["partial"] * layout.tiled
    strides = {"q": layout.query_stride, "output": layout.output_stride, "partial": layout.partial_stride}
    spans = set()
    for name in names:
        rows = n * 2 if name in strides else n
        for place in range(2 * batch):
            for head in range(3):
                at = layout.address(name, place, head)
                bits = {"k_msb": planes[0], "k_lsb": planes[1], "v": plan.value_bits}.get(name, 0)
                row = strides.get(name) or -(-(layout.fuse if name == "k_msb" else 1) * dim * bits // 8)
                spans.add((at, at + rows * row, name, layout.fused(head) and name == "k_msb"))
    ordered = sorted(spans)
    for a, b in itertools.pairwise(ordered):
        assert a[1] <= b[0], f"{a} overlaps {b}"


def test_heads_lie_in_pairs_only_where_every_job_can_fetch_them_so() -> None:
    plan = Plan(key_msb_bits=6, key_lsb_bits=4, lsb=Lsb.TEST, threshold=0.1)
    short = attends(lower_prefill(SoftmaxAttention(4, 4, 256, 256, 64), plan, SPATTEN, 1).jobs)
    assert short["fused"].tolist() == [Fused.FIRST, Fused.SECOND] * 2
    assert short["k_msb_address"][0] == short["k_msb_address"][1]
    for kernel, pruned in (
        (SoftmaxAttention(4, 4, 1024, 1024, 64), plan),
        (SoftmaxAttention(4, 4, 256, 256, 64), Plan(key_msb_bits=6, head_counts=(4,))),
    ):
        jobs = attends(lower_prefill(kernel, pruned, SPATTEN, 1).jobs)
        assert (jobs["fused"] == Fused.SINGLE).all()
        assert len(set(jobs["k_msb_address"].tolist())) == 4


def test_a_plan_s_numbers_reach_the_jobs() -> None:
    plan = Plan(key_msb_bits=8, key_lsb_bits=4, value_bits=6, lsb=Lsb.TEST, threshold=0.1, local_values=0.25)
    job = attends(lower_prefill(SoftmaxAttention(2, 2, 8, 8, 64), plan, SPATTEN, 1).jobs)[0]
    assert (job["msb_bits"], job["lsb_bits"], job["value_bits"]) == (8, 4, 6)
    assert (job["lsb"], job["threshold"], job["keep_ratio"]) == (Lsb.TEST, round(0.1 * 65536), 1 << 14)


# ---- plans ----------------------------------------------------------------------------------------------------------
@given(st.integers(1, 48), st.floats(0.02, 1.0), st.sampled_from([0.15, 0.3]))
def test_layer_shares_start_free_and_average_out(layers: int, average: float, free: float) -> None:
    shares = layer_shares(layers, average, free)
    first = int(np.ceil(round(free * layers, 9)))
    assert len(shares) == layers
    assert shares[:first] == [1.0] * first
    if layers > first:
        assert np.mean(shares[first:]) == pytest.approx(average)
        assert all(a >= b - 1e-12 for a, b in itertools.pairwise(shares))
        assert 0 < shares[-1] <= 1


def test_the_published_rule_in_numbers() -> None:
    plan = Plan(tokens=0.5, heads=0.5)
    tokens = [plan.tokens_kept(layer, 12, 1000) for layer in range(12)]
    assert tokens == [1000, 1000, 750, 694, 639, 583, 528, 472, 417, 361, 306, 250]
    heads = [plan.heads_kept(layer, 12, 12) for layer in range(12)]
    assert heads[:4] == [12] * 4
    assert heads[4:] == [9, 8, 7, 6, 6, 5, 4, 3]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"key_msb_bits": 12, "key_lsb_bits": 4}, r"12\+4"),
        ({"value_bits": 5}, "value_bits = 5"),
        ({"query_bits": 16}, "query_bits = 16"),
        ({"local_values": 0}, "local_values = 0"),
        ({"tokens": 1.1}, "tokens = 1.1"),
        ({"heads": -1}, "heads = -1"),
        ({"threshold": 2.0}, "threshold = 2.0"),
        ({"lsb": Lsb.TEST}, "second pass"),
        ({"token_counts": (4, 5)}, "may not grow"),
        ({"head_counts": (4, 0)}, "1 or more"),
        ({"halve_every": -1}, "halve_every = -1"),
    ],
)
def test_impossible_plans_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        Plan(**change)


@pytest.mark.parametrize(
    ("kernel", "plan", "message"),
    [
        (SoftmaxAttention(2, 2, 8, 8, 256), Plan(), "max_head_dim = 128"),
        (SoftmaxAttention(2, 2, 8, 8, 60), Plan(), "multiple of 8"),
        (SoftmaxAttention(65, 65, 8, 8, 64), Plan(), "max_heads = 64"),
        (SoftmaxAttention(2, 2, 2000, 2000, 64), Plan(tokens=0.5), "max_context = 1024"),
        (SoftmaxAttention(2, 2, 4, 8, 64, query_start=4), Plan(tokens=0.5), "query_start = 0"),
        (SoftmaxAttention(2, 2, 4, 8, 64, mask="none"), Plan(tokens=0.5), "cross = True"),
        (SoftmaxAttention(4, 2, 8, 8, 64), Plan(heads=0.5), "kv_heads = query_heads"),
        (SoftmaxAttention(2, 2, 8, 8, 64), Plan(token_counts=(8, 8)), "2 entries; the network has 3 layers"),
        (SoftmaxAttention(2, 2, 8, 8, 64), Plan(token_counts=(4, 4, 4)), "layer 0"),
    ],
)
def test_what_the_machine_cannot_do_is_refused(kernel: SoftmaxAttention, plan: Plan, message: str) -> None:
    with pytest.raises(UserError, match=message) as error:
        lower_prefill(kernel, plan, SPATTEN, 3)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"value_dim": 64}, "value_dim = 64: must be head_dim = 32"),
        ({"window": 4}, "window = 4: a job has no window"),
        ({"iterations": 2}, "iterations = 2: must be 1"),
        ({"shared_kv": True}, "shared_kv = True: must be False"),
        ({"blocks": 1, "block_keys": 4, "queries": 1, "mask": "none"}, "blocks = 1: grouped softmax"),
    ],
)
def test_forms_that_no_program_has_are_refused(change: dict[str, Any], message: str) -> None:
    """And not lowered to the program of another kernel."""
    kernel = SoftmaxAttention(**({"query_heads": 2, "kv_heads": 2, "queries": 16, "keys": 16, "head_dim": 32} | change))
    with pytest.raises(UserError, match=message):
        lower_prefill(kernel, Plan(), SPATTEN, 1)


def test_a_long_context_without_importance_is_tiled() -> None:
    jobs = lower_prefill(SoftmaxAttention(2, 2, 1, 5000, 64, query_start=4999), Plan(local_values=0.5), SPATTEN, 1).jobs
    rows = attends(jobs)
    assert rows["keys"].tolist() == [1024, 1024, 1024, 1024, 904] * 2
    assert rows["first_key"].tolist() == [0, 1024, 2048, 3072, 4096] * 2


@pytest.mark.parametrize(
    ("kernel", "steps", "message"),
    [
        (SoftmaxAttention(2, 2, 2, 8, 64, query_start=6), 1, "queries = 1"),
        (SoftmaxAttention(2, 2, 1, 8, 64, query_start=5), 1, "query_start = keys - 1"),
        (SoftmaxAttention(2, 2, 1, 8, 64, query_start=7), 0, "steps = 0"),
    ],
)
def test_decoding_something_else_is_refused(kernel: SoftmaxAttention, steps: int, message: str) -> None:
    with pytest.raises(UserError, match=message):
        lower_decode(kernel, Plan(), SPATTEN, 1, steps)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"query_heads": 0}, "query_heads = 0"),
        ({"keys": True}, "keys = True"),
        ({"query_heads": 5}, "multiple of kv_heads"),
        ({"mask": "sliding"}, "none, causal"),
        ({"query_start": 1}, "keys = 8 must be 9"),
        ({"cross": True}, "no place"),
        ({"mask": "none", "query_start": 1}, "only a causal"),
        ({"batch": -1}, "batch = -1"),
        ({"head_dim": 64.0}, "head_dim = 64.0"),
    ],
)
def test_impossible_kernels_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        SoftmaxAttention(**({"query_heads": 4, "kv_heads": 2, "queries": 8, "keys": 8, "head_dim": 64} | change))


def test_tiny_takes_what_fits_its_state() -> None:
    lower_prefill(SoftmaxAttention(4, 4, 64, 64, 32), Plan(tokens=0.5), TINY, 2)
    with pytest.raises(UserError, match="max_head_dim = 32"):
        lower_prefill(SoftmaxAttention(4, 4, 64, 64, 64), Plan(), TINY, 2)
