"""Top-k simulator: same positions as golden, the published latency, sane timing (against RTL: tests/equivalence)."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from accel.errors import UserError
from accel.numerics.topk import top_k
from accel.units import implementation
from accel.units.topk import TOPK_EVENTS, TopKUnit, histogram, sorter
from sim.topk.quickselect import latency_rows, lfsr_step, select
from sim.topk_schedule import Row, Stalls, emit_gaps, schedule
from sim.topk_survey import last_cycle, survey

ENGINES = ("histogram", "quickselect", "sorter")
#: n, k, mean cycles of the published latency model at 16 lanes.
PUBLISHED = [
    (64, 32, 38),
    (128, 64, 54.5),
    (256, 128, 85),
    (512, 256, 146),
    (993, 204, 233),
    (993, 307, 244),
    (1024, 512, 254),
    (2048, 1024, 495),
    (4096, 2048, 924),
    (16384, 8192, 3461),
]


def test_pivot_generator_has_full_period() -> None:
    seen, state = set(), 1
    while state not in seen:
        seen.add(state)
        state = lfsr_step(state)
    assert len(seen) == 65535
    assert 0 not in seen


@pytest.mark.parametrize("engine", ENGINES)
@given(
    st.integers(1, 62).flatmap(
        lambda bits: st.tuples(
            st.just(bits),
            st.lists(
                st.tuples(
                    st.lists(st.one_of(st.integers(0, (1 << bits) - 1), st.integers(0, 1)), max_size=50),
                    st.integers(0, 55),
                ),
                max_size=8,
            ),
        )
    ),
    st.sampled_from([1, 4, 16]),
    st.integers(1, 65535),
)
def test_rows_keep_what_golden_keeps(
    engine: str, drawn: tuple[int, list[tuple[list[int], int]]], lanes: int, seed: int
) -> None:
    value_bits, rows = drawn
    unit = TopKUnit(lanes, value_bits, 64, engine=engine)
    values = np.array([v for row, _ in rows for v in row], np.int64)
    starts = np.cumsum([0] + [len(row) for row, _ in rows])
    ks = np.array([k for _, k in rows], np.int64)
    found = implementation("sim.topk", engine).select_rows(unit, values, starts, ks, seed)
    for r, (row, k) in enumerate(rows):
        assert found.kept[starts[r] : starts[r] + found.n_kept[r]].tolist() == top_k(row, k).positions.tolist()
        assert (found.select_cycles[r] > 0) == (0 < k < len(row))
    assert set(found.events) <= set(TOPK_EVENTS)
    assert found.events["elements"] >= len(values)


@pytest.mark.parametrize("engine", ["histogram", "sorter"])
def test_cycles_do_not_depend_on_the_values(engine: str) -> None:
    """Of engines without pivots; and they leave the generator's state alone."""
    unit, rng = TopKUnit(engine=engine), np.random.default_rng(5)
    rows = [rng.integers(0, 4096, 993), np.zeros(993, np.int64), np.arange(993), rng.integers(0, 2, 993)]
    starts = np.arange(5) * 993
    found = implementation("sim.topk", engine).select_rows(unit, np.concatenate(rows), starts, np.full(4, 204), 7)
    assert len(set(found.select_cycles.tolist())) == 1
    assert found.lfsr_state == 7


def test_stated_cycles() -> None:
    """1024 weights at 16 lanes: two walks and a pass; 6 passes, the last one as far as the 512th value."""
    assert histogram.select_cycles(TopKUnit(), 64) == 3 + (64 + 1) + 3
    assert sorter.select_cycles(TopKUnit(), 64, 32) == (64 + 5) + 5 * (3 + 64 + 2) + (3 + 32 - 1 + 2 + 3)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_survey_is_what_the_schedule_says(engine: str) -> None:
    """One row from its last word in to its last word out; rows without a pause to the last word of all."""
    unit = TopKUnit(4, 8, 64, engine=engine)
    values = np.random.default_rng(3).integers(0, unit.max_value, 50, endpoint=True)
    (*_, last_in), out = (
        [t.cycle for t in schedule(unit, [Row(values, 20)], Stalls()) if t.port == port] for port in ("input", "output")
    )
    assert survey(unit, 50, 20, 1, 3).latency.tolist() == [out[-1] - last_in]
    values = np.random.default_rng(3).integers(0, unit.max_value, 7 * 50, endpoint=True)
    together = schedule(unit, [Row(values[r * 50 : (r + 1) * 50], 20) for r in range(7)], Stalls())
    assert survey(unit, 50, 20, 7, 3).interval_cycles == together[-1].cycle / 7
    assert last_cycle(unit, [], np.zeros(0, np.int64), np.zeros(0, np.int64)) == -1


