"""Requant alone: what a sum means, where a row starts, in which order queries and K are freed."""

import random
from typing import Any

import pytest

pytest.importorskip("amaranth", reason="RTL: pip install 'accel-codesign[rtl]'")

from amaranth.sim import Simulator

from accel.arch import load_arch
from accel.numerics.softmax import NO_MAXIMUM
from accel.program import Lsb
from accel.units.engine import EngineUnit
from rtl.requant import Requant

UNIT = EngineUnit.of(load_arch("tiny"))
ROWS_IN_FLIGHT = UNIT.arch.rows_in_flight


def play(script: dict[int, dict[str, dict]], cycles: int) -> dict[str, list[tuple[int, Any]]]:
    """script: by cycle, payloads of ``passes``, ``sums`` and ``scores``. Returns what each output said, and when."""
    dut = Requant(UNIT)
    seen: dict[str, list[tuple[int, Any]]] = {
        name: [] for name in ("lsb_request", "final", "finals", "lines", "k_release", "query_release")
    }

    async def testbench(ctx: Any) -> None:
        for t in range(cycles):
            for port in ("passes", "sums", "scores"):
                payload = script.get(t, {}).get(port)
                ctx.set(getattr(dut, port).valid, payload is not None)
                if payload is not None:
                    ctx.set(getattr(dut, port).payload, payload)
            for port in seen:
                if port == "query_release":
                    if ctx.get(dut.query_release):
                        seen[port].append((t, None))
                elif ctx.get(getattr(dut, port).valid):
                    seen[port].append((t, ctx.get(getattr(dut, port).payload)))
            await ctx.tick()

    simulator = Simulator(dut)
    simulator.add_clock(1e-9)
    simulator.add_testbench(testbench)
    simulator.run()
    return seen


def a_pass(row: int, **fields: int) -> dict[str, int]:
    return {"row": row % ROWS_IN_FLIGHT, "keys": 1, "lines": 1, "kept": 1, "first_tile": 1, **fields}


def a_sum(maximum: int, total: int, flat: int = 0) -> dict[str, int]:
    return {"maximum": maximum, "total": total, "largest": 1, "flat": flat}


@pytest.mark.parametrize("lsb", list(Lsb))
@pytest.mark.parametrize("flat", [0, 1])
@pytest.mark.parametrize("second", [0, 1])
def test_decision(lsb: Lsb, flat: int, second: int) -> None:
    fields = {"line": 5, "k_lsb_address": 0xABCDEF123456, "first_key": 9, "list": 1, "version": 1, "keys": 33}
    seen = play({0: {"passes": a_pass(2, lsb=lsb, second=second, **fields)}, 9: {"sums": a_sum(7, 99, flat)}}, 11)
    again = not second and (lsb == Lsb.ALWAYS or (lsb == Lsb.TEST and flat))
    assert [t for t, _ in seen["lsb_request"]] == ([9] if again else [])
    assert [t for t, _ in seen["final"]] == [t for t, _ in seen["finals"]] == ([] if again else [9])
    if again:
        request = seen["lsb_request"][0][1]
        assert {name: request[name] for name in fields} == fields
        assert request.row == 2
    else:
        assert (seen["finals"][0][1].maximum, seen["finals"][0][1].total) == (7, 99)
        assert (seen["final"][0][1].row, seen["final"][0][1].keys) == (2, 33)


