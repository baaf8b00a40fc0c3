"""The sequencer never gets stuck, whatever the program, as long as the engine and the memory give what they owe.

Stuck would be a state in which nobody owes it anything and it neither does anything nor is done. That this lasts no
longer than some cycles is proved for programs of any length and any decoded jobs, right or wrong; what reads and
decodes them is replaced by something freer. All that is owed comes some time, and each job asks for a bounded number of
things: so ``done`` comes.
"""

from pathlib import Path

import pytest

pytest.importorskip("pyosys", reason="proofs: pip install 'accel-codesign[synth]'")

from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In

from accel.arch import load_arch
from accel.program import Opcode
from accel.units.engine import RAW_JOBS, EngineUnit
from rtl.job_decoder import JobDecoder
from rtl.program_reader import ProgramReader
from tests.formal.proof import DEEP, always, assert_bounded, assert_proved, broken, counterexample, promise

pytestmark = pytest.mark.filterwarnings("ignore::amaranth.hdl.UnusedElaboratable")  # built for their ports

UNIT = EngineUnit.of(load_arch("tiny", {"rows_in_flight": 2}))
MOST_ROWS = 2 if DEEP else 1  # of a job
PATIENCE_CYCLES = 6  # without doing anything, although nobody owes anything

#: What is free in a decoded job, and how many of its bits.
JOB_BITS = {
    "rows": 2,
    "head": 1,
    "keys": 2,
    "first_key": 1,
    "accumulate": 1,
    "list": 1,
    "first_tile": 1,
    "last_tile": 1,
}
FRONT_BITS = {"error": 1, "opcode": 3, "halve": 1, "restart": 1, "fused": 2, "alone": 1, "end": 2}


