"""The program's jobs in order: dispatched to the units, or carried out on the token and head state."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from accel.program import Fused, Mode, Opcode
from accel.registers import ERROR_CODE_BITS, ERROR_JOB_BITS, ErrorCode
from accel.units.engine import ADDRESS_BITS, RAW_JOBS, ROWS_BITS, EngineUnit
from accel.units.sequencer import StateOperation
from rtl.axi import read_master
from rtl.job import COUNT_BITS, format_layout, job_layout
from rtl.job_decoder import JobDecoder, decoded_layout
from rtl.program_reader import BEAT_BITS, ProgramReader
from rtl.stream import Queue

__all__ = ["Sequencer", "operation_layout"]


def operation_layout() -> data.StructLayout:
    """What is asked of the state. op: a :class:`~accel.units.sequencer.StateOperation`. keep: of the prunes. live:
    tokens that are alive (RESTART: from now on). restart: PRUNE_TOKENS among all live tokens, also when no list is
    stored; PRUNE_HEADS among all heads.
    """
    return data.StructLayout(
        {"op": range(max(StateOperation) + 1), "keep": COUNT_BITS, "live": COUNT_BITS, "restart": 1}
    )


class Sequencer(wiring.Component):
    """Reads, checks and dispatches a program.

    Parameters
    ----------
    unit : EngineUnit.

    Members
    -------
    bus : Out(read_master), 32 bytes wide: see ProgramReader.
    start : In(1), pulse, not before the cycle after ``done``. program_address : In, taken with it.
    dispatch : Out(stream of job_layout, always_ready).
    format : Out. Level: of the jobs under way; a new one from the cycle after its first job's dispatch.
    format_change : Out(1). Pulse with such a dispatch, and with a program's first.
    retired : In(1), pulse per job, in order. row_accumulated, row_written : In(1), pulse per row of every job.
    live_heads : In. One bit per head.
    op : Out(stream of operation_layout). op_done : In(1), pulse, a cycle or more after it was taken. A
        PRUNE_TOKENS says ``restart`` too when no list is stored.
    all_tokens : Out(1). Pulse: the list is now all tokens.
    live : Out. Level: tokens alive, new from the cycle after that, or after a RESTART was taken.
    list_length, version : In. Levels, of the stored list. New in the cycle after op_done or before, as ``live_heads``.
    write_idle : In(1). Level: every write was answered.
    memory_error : In(1), pulse: an access of another port was answered with an error.
    done : Out(1). Pulse. error_code, error_job : Out. With it: an ErrorCode (0: the program has ended) and the job.

    What jobs leave in the state stays from program to program; the live tokens and the list too.

    Times (max-plus; ``start`` in cycle 0; all conditions on pulses are registered, so they hold from the cycle after):

    F(i), job i is at the front    F(i) = max(b(i) + DECODE_CYCLES, N(i-1)), b: its last beat, from ProgramReader
    E(i), it leaves the front: ProgramReader's pop(i).  N(i), first cycle of the next: E(i) + 1 but for operations
      pruned head      E = H
      attend           E = D = max(H, R(j - job_slots) + 1) for the j-th dispatched job, R(j): its ``retired``
                       of another format than the job before: D = max(H, R(j-1) + 1)
                       H = F, or with HALVE: H = C(HALVE) + 1
      TOKENS           E = F, ``all_tokens``
      operation        E = T, N = C + 1: taken at T, done at C = T + its cycles
    T, in which the state has to be ready for it, of
      HALVE            max(F, A + 1), A: last ``row_accumulated`` of all rows dispatched
      RESTART          max(F, A + 1, W + 1), W: last ``row_written`` of all rows dispatched
      PRUNE_TOKENS     max(F, A + 1, R(p) + 1), p: the last job dispatched before the PRUNE_TOKENS before this one
      PRUNE_HEADS      max(F, W + 1)
    END                done = the first cycle from max(F, R(last) + 1) on in which ``write_idle``

    A job that is illegal stops the program at F: nothing more is dispatched, what was read ahead is dropped, jobs under
    way finish, and ``done`` comes with the code. So does an error of the header or the memory. END before the last job
    ends the program too, once what was read ahead has come.
    Within the cycle ``write_idle`` reaches done; ``live_heads`` and ``list_length`` reach the valids of dispatch and
    op, all_tokens and format_change; ``version`` reaches dispatch.payload. All are registers where they come from.
    """

    def __init__(self, unit: EngineUnit):
        self.unit = unit
        super().__init__(
            {
                "bus": Out(read_master(ADDRESS_BITS, BEAT_BITS)),
                "start": In(1),
                "program_address": In(ADDRESS_BITS),
                "dispatch": Out(stream.Signature(job_layout(), always_ready=True)),
                "format": Out(format_layout()),
                "format_change": Out(1),
                "retired": In(1),
                "row_accumulated": In(1),
                "row_written": In(1),
                "live_heads": In(unit.arch.max_heads),
                "op": Out(stream.Signature(operation_layout())),
                "op_done": In(1),
                "all_tokens": Out(1),
                "live": Out(COUNT_BITS),
                "list_length": In(COUNT_BITS),
                "version": In(1),
                "write_idle": In(1),
                "memory_error": In(1),
                "done": Out(1),
                "error_code": Out(ERROR_CODE_BITS),
                "error_job": Out(ERROR_JOB_BITS),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.reader = self._reader = reader = ProgramReader(self.unit)
        m.submodules.decoder = decoder = JobDecoder(self.unit)
        # As deep as jobs can be read ahead, so it never refuses one.
        m.submodules.queue = queue = Queue(decoded_layout(), RAW_JOBS)
        wiring.connect(m, reader.bus, wiring.flipped(self.bus))
        wiring.connect(m, reader.jobs, decoder.raw)
        m.d.comb += [
            reader.start.eq(self.start),
            reader.address.eq(self.program_address),
            queue.i.valid.eq(decoder.decoded.valid),
            queue.i.payload.eq(decoder.decoded.payload),
        ]
        self._front = queue.o.payload

        running, draining, operating = Signal(), Signal(), Signal()
        at_front, leave, fail = Signal(), Signal(), Signal()
        code = Signal(ERROR_CODE_BITS)
        job_number = Signal(ERROR_JOB_BITS)
        memory_failed = Signal()
        self._stored = Signal()  # a list was stored since the tokens were last set: keys with KEEP_LIST are its
        self._halved = Signal()  # the front's HALVE is done
        self._carrying = Signal()  # the job before left its row's sums on chip
        # The last tile that was not its rows' last left sums in memory; so many of them have not been taken yet.
        self._through_memory, self._sums_left = Signal(), Signal(ROWS_BITS)
        self._count_under_way(m)
        self._check(m, code)

        m.d.comb += [
            at_front.eq(running & ~draining & ~operating & queue.o.valid),
            queue.o.ready.eq(leave | draining),
            reader.pop.eq(queue.o.valid & queue.o.ready),
            reader.stop.eq(draining),
            reader.finish.eq(self.done),
        ]
        with m.If(self.start):
            m.d.sync += [running.eq(1), job_number.eq(0), memory_failed.eq(0)]
            m.d.sync += [self.error_code.eq(0), self.error_job.eq(0)]
            m.d.sync += [self._carrying.eq(0), self._halved.eq(0), self._awaiting.eq(0), self._format_known.eq(0)]
            m.d.sync += [self._through_memory.eq(0), self._sums_left.eq(0)]
        with m.Elif(self.memory_error):
            m.d.sync += memory_failed.eq(1)
        with m.If(self.done):
            m.d.sync += [running.eq(0), draining.eq(0)]
        with m.If(leave):
            m.d.sync += [job_number.eq(job_number + 1), self._halved.eq(0)]
        with m.If(self.op.valid & self.op.ready):
            m.d.sync += operating.eq(1)
        with m.Elif(self.op_done):
            m.d.sync += operating.eq(0)

        stopping = running & ~draining & ~operating
        with m.If(stopping & memory_failed):
            m.d.comb += fail.eq(1)
            m.d.sync += self.error_code.eq(ErrorCode.MEMORY)
        with m.Elif(stopping & reader.error.any()):
            m.d.comb += fail.eq(1)
            m.d.sync += self.error_code.eq(reader.error)
        with m.Elif(at_front & code.any()):
            m.d.comb += fail.eq(1)
            m.d.sync += self.error_code.eq(code)
        with m.Elif(at_front):
            self._act(m, leave, draining)
        with m.If(fail):
            m.d.sync += [draining.eq(1), self.error_job.eq(job_number)]
        with m.If(draining & self._none_under_way & (reader.held == 0) & reader.quiet & self.write_idle):
            m.d.comb += self.done.eq(1)
        return m

    # ---- what is under way ----------------------------------------------------------------------------------------
    def _count_under_way(self, m: Module) -> None:
        slots = self.unit.job_slots
        jobs, older = Signal(range(slots + 1)), Signal(range(slots + 1))
        row_bits = ROWS_BITS + slots.bit_length()
        not_added, not_written = Signal(row_bits), Signal(row_bits)
        sent = self.dispatch.valid
        rows = Signal(ROWS_BITS)
        adding = Mux(self._front.job.state, 0, rows)  # tokens of states add nothing to scores
        with m.If(sent):
            m.d.comb += rows.eq(self._front.job.rows)
        m.d.sync += [
            jobs.eq(jobs + sent - self.retired),
            not_added.eq(not_added + adding - self.row_accumulated),
            not_written.eq(not_written + rows - self.row_written),
        ]
        # Jobs that may still read the list version that the next PRUNE_TOKENS writes. They retire before all others.
        with m.If(self.op.valid & self.op.ready & (self.op.payload.op == StateOperation.PRUNE_TOKENS)):
            m.d.sync += older.eq(jobs - self.retired)
        with m.Elif(self.retired & older.any()):
            m.d.sync += older.eq(older - 1)
        self._slot_free = jobs != slots
        self._none_under_way = jobs == 0
        self._version_free = older == 0
        self._all_added = not_added == 0
        self._all_written = not_written == 0

    # ---- what the front must not be -------------------------------------------------------------------------------
    def _alive(self, head: Value) -> Value:
        return Cat(self.live_heads, Const(0, 1)).bit_select(head, 1)

    def _check(self, m: Module, code: Signal) -> None:
        """Errors that follow from the state and the jobs before."""
        front, job = self._front, self._front.job
        attend = front.opcode == Opcode.ATTEND
        first = Signal(
            data.StructLayout({"head": 9, "keys": COUNT_BITS, "first_key": COUNT_BITS, "list": 1}), reset_less=True
        )
        self._awaiting = (
            Signal()
        )  # the first of a fused pair was dispatched last; ``first`` says what its second must be
        self._format_known, self._same_format = Signal(), Signal()
        self._pruned = Signal()
        self._takes_sums, self._leaves_sums, no_sums = Signal(), Signal(), Signal()
        begun, begun_before = Signal(COUNT_BITS), Signal(COUNT_BITS)  # rows of states, of this format
        fits = Cat(first[name] == job[name] for name in ("head", "keys", "first_key", "list")).all()
        m.d.comb += [
            self._pruned.eq(attend & front.alone & ~self._alive(job.head)),
            self._same_format.eq(self._format_known & (self.format.as_value() == front.format.as_value())),
            begun_before.eq(Mux(self._same_format, begun, 0)),
            self._takes_sums.eq(~job.first_tile & self._through_memory),
            self._leaves_sums.eq(~job.last_tile & (self._takes_sums | (job.rows != 1))),
            no_sums.eq(
                ~job.first_tile
                & Mux(self._through_memory, job.rows > self._sums_left, ~self._carrying | (job.rows != 1))
            ),
        ]
        with m.If(self.dispatch.valid):
            m.d.sync += [
                self._awaiting.eq(front.fused == Fused.FIRST),
                first.head.eq(job.head + 1),
                first.keys.eq(job.keys),
                first.first_key.eq(job.first_key),
                first.list.eq(job.list),
                self._carrying.eq(~job.last_tile & ~self._leaves_sums),
                self._format_known.eq(1),
                self.format.eq(front.format),
            ]
            m.d.sync += begun.eq(Mux(job.state & (front.end > begun_before), front.end, begun_before))
            with m.If(~job.last_tile):
                m.d.sync += [self._through_memory.eq(self._leaves_sums), self._sums_left.eq(job.rows)]
            with m.Elif(self._takes_sums):
                m.d.sync += self._sums_left.eq(self._sums_left - job.rows)

        second = attend & (front.fused == Fused.SECOND)
        with m.If(front.error.any()):
            m.d.comb += code.eq(front.error)
        with m.Elif(self._awaiting & ~(second & fits & self._same_format & ~self._pruned)):
            m.d.comb += code.eq(ErrorCode.FUSED)
        with m.Elif(attend & ~self._pruned):
            partner_gone = (front.fused == Fused.FIRST) & front.alone & ~self._alive(job.head + 1)
            with m.If((second & ~self._awaiting) | partner_gone):
                m.d.comb += code.eq(ErrorCode.FUSED)
            with m.Elif(no_sums | (job.state & (Mux(job.fresh, job.first_key, front.end) > begun_before))):
                m.d.comb += code.eq(ErrorCode.TILE_ORDER)
            with m.Elif(job.list & self._stored):
                m.d.comb += code.eq(Mux(front.end > self.list_length, ErrorCode.KEEP_LIST, ErrorCode.NONE))
            with m.Elif((front.end > self.live) & (front.format.mode != Mode.LINEAR) & ~job.state):
                with m.If(job.list):
                    m.d.comb += code.eq(ErrorCode.KEEP_LIST)
                with m.Elif(job.accumulate | self.live.any()):
                    m.d.comb += code.eq(ErrorCode.LIVE)
        with m.Elif((front.opcode == Opcode.TOKENS) & ~front.restart & (job.keys < self.live)):
            m.d.comb += code.eq(ErrorCode.SHRINK)
        with m.Elif((front.opcode == Opcode.PRUNE_TOKENS) & ~self.live.any()):
            m.d.comb += code.eq(ErrorCode.LIVE)

    # ---- what the front does --------------------------------------------------------------------------------------
    def _act(self, m: Module, leave: Signal, draining: Signal) -> None:
        front, job, reader = self._front, self._front.job, self._reader
        m.d.comb += [
            self.dispatch.payload.eq(job),
            self.dispatch.payload.list.eq(job.list & self._stored),
            self.dispatch.payload.version.eq(self.version),
            self.dispatch.payload.sums_in.eq(self._takes_sums),
            self.dispatch.payload.sums_out.eq(self._leaves_sums),
            self.op.payload.keep.eq(front.keep),
            self.op.payload.live.eq(self.live),
            self.op.payload.restart.eq(front.restart),
        ]

        def operate(op: StateOperation, ready: Value, leaving: bool = True) -> Value:
            """Ask for an operation; whether it is taken. What follows may change at once: the next job comes to the
            front only when it is done.
            """
            m.d.comb += [self.op.payload.op.eq(op), self.op.valid.eq(ready), leave.eq(ready & self.op.ready & leaving)]
            return ready & self.op.ready

        with m.Switch(front.opcode):
            with m.Case(Opcode.ATTEND):
                with m.If(front.halve & ~self._halved):
                    taken = operate(StateOperation.HALVE, self._all_added, leaving=False)
                    m.d.sync += self._halved.eq(taken)
                with m.Elif(self._pruned):
                    m.d.comb += leave.eq(1)
                with m.Elif(self._slot_free & (self._same_format | self._none_under_way)):
                    m.d.comb += [leave.eq(1), self.dispatch.valid.eq(1), self.format_change.eq(~self._same_format)]
            with m.Case(Opcode.TOKENS):
                m.d.comb += self.op.payload.live.eq(job.keys)
                with m.If(front.restart):
                    operate(StateOperation.RESTART, self._all_added & self._all_written)
                with m.Else():
                    m.d.comb += [leave.eq(1), self.all_tokens.eq(1)]
                with m.If(leave):
                    m.d.sync += [self.live.eq(job.keys), self._stored.eq(0)]
            with m.Case(Opcode.PRUNE_TOKENS):
                m.d.comb += self.op.payload.restart.eq(front.restart | ~self._stored)
                with m.If(operate(StateOperation.PRUNE_TOKENS, self._all_added & self._version_free)):
                    m.d.sync += self._stored.eq(1)
            with m.Case(Opcode.PRUNE_HEADS):
                operate(StateOperation.PRUNE_HEADS, self._all_written)
            with m.Case(Opcode.END):
                with m.If((reader.held != 1) | ~reader.quiet):
                    m.d.sync += draining.eq(1)
                with m.Elif(self._none_under_way & self.write_idle):
                    m.d.comb += [leave.eq(1), self.done.eq(1)]