def test_a_tile_starts_from_the_row_before_and_not_from_what_was_final_last() -> None:
    """Row 0 waits for its LSB plane; row 2 goes on where row 1 ended although row 0 becomes final in between."""
    scores: dict[str, Any] = {"scores": [5, 6], "count": 2, "last": 0}
    script: dict[int, dict[str, dict]] = {
        0: {"passes": a_pass(0, lsb=Lsb.ALWAYS)},
        1: {"passes": a_pass(1, threshold=77)},
        10: {"scores": {**scores, "last": 1}},
        11: {"scores": {**scores, "last": 1}},
        20: {"sums": a_sum(1, 1000)},
        21: {"sums": a_sum(-2, 2000)},
        30: {"passes": a_pass(0, second=1, lsb=Lsb.ALWAYS)},
        31: {"passes": a_pass(2, first_tile=0, threshold=88)},
        32: {"passes": a_pass(3, threshold=99)},
        38: {"scores": {**scores, "last": 1}},
        39: {"sums": a_sum(3, 3000)},
        40: {"scores": scores},
        41: {"scores": {**scores, "last": 1}},
        42: {"scores": {**scores, "last": 1}},
    }
    seen = play(script, 50)
    first_lines = [(t, p.start_maximum, p.start_total, p.threshold) for t, p in seen["lines"] if t != 41]
    fresh = (NO_MAXIMUM, 0)
    assert first_lines == [(10, *fresh, 0), (11, *fresh, 77), (38, *fresh, 0), (40, -2, 2000, 88), (42, *fresh, 99)]
    assert [t for t, _ in seen["lines"]] == [10, 11, 38, 40, 41, 42]
    assert all((list(p.scores), p.count) == ([5, 6], 2) for _, p in seen["lines"])


def test_the_second_pass_of_a_tile_starts_where_its_first_did() -> None:
    """Row 1 goes on from row 0 and waits for its LSB plane, until row 4, in the place of row 0, is final."""
    scores = {"scores": [5, 6], "count": 2, "last": 1}
    script: dict[int, dict[str, dict]] = {0: {"passes": a_pass(0)}, 4: {"scores": scores}, 9: {"sums": a_sum(7, 1000)}}
    for r in range(1, 5):
        fields = {"first_tile": int(r > 1), "lsb": Lsb.ALWAYS if r == 1 else Lsb.NEVER}
        script[10 * r] = {"passes": a_pass(r, **fields)}
        script[10 * r + 4] = {"scores": scores}
        script[10 * r + 9] = {"sums": a_sum(100 + r, 2000)}
    script[50] = {"passes": a_pass(1, second=1, first_tile=0, lsb=Lsb.ALWAYS)}
    script[54] = {"scores": scores}
    starts = {t: (p.start_maximum, p.start_total) for t, p in play(script, 60)["lines"]}
    assert starts[14] == starts[54] == (7, 1000)
    assert all(starts[t] == (NO_MAXIMUM, 0) for t in (4, 24, 34, 44))


@pytest.mark.parametrize("seed", range(3))
def test_released_in_row_order_one_per_cycle_from_the_cycle_after(seed: int) -> None:
    rng = random.Random(seed)
    script: dict[int, dict[str, dict]] = {}
    final: dict[int, int] = {}
    k_lines: dict[int, int] = {}
    t, row = 0, 0
    while row < 24:
        group = list(range(row, row + rng.randint(1, ROWS_IN_FLIGHT)))
        at = t + 5
        for r in group:  # all of a group under way at once, decided in any order by a second pass
            again = rng.random() < 0.4
            k_lines[r] = rng.choice([0, 0, 3, 17])
            fields = {"lsb": Lsb.ALWAYS if again else Lsb.NEVER, "ends_k": int(k_lines[r] > 0), "k_lines": k_lines[r]}
            for second in range(1 + again):
                decided = at + 30 * second + r - row
                script.setdefault(decided - 4, {})["passes"] = a_pass(r, second=second, **fields)
                script.setdefault(decided, {})["sums"] = a_sum(0, 1)
                final[r] = decided
        row, t = group[-1] + 1, at + 60
    seen = play(script, t + 10)
    expected, at = [], -1
    for r in range(row):
        at = max(at, final[r]) + 1
        expected.append((at, k_lines[r]))
    assert [t for t, _ in seen["query_release"]] == [t for t, _ in expected]
    assert [(t, p["count"]) for t, p in seen["k_release"]] == [(t, n) for t, n in expected if n]
