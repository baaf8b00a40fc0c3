"""From scores to kept weights: every value against the golden functions, every cycle against the rules of hardware.md.

A stand-in for the QK array sends passes and scores, one for PV reads the ring and frees it. What they did is recorded;
a model without a clock then says when each answer must have come.
"""

from collections import defaultdict
from typing import Any

import numpy as np
import pytest

pytest.importorskip("amaranth", reason="RTL: pip install 'accel-codesign[rtl]'")

from amaranth.back import verilog
from amaranth.hdl import Const, Value
from amaranth.lib import wiring
from amaranth.sim import Simulator

from accel.arch import load_arch
from accel.numerics.softmax import RowSum, is_flat, softmax_row
from accel.numerics.topk import top_k
from accel.program import Lsb
from accel.units.engine import EngineUnit
from accel.units.softmax import SoftmaxUnit
from accel.units.topk import TopKUnit
from rtl.softmax_path import SoftmaxPath
from sim.topk.quickselect import select_cycles, select_row
from sim.topk_schedule import emit_gaps
from tests.rtl.softmax_path_bench import NEVER, Bench, Events, Row, Run, keep_list, make_rows


def expected(
    unit: EngineUnit, log2_dim: int, rows: list[Row], run: Run
) -> tuple[Events, list[tuple[list, list]], set[str]]:
    """What every output must have done, from the passes and the ring's releases alone; what the ring held; and what
    rows have waited for.
    """
    arch = unit.arch
    events: Events = defaultdict(list)
    step, in_flight = arch.keys_per_line(1 << log2_dim), arch.rows_in_flight
    softmax, topk = SoftmaxUnit.of(arch), TopKUnit.of(arch, 12)
    golden: list[Any] = [None] * len(rows)
    final = [NEVER] * len(rows)

    def of_row(r: int) -> dict[str, int]:
        return rows[r].fields

    # Decisions.
    for p in run.passes:
        row, d = rows[p.row], p.line_cycles[-1] + softmax.exponent_cycles + softmax.test_cycles
        before = None if of_row(p.row)["first_tile"] else golden[p.row - 1].state
        done = softmax_row(row.exact if p.second else row.scores, step, before or RowSum())
        lsb = of_row(p.row)["lsb"]
        if not p.second and (lsb == Lsb.ALWAYS or (lsb == Lsb.TEST and is_flat(done, of_row(p.row)["threshold"]))):
            names = ("line", "side", "k_lsb_address", "first_key", "list", "version")
            request = {"row": p.row % in_flight, "keys": len(row.scores), **{n: of_row(p.row)[n] for n in names}}
            events["lsb_request"].append((d, request))
        else:
            golden[p.row], final[p.row] = done, d

    # Releases in row order.
    at = -1
    for r in range(len(rows)):
        at = max(final[r], at) + 1
        events["query_release"].append((at, 1))
        if of_row(r)["ends_k"]:
            events["k_release"].append((at, {"count": of_row(r)["k_lines"]}))

    # Second passes, and what the top-k makes of them.
    ended, granule = 0, 0
    taken: list[tuple[int, int]] = []
    selecting_ended, handed, lfsr = -NEVER, -1, 1
    out_last: list[int] = []
    held: list[tuple[list, list]] = []
    reasons: set[str] = set()
    for r, row in enumerate(rows):
        granules = -(-row.items // unit.granule)
        select = of_row(r)["selecting"]

        known = final[r] + softmax.reciprocal_cycles + 1
        reasons |= {"reciprocal"} if known > ended else {"row before"} if known < ended else set()
        t = max(known, ended)
        while True:
            used = sum(n for _, n in taken) - sum(n for cycle, n in run.ring_releases if cycle < t)
            selecting_rows = sum(o >= t for o in out_last)
            holds = {
                "ring": used + granules > unit.granules,
                "top-k": bool(select) and selecting_rows == 2,
                "command": bool(select) and t < selecting_ended + 2,
                "write port": not select and selecting_rows > 0,
            }
            if not any(holds.values()):
                break
            reasons |= {reason for reason in holds if holds[reason]}
            t += 1
        taken.append((t, granules))
        ended = t + row.lines
        events["softmax_busy"] += [(cycle, 1) for cycle in range(t, ended)]
        events["score_release"].append((t, {"count": row.lines}))
        rise = 0 if of_row(r)["first_tile"] else golden[r].state.maximum - golden[r - 1].state.maximum
        sent = {
            "keys": len(row.scores), "kept": row.kept, "granule": granule, "reciprocal": golden[r].reciprocal,
            "shift": golden[r].shift, "rise": min(63, rise), "selecting": select, "maximum": golden[r].state.maximum,
            "total": golden[r].state.total,
        }  # fmt: skip
        events["weights"].append((t, sent))

        keys, values = len(row.scores), golden[r].weights
        tokens = [of_row(r)["first_key"] + j for j in range(keys)]
        if of_row(r)["list"]:
            tokens = [keep_list(of_row(r)["version"], position) for position in tokens]
        for i, first in enumerate(range(0, keys, step)):
            part, c = slice(first, first + step), t + i + softmax.normalise_cycles
            content = {
                "weights": values[part].tolist(), "probabilities": golden[r].probabilities[part].tolist(),
                "tokens": tokens[part], "position": first, "count": len(tokens[part]), "first": int(first == 0),
                "last": int(first + step >= keys), "accumulate": of_row(r)["accumulate"],
            }  # fmt: skip
            events["line"].append((c, content))
            if not select:
                events["dense_lines"].append((c + 1, 1))
        if select:
            selecting_ended = ended - 1
            loaded = ended - 1 + softmax.normalise_cycles + 1
            take = max(loaded + topk.take_cycles, handed + 1)
            positions = np.empty(keys, np.int64)
            n, found = select_row(values.astype(np.int64), row.kept, topk.lanes, lfsr, positions)
            assert positions[:n].tolist() == top_k(values, row.kept).positions.tolist()
            lfsr = found.lfsr_state
            worked = select_cycles(found.rounds, found.round_words, topk.round_overhead_cycles)
            handed = max(take + topk.handoff_cycles + worked, (out_last[-1] if out_last else -1) + 1)
            gaps = np.empty(keys, np.int64)
            o = handed + topk.filter_cycles + int(gaps[: emit_gaps(positions, n, topk.lanes, gaps)].sum())
            out_last.append(o)
            events["select_busy"] += [(cycle, 1) for cycle in range(take, handed + 1)]
            events["emitted"].append((o + 1, 1))
            if of_row(r)["v_selected"]:
                events["v_row"].append((o, {"kept": row.kept, "granule": granule}))
            kept = positions[:n].tolist()
            if row.columns > 1:
                columns = [[j for j in kept if j % row.columns == column] for column in range(row.columns)]
                counts = [len(column) for column in columns] + [0] * (arch.values_per_line(8) - row.columns)
                events["columns"].append((o, {"counts": counts}))
                kept = [
                    column[n] if n < len(column) else -1 for n in range(row.items // row.columns) for column in columns
                ]
            weights = [int(values[j]) if j >= 0 else None for j in kept]
            held.append((weights, [tokens[j] for j in kept] if of_row(r)["v_selected"] else kept))
        else:
            held.append((values.tolist(), []))
        granule = (granule + granules) % unit.granules
    return events, held, reasons


def play(unit: EngineUnit, log2_dim: int, rows: list[Row], seed: str, patience: int = 12) -> Run:
    dut, bench = SoftmaxPath(unit), Bench(unit, log2_dim, rows, seed, patience)

    async def testbench(ctx: Any) -> None:
        await bench.play(ctx, dut)

    simulator = Simulator(dut)
    simulator.add_clock(1e-9)
    simulator.add_testbench(testbench)
    simulator.run()
    return bench.run


def check(unit: EngineUnit, log2_dim: int, rows: list[Row], run: Run) -> set[str]:
    events, held, reasons = expected(unit, log2_dim, rows, run)
    for port in sorted(events):
        seen, right = run.events[port], events[port]
        for number, (a, b) in enumerate(zip(seen, right, strict=False)):
            assert a == b, f"{port} {number}: {a}, should be {b}"
        # PV is done a few cycles before the selector or a release might be; nothing is left out before that.
        assert len(seen) == len(right), f"{port}: {len(seen)} events, should be {len(right)}"
    for r, ((weights, payloads), (want_weights, want_payloads)) in enumerate(zip(run.kept, held, strict=True)):
        there = [i for i, weight in enumerate(want_weights) if weight is not None]  # others carry no meaning
        assert [weights[i] for i in there] == [want_weights[i] for i in there], f"weights of row {r}"
        if rows[r].fields["selecting"]:
            assert [payloads[i] for i in there] == [want_payloads[i] for i in there], f"payloads of row {r}"
    return reasons


FOUR_VALUES = {"softmax.lanes": 4, "pv.multipliers": 32}

#: Changes to tiny, log2 of the head dimension, rows, what is the same in all rows, longest wait of PV, what some row
#: must have waited for.
CASES = [
    pytest.param({}, 3, 40, {}, 12, {"reciprocal", "row before", "write port"}, id="all kinds"),
    pytest.param({}, 4, 12, {"selecting": False}, 3, {"row before"}, id="one key per line, dense"),
    pytest.param({}, 3, 16, {"selecting": True, "longest": 8, "lsb": Lsb.NEVER}, 2, {"top-k", "command"}, id="top-k"),
    pytest.param({}, 3, 8, {"full": True, "longest": 64}, 150, {"ring"}, id="ring"),
    pytest.param({}, 3, 30, {"longest": 2, "selecting": False}, 0, {"reciprocal"}, id="one line per row"),
    pytest.param({}, 5, 14, {"chained": 0.9, "lsb": Lsb.NEVER, "longest": 12}, 2, {"reciprocal"}, id="chained tiles"),
    pytest.param({"topk.lanes": 8, "softmax.buffer_keys": 48}, 3, 12, {}, 12, set(), id="wider top-k"),
    pytest.param({"softmax.buffer_keys": 48}, 3, 9, {"full": True, "longest": 29}, 9, set(), id="odd ring"),
    pytest.param({"softmax.lanes": 1}, 3, 14, {"longest": 20}, 12, set(), id="one lane"),
    pytest.param({"softmax.lanes": 4, "qk.multipliers": 32}, 3, 16, {}, 12, set(), id="four lanes"),
    pytest.param(
        FOUR_VALUES,
        3,
        8,
        {"selecting": True, "full": True, "longest": 64, "kept": 20},
        300,
        {"ring"},
        id="four V rows per line",
    ),
    pytest.param(
        {**FOUR_VALUES, "topk.lanes": 8},
        4,
        20,
        {"selecting": True, "longest": 24},
        20,
        set(),
        id="two V rows per line",
    ),
]


@pytest.mark.parametrize(("change", "log2_dim", "count", "fixed", "patience", "waits"), CASES)
def test_values_and_cycles(
    change: dict, log2_dim: int, count: int, fixed: dict, patience: int, waits: set[str]
) -> None:
    unit = EngineUnit.of(load_arch("tiny", change))
    seed = f"{change} {log2_dim} {fixed}"
    rows = make_rows(unit, log2_dim, count, seed, **fixed)
    assert waits <= check(unit, log2_dim, rows, play(unit, log2_dim, rows, seed, patience))


def ports_of(component: wiring.Component) -> dict:
    """Ports for the converter, without the constant ready of helper streams, over which Amaranth 0.5.10 stumbles."""
    values = {"__".join(map(str, path)): Value.cast(value) for path, _, value in component.signature.flatten(component)}
    return {name: (value, None) for name, value in values.items() if not isinstance(value, Const)}


def test_becomes_verilog() -> None:
    path = SoftmaxPath(EngineUnit.of(load_arch("tiny")))
    assert "module SoftmaxPath" in verilog.convert(path, name="SoftmaxPath", ports=ports_of(path))
