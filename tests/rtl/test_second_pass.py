"""Second pass alone: when a row starts, which words of the score buffer it reads, what goes along with its lines."""

from typing import Any

import numpy as np
import pytest

pytest.importorskip("amaranth", reason="RTL: pip install 'accel-codesign[rtl]'")

from amaranth.hdl import Const, Module
from amaranth.sim import Simulator

from accel.arch import load_arch
from accel.units.engine import EngineUnit
from rtl.job import log2_keys_per_line
from rtl.second_pass import SecondPass

UNIT = EngineUnit.of(load_arch("tiny"))
WORDS, LANES = UNIT.score_words, UNIT.arch.softmax.lanes
PULSES = ("rows", "stored", "weights", "select", "score_release")


def play(
    script: dict[int, dict[str, Any]], cycles: int, log2_dim: int = 3
) -> tuple[dict[str, list[tuple[int, Any]]], list[tuple[int, int, int]]]:
    """script: by cycle, the payloads of streams, or of ``selected`` the pulse. Returns what each output said, and
    when; and each read of the keep list as cycle, version, position.
    """
    dut = SecondPass(UNIT)
    seen: dict[str, list[tuple[int, Any]]] = {name: [] for name in PULSES}
    reads = []

    async def testbench(ctx: Any) -> None:
        ctx.set(dut.format.log2_dim, log2_dim)
        for t in range(cycles):
            for port in ("passes", "exponents", "final", "reciprocals", "ring_release"):
                payload = script.get(t, {}).get(port)
                ctx.set(getattr(dut, port).valid, payload is not None)
                if payload is not None:
                    ctx.set(getattr(dut, port).payload, payload)
            ctx.set(dut.selected, script.get(t, {}).get("selected", 0))
            for port in PULSES:
                if ctx.get(getattr(dut, port).valid):
                    seen[port].append((t, ctx.get(getattr(dut, port).payload)))
            if ctx.get(dut.token_read.enable):
                reads.append((t, ctx.get(dut.token_read.version), ctx.get(dut.token_read.position)))
            await ctx.tick()

    simulator = Simulator(dut)
    simulator.add_clock(1e-9)
    simulator.add_testbench(testbench)
    simulator.run()
    return seen, reads