class Driven(wiring.Component):
    """A sequencer with any program, an engine that does its jobs in any order, and a memory that answers some time."""

    def __init__(self, right: str = "", wrong: str = ""):
        self.right, self.wrong = right, wrong
        super().__init__(
            {
                "start": In(1),
                # The program, as it is read.
                "header": In(1),
                "header_error": In(1),
                "taken": In(1),
                "is_last": In(1),
                "comes": In(1),
                **{f"job_{name}": In(bits) for name, bits in JOB_BITS.items()},
                **{f"front_{name}": In(bits) for name, bits in FRONT_BITS.items()},
                "format": In(1),
                # The engine.
                "retires": In(1),
                "adds": In(1),
                "writes": In(1),
                "op_taken": In(1),
                "op_done": In(1),
                "live_heads": In(2),
                "list_length": In(2),
                "write_idle": In(1),
                "memory_error": In(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        outer = self
        self.header_awaited, self.offered, self.under_way = Signal(), Signal(), Signal(range(RAW_JOBS + 1))

        class AnyReader(wiring.Component):
            """``ProgramReader`` without bytes: jobs are asked for, come, and one of them is the last."""

            def __init__(self, unit: EngineUnit):
                super().__init__(dict(ProgramReader(unit).signature.members.items()))

            def elaborate(self, platform: object) -> Module:
                m = Module()
                reading, refused, all_asked = Signal(), Signal(), Signal()
                awaited, under_way = outer.header_awaited, outer.under_way
                taken, comes, complete, last = Signal(), Signal(), Signal(), Signal()
                m.d.comb += [
                    outer.offered.eq(reading & (refused | (~all_asked & (self.held < RAW_JOBS) & ~self.stop))),
                    taken.eq(outer.offered & outer.taken),
                    comes.eq((under_way != 0) & outer.comes),
                    self.quiet.eq(~outer.offered & ~awaited),
                    self.jobs.valid.eq(complete),
                    self.jobs.payload.last.eq(last),
                ]
                m.d.sync += [
                    refused.eq(outer.offered & ~taken),
                    under_way.eq(under_way + taken - comes),
                    self.held.eq(self.held + taken - self.pop),
                    complete.eq(comes),
                    last.eq(all_asked & (under_way == 1)),
                ]
                with m.If(taken):
                    m.d.sync += all_asked.eq(outer.is_last)
                with m.If(awaited & outer.header):
                    m.d.sync += [awaited.eq(0), reading.eq(~outer.header_error), self.error.eq(outer.header_error)]
                with m.If(self.finish):
                    m.d.sync += reading.eq(0)
                with m.If(self.start):
                    m.d.sync += [awaited.eq(1), all_asked.eq(0), self.error.eq(0)]
                return m

        class AnyDecoder(wiring.Component):
            """``JobDecoder`` that makes any job of any bytes, but takes only END for the last."""

            def __init__(self, unit: EngineUnit):
                super().__init__(dict(JobDecoder(unit).signature.members.items()))

            def elaborate(self, platform: object) -> Module:
                m = Module()
                first, second, last = Signal(), Signal(), Signal(2)
                decoded = self.decoded.payload
                m.d.sync += [first.eq(self.raw.valid), second.eq(first), last.eq(Cat(self.raw.payload.last, last[0]))]
                m.d.comb += [
                    self.decoded.valid.eq(second),
                    *(decoded[name].eq(getattr(outer, f"front_{name}")) for name in FRONT_BITS),
                    *(decoded.job[name].eq(getattr(outer, f"job_{name}")) for name in JOB_BITS),
                    decoded.format.head_dim.eq(outer.format),
                ]
                legal = Cat(decoded.opcode == code for code in Opcode).any()
                rows = (decoded.job.rows != 0) & (decoded.job.rows <= MOST_ROWS)
                m.d.comb += outer.good.eq(
                    ~second | decoded.error.any() | (legal & rows & (~last[1] | (decoded.opcode == Opcode.END)))
                )
                return m

        self.good = Signal()
        promise(m, self.good)
        changed = broken("rtl.sequencer", self.right, self.wrong, ProgramReader=AnyReader, JobDecoder=AnyDecoder)
        m.submodules.dut = dut = changed.Sequencer(UNIT)

        running, operating = Signal(), Signal()
        jobs, slots = Signal(range(UNIT.job_slots + 2)), UNIT.job_slots
        to_add, to_write = Signal(range(slots * MOST_ROWS + 4)), Signal(range(slots * MOST_ROWS + 4))
        started = Signal()
        m.d.comb += [
            started.eq(self.start & ~running),
            dut.start.eq(started),
            dut.retired.eq(self.retires & (jobs != 0)),
            dut.row_accumulated.eq(self.adds & (to_add != 0)),
            dut.row_written.eq(self.writes & (to_write != 0)),
            dut.op.ready.eq(self.op_taken),
            dut.op_done.eq(self.op_done & operating),
            dut.live_heads.eq(self.live_heads),
            dut.list_length.eq(self.list_length),
            dut.write_idle.eq(self.write_idle),
            dut.memory_error.eq(self.memory_error),
        ]
        rows = Signal(2)
        with m.If(dut.dispatch.valid):
            m.d.comb += rows.eq(dut.dispatch.payload.rows)
        m.d.sync += [
            jobs.eq(jobs + dut.dispatch.valid - dut.retired),
            to_add.eq(to_add + rows - dut.row_accumulated),
            to_write.eq(to_write + rows - dut.row_written),
        ]
        with m.If(started):
            m.d.sync += running.eq(1)
        with m.Elif(dut.done):
            m.d.sync += running.eq(0)
        with m.If(dut.op.valid & dut.op.ready):
            m.d.sync += operating.eq(1)
        with m.Elif(dut.op_done):
            m.d.sync += operating.eq(0)

        # Rows of a job are added and written before it retires.
        for rows_left in (to_add, to_write):
            promise(m, ~dut.retired | (rows_left <= (jobs - 1) * MOST_ROWS))
        always(m, jobs <= slots)
        always(m, running | ~(dut.dispatch.valid | dut.op.valid | dut.done))
        always(m, ~operating | ~(dut.op.valid | dut.dispatch.valid))
        always(m, ~dut.done | ((jobs == 0) & ~operating & (self.under_way == 0) & ~self.offered & ~self.header_awaited))

        idle = Signal(range(PATIENCE_CYCLES + 2))
        owed = Cat(
            jobs, to_add, to_write, operating, dut.op.valid, self.header_awaited, self.offered, self.under_way,
            ~self.write_idle,
        ).any()  # fmt: skip
        m.d.sync += idle.eq(0)
        with m.If(running & ~owed & ~dut.done & ~dut.dispatch.valid):
            m.d.sync += idle.eq(idle + 1)
        always(m, idle <= PATIENCE_CYCLES)
        return m


@pytest.mark.skipif(not DEEP, reason="takes a minute or two: FORMAL=deep")
def test_never_stuck(tmp_path: Path) -> None:
    assert_proved(Driven(), tmp_path)


def test_not_stuck_for_a_while(tmp_path: Path) -> None:
    """From power-on; a job is dispatched and retired by then."""
    assert_bounded(Driven(), 16, tmp_path)


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("queue.o.ready.eq(leave | draining)", "queue.o.ready.eq(leave)"),  # what was read ahead stays
        ("jobs.eq(jobs + sent - self.retired)", "jobs.eq(jobs + sent)"),
        ("draining & self._none_under_way & (reader", "draining & (reader"),  # done before the jobs are
        ("(reader.held != 1) | ~reader.quiet", "0"),  # END amid the program
        ("with m.Elif(self.op_done):", "with m.Elif(self.op_done & self.retired):"),
        ("self._slot_free & (", "(self._slot_free | 1) & ("),
    ],
)
def test_broken_sequencers_are_found(right: str, wrong: str, tmp_path: Path) -> None:
    assert counterexample(Driven(right, wrong), 26, tmp_path) is not None