def test_an_unknown_engine_is_refused() -> None:
    with pytest.raises(UserError, match=r"topk.unit = histgram: .* did you mean histogram\? known: histogram, quicks"):
        TopKUnit(engine="histgram")


@pytest.mark.parametrize(("n", "k", "mean_cycles"), PUBLISHED)
def test_published_means(n: int, k: int, mean_cycles: float) -> None:
    """The reference figures are means of 300 random rows; 5 % covers their sampling error and ours."""
    rows = 1500 if n < 1024 else 400
    values = np.random.default_rng(7).integers(0, 1 << 32, rows * n)
    published, own = latency_rows(values, np.arange(rows + 1) * n, np.full(rows, k), 16, 0xACE1, 4)
    assert published.mean() == pytest.approx(mean_cycles, rel=0.05)
    assert published.mean() < own.mean() < 1.3 * published.mean() + n // 16


def test_early_stop_never_costs_rounds() -> None:
    rng = np.random.default_rng(3)
    for _ in range(200):
        row = rng.integers(0, 50, 100)
        k = int(rng.integers(1, 100))
        ours, model = (select(row, 100, k, 16, 77, stop) for stop in (True, False))
        assert ours.rounds <= model.rounds


def test_select_leaves_the_row_alone() -> None:
    row = np.arange(20)
    select(row, 20, 5, 4, 1)
    assert row.tolist() == list(range(20))


@given(st.lists(st.booleans(), max_size=80))
def test_gaps_follow_the_completing_source_words(kept_mask: list[bool]) -> None:
    kept = np.flatnonzero(kept_mask)
    gaps = np.zeros(max(1, -(-kept.size // 4)), np.int64)
    n_words = emit_gaps(kept, kept.size, 4, gaps)
    assert n_words == gaps.size
    offered = np.cumsum(gaps)
    for j in range(n_words if kept.size else 0):
        completed_by = kept[min(4 * j + 3, kept.size - 1)] // 4
        assert completed_by <= offered[j] <= completed_by + 1


def test_unstalled_row_takes_the_stated_latency() -> None:
    unit = TopKUnit(lanes=4, value_bits=8, max_n=16)
    times = {t.port: t.cycle for t in schedule(unit, [Row(np.arange(16), 20)], Stalls())}
    first_out = min(t.cycle for t in schedule(unit, [Row(np.arange(16), 20)], Stalls()) if t.port == "output")
    assert times["command"] == 0
    assert times["input"] == 4
    assert first_out == 4 + unit.take_cycles + unit.handoff_cycles + unit.filter_cycles
    assert times["output"] == first_out + 3


@given(st.integers(0, 2**32 - 1))
def test_stalls_delay_but_never_change_content(seed: int) -> None:
    rng = np.random.default_rng(seed)
    unit = TopKUnit(lanes=4, value_bits=4, max_n=32)
    rows = [Row(rng.integers(0, 16, rng.integers(0, 33)), int(rng.integers(0, 40))) for _ in range(4)]
    free = schedule(unit, rows, Stalls())
    stalled = schedule(unit, rows, Stalls(*((True, *(rng.random(17) < 0.5).tolist()) for _ in range(3))))
    for port in ("command", "input", "output"):
        a, b = ([t for t in transfers if t.port == port] for transfers in (free, stalled))
        assert [t.content for t in a] == [t.content for t in b]
        assert all(x.cycle <= y.cycle for x, y in zip(a, b, strict=True))
        assert len({t.cycle for t in b}) == len(b)


def test_impossible_rows_and_patterns_are_refused() -> None:
    unit = TopKUnit(lanes=4, value_bits=4, max_n=8)
    with pytest.raises(UserError, match="row 0 must be at most 8 values"):
        schedule(unit, [Row(np.array([16]), 1)], Stalls())
    with pytest.raises(UserError, match="k of row 0"):
        schedule(unit, [Row(np.array([1]), 16)], Stalls())
    with pytest.raises(UserError, match="output is never True"):
        schedule(unit, [], Stalls(output=(False,)))


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"lanes": 12}, "lanes must be a power of two"),
        ({"value_bits": 0}, "value_bits must be 1 to 62"),
        ({"lanes": 16, "max_n": 16}, "max_n must be 32"),
        ({"lfsr_seed": 0}, "lfsr_seed must be 1"),
        ({"lanes": 4.0}, "lanes must be an integer"),
    ],
)
def test_unit_refuses_impossible_parameters(parameters: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        TopKUnit(**parameters)