def final(row: int, **fields: int) -> dict[str, int]:
    keys = fields.get("keys", 2)
    return {"row": row % 4, "keys": keys, "kept": keys, "lines": -(-keys // LANES), "first_tile": 1, **fields}


def stored_rows(rows: list[dict[str, int]], at: int) -> dict[int, dict[str, Any]]:
    """Rows final one after another from cycle ``at`` on; their reciprocals, 18 cycles later, name them."""
    script: dict[int, dict[str, Any]] = {}
    for r, row in enumerate(rows):
        script.setdefault(at + r, {})["final"] = row
        inverse = {"maximum": r, "reciprocal": 1000 + r, "shift": r}
        script.setdefault(at + r + 18, {})["reciprocals"] = inverse
    return script


def starts(seen: dict[str, list[tuple[int, Any]]]) -> list[int]:
    return [t for t, _ in seen["weights"]]


def test_rows_of_one_line_follow_each_other_in_every_cycle() -> None:
    seen, _ = play(stored_rows([final(r) for r in range(4)], 0), 30)
    assert starts(seen) == [19, 20, 21, 22]
    assert [(p.granule, p.reciprocal, p.shift, p.kept) for _, p in seen["weights"]] == [
        (r, 1000 + r, r, 2) for r in range(4)
    ]
    assert [(t, p.reciprocal) for t, p in seen["rows"]] == [(19 + r, 1000 + r) for r in range(4)]
    assert [t for t, _ in seen["stored"]] == [20, 21, 22, 23]
    assert [(t, p["count"]) for t, p in seen["score_release"]] == [(19 + r, 1) for r in range(4)]


def test_the_rise_is_that_over_the_row_before() -> None:
    rows = [final(0), final(1, first_tile=0), final(2), final(3, first_tile=0)]
    script = stored_rows(rows, 0)
    for r, maximum in enumerate([-500, -438, 100, 200]):
        script[r + 18]["reciprocals"]["maximum"] = maximum
    seen, _ = play(script, 30)
    assert [p.rise for _, p in seen["weights"]] == [0, 62, 0, 63]


def test_a_row_is_read_out_before_the_next_and_rows_start_in_order() -> None:
    script = stored_rows([final(1, keys=9), final(0, keys=6), final(2)], 0)  # row 1 is final first
    seen, _ = play(script, 40)
    assert starts(seen) == [20, 23, 28]
    assert [p.keys for _, p in seen["weights"]] == [6, 9, 2]


def test_granules_freed_count_from_the_next_cycle_on() -> None:
    rows = [final(0, keys=64), final(1, keys=61), final(2, keys=5)]
    script = stored_rows(rows, 0)
    script[120] = {"ring_release": {"count": 1}}
    script[130] = {"ring_release": {"count": 1}}
    seen, _ = play(script, 150)
    assert starts(seen) == [19, 51, 131]
    assert [p.granule for _, p in seen["weights"]] == [0, 16, 0]


@pytest.mark.parametrize(
    ("log2_dim", "fields", "granules"),
    [
        (3, {"keys": 13, "kept": 2, "selecting": 1}, 1),  # D = 8 has two V rows per line: two in a column, at most
        (3, {"keys": 13, "kept": 3, "selecting": 1}, 2),
        (3, {"keys": 13, "kept": 11, "selecting": 1}, 4),  # seven lines
        (3, {"keys": 12, "kept": 11, "selecting": 1}, 3),
        (3, {"keys": 13, "kept": 3, "selecting": 1, "v_selected": 1}, 1),
        (3, {"keys": 13}, 4),
        (4, {"keys": 13, "kept": 4, "selecting": 1}, 1),
    ],
)
def test_granules_of_a_row(log2_dim: int, fields: dict[str, int], granules: int) -> None:
    """Where the next row begins."""
    row = final(0, **fields)
    seen, _ = play(stored_rows([row, final(1, selecting=1)], 0), 45, log2_dim)
    assert [p.granule for _, p in seen["weights"]] == [0, granules]
    columns = UNIT.arch.values_per_line(1 << log2_dim) if row.get("selecting") and not row.get("v_selected") else 1
    kept, keys = np.array([row["kept"]]), np.array([row["keys"]])
    assert UNIT.kept_granules(kept, keys, np.array([columns])).tolist() == [granules]


def test_two_selecting_rows_at_most_and_a_cycle_for_the_command() -> None:
    rows = [final(0, selecting=1), final(1, selecting=1, kept=1, v_selected=1), final(2, selecting=1), final(3)]
    script = stored_rows(rows, 0)
    for t in (40, 50, 60):
        script[t] = {"selected": 1}
    seen, _ = play(script, 70)
    assert starts(seen) == [19, 21, 41, 61]  # the last one, which writes the ring itself, after all of them
    assert [(t, p.kept, p.granule, p.v_selected) for t, p in seen["select"]] == [
        (19, 2, 0, 0),
        (21, 1, 1, 1),
        (41, 2, 2, 0),
    ]


def test_exponents_come_back_from_the_words_of_their_pass() -> None:
    """Two rows, the second of which goes around the end of the buffer."""
    script = stored_rows([final(0, keys=4, score=10), final(1, keys=6, score=WORDS - 1)], 10)
    script[0] = {"passes": {"row": 0, "score": 10}}
    script[1] = {"passes": {"row": 1, "score": WORDS - 1}}
    for i, last in enumerate([0, 1, 0, 0, 1]):
        line = {"exponents": [100 + i, 200 + i], "maximum": i - 3, "count": 2, "last": last}
        script.setdefault(4 + i, {})["exponents"] = line
    seen, _ = play(script, 45)
    assert [(t, list(p.exponents), p.maximum, p.last) for t, p in seen["stored"]] == [
        (30 + i, [100 + i, 200 + i], i - 3, last) for i, last in enumerate([0, 1, 0, 0, 1])
    ]


@pytest.mark.parametrize(("log2_dim", "step"), [(3, 2), (4, 1), (5, 1)])
def test_the_keep_list_is_asked_two_cycles_before_the_line_leaves(log2_dim: int, step: int) -> None:
    row = final(0, keys=3 * step, lines=3, first_key=11, list=1, version=1)
    seen, reads = play(stored_rows([row, final(1)], 0), 35, log2_dim)
    assert starts(seen) == [19, 22]
    assert reads == [(21 + i, 1, 11 + i * step) for i in range(3)]


@pytest.mark.parametrize("name", ["tiny", "edge", "spatten-1-8", "spatten"])
def test_keys_per_line(name: str) -> None:
    unit = EngineUnit.of(load_arch(name))
    for log2_dim in range(3, unit.arch.max_head_dim.bit_length()):
        value = log2_keys_per_line(unit, Const(log2_dim, 4))
        assert 1 << _constant(value) == unit.arch.keys_per_line(1 << log2_dim)


def _constant(value: Any) -> int:
    found = []

    async def testbench(ctx: Any) -> None:
        found.append(ctx.get(value))

    simulator = Simulator(Module())
    simulator.add_testbench(testbench)
    simulator.run()
    return found[0]
