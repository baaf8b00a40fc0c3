"""Reads a program's header and jobs through an AXI4 port, a few jobs ahead of their dispatch."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from accel.program import HEADER_BYTES, JOB, MAGIC, VERSION
from accel.registers import ERROR_CODE_BITS, ErrorCode
from accel.units.engine import ADDRESS_BITS, PROGRAM_BEAT_BYTES, RAW_JOBS, EngineUnit
from accel.units.sequencer import HEADER_BEATS, JOB_BEATS, PROGRAM_ALIGN_BYTES
from rtl.axi import BURST_INCR, CACHE_NORMAL, PROT_DATA, is_error, read_master

__all__ = ["ProgramReader", "raw_job_layout"]

COUNT_BITS = 32  # of jobs, as in the header
BEAT_BITS = 8 * PROGRAM_BEAT_BYTES
BOUNDARY_BYTES = 1 << 12  # no AXI burst crosses a multiple of it
HALF_BEATS = PROGRAM_ALIGN_BYTES // PROGRAM_BEAT_BYTES
assert HEADER_BYTES == PROGRAM_ALIGN_BYTES
assert JOB.itemsize == 2 * PROGRAM_ALIGN_BYTES


def raw_job_layout() -> data.StructLayout:
    """A job's bytes, lowest first. last: it is behind the program's last job. error: some of it was read badly."""
    return data.StructLayout({"bytes": 8 * JOB.itemsize, "last": 1, "error": 1})


class ProgramReader(wiring.Component):
    """Header, jobs in order, and the job after the last, which has to be END.

    Parameters
    ----------
    unit : EngineUnit.

    Members
    -------
    bus : Out(read_master), 32 bytes wide, one ID, INCR. rready is always 1.
    start : In(1), pulse, while idle. address : In. The program's, taken with it.
    jobs : Out(stream of raw_job_layout, always_ready). Valid for one cycle per job.
    pop : In(1). A job was dispatched or dropped: another may be read in its place.
    stop : In(1). Level: ask for no further job.
    finish : In(1), pulse, when quiet and nothing is held: idle from the next cycle.
    held : Out. Jobs asked for (AR taken) and not popped; at most RAW_JOBS.
    quiet : Out(1). No AR is offered, no header awaited.
    error : Out. Level, an ErrorCode: of the address or the header. Jobs are then not read. Cleared by ``start``.

    Times, with ``start`` in cycle 0; a, an AR is taken (arvalid and arready); b, a beat is taken:
      header AR offered from 1;
      job i's AR offered from max(a(i - 1) + 1, b(header's last) + HEADER_CYCLES, pop(i - RAW_JOBS) + 1);
      job i on ``jobs`` at b(its last beat) + 1.
    A job that lies across a multiple of 4096 is read as two bursts of two beats: its second AR is offered in the cycle
    after its first was taken, and it is its second that counts above as a(i).

    An offered AR stays until it is taken, ``stop`` or not.
    """

    def __init__(self, unit: EngineUnit):
        self.unit = unit
        super().__init__(
            {
                "bus": Out(read_master(ADDRESS_BITS, BEAT_BITS)),
                "start": In(1),
                "address": In(ADDRESS_BITS),
                "jobs": Out(stream.Signature(raw_job_layout(), always_ready=True)),
                "pop": In(1),
                "stop": In(1),
                "finish": In(1),
                "held": Out(range(RAW_JOBS + 1)),
                "quiet": Out(1),
                "error": Out(ERROR_CODE_BITS),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        bus = self.bus
        address = Signal(ADDRESS_BITS)
        to_ask, to_come = Signal(COUNT_BITS + 1), Signal(COUNT_BITS + 1)  # jobs, the END included
        header_ar, header_beats, reading = Signal(), Signal(), Signal()
        offered = Signal()  # an AR was offered and not taken: it has to stay
        second_half = Signal()
        header = Signal(BEAT_BITS, reset_less=True)
        header_error, check = Signal(), Signal()
        taken, asked = Signal(), Signal()

        across = address[: BOUNDARY_BYTES.bit_length() - 1] == BOUNDARY_BYTES - PROGRAM_ALIGN_BYTES
        short = header_ar | across | second_half
        wanted = (to_ask != 0) & (self.held < RAW_JOBS) & ~self.stop
        m.d.comb += [
            bus.arvalid.eq(header_ar | (reading & (offered | second_half | wanted))),
            bus.araddr.eq(address),
            bus.arlen.eq(Mux(short, HALF_BEATS - 1, JOB_BEATS - 1)),
            bus.arsize.eq((PROGRAM_BEAT_BYTES - 1).bit_length()),
            bus.arburst.eq(BURST_INCR),
            bus.arcache.eq(CACHE_NORMAL),
            bus.arprot.eq(PROT_DATA),
            bus.rready.eq(1),
            taken.eq(bus.arvalid & bus.arready),
            asked.eq(taken & ~header_ar & (second_half | ~across)),
            self.quiet.eq(~bus.arvalid & ~header_beats & ~check),
        ]
        m.d.sync += offered.eq(bus.arvalid & ~bus.arready)
        with m.If(taken):
            m.d.sync += [
                address.eq(address + Mux(short, PROGRAM_ALIGN_BYTES, JOB.itemsize)),
                header_ar.eq(0),
                second_half.eq(~header_ar & across & ~second_half),
            ]
        with m.If(asked):
            m.d.sync += to_ask.eq(to_ask - 1)
        m.d.sync += self.held.eq(self.held + asked - self.pop)

        self._job_beats(m, reading, to_come)

        # The header: its first beat says all, its last completes it.
        beat = Signal(range(HEADER_BEATS))
        with m.If(header_beats & bus.rvalid):
            bad_last = bus.rlast != (beat == HEADER_BEATS - 1)
            m.d.sync += [beat.eq(beat + 1), header_error.eq(header_error | is_error(bus.rresp) | bad_last)]
            with m.If(beat == 0):
                m.d.sync += header.eq(bus.rdata)
            with m.If(bus.rlast | (beat == HEADER_BEATS - 1)):
                m.d.sync += [header_beats.eq(0), check.eq(1)]
        count = header[64:96]
        with m.If(check):
            m.d.sync += [check.eq(0), to_ask.eq(count + 1), to_come.eq(count + 1)]
            with m.If(header_error):
                m.d.sync += self.error.eq(ErrorCode.BUS)
            with m.Elif(header[:32] != int.from_bytes(MAGIC, "little")):
                m.d.sync += self.error.eq(ErrorCode.MAGIC)
            with m.Elif(header[32:48] != VERSION):
                m.d.sync += self.error.eq(ErrorCode.VERSION)
            with m.Elif(header[48:64] != JOB.itemsize):
                m.d.sync += self.error.eq(ErrorCode.JOB_SIZE)
            with m.Else():
                m.d.sync += reading.eq(1)

        with m.If(self.start):
            aligned = ~self.address[: (PROGRAM_ALIGN_BYTES - 1).bit_length()].any()
            m.d.sync += [
                address.eq(self.address),
                header_ar.eq(aligned),
                header_beats.eq(aligned),
                header_error.eq(0),
                beat.eq(0),
                self.error.eq(Mux(aligned, ErrorCode.NONE, ErrorCode.PROGRAM_ADDRESS)),
            ]
        with m.If(self.finish):
            m.d.sync += reading.eq(0)
        return m

    def _job_beats(self, m: Module, reading: Signal, to_come: Signal) -> None:
        """Beats to jobs. A burst that ends early or late, or with an error, spoils its job but not those after it."""
        bus = self.bus
        beats = [Signal(BEAT_BITS, name=f"beat_{i}", reset_less=True) for i in range(JOB_BEATS)]
        beat, bad, complete, last, error = Signal(range(JOB_BEATS)), Signal(), Signal(), Signal(), Signal()
        # Cut bursts are told apart by where the job begins, as they were when they were asked for.
        place = Signal(range(BOUNDARY_BYTES // PROGRAM_ALIGN_BYTES))
        cut = place == BOUNDARY_BYTES // PROGRAM_ALIGN_BYTES - 1
        middle = cut & (beat < HALF_BEATS)
        final = Mux(middle, HALF_BEATS - 1, JOB_BEATS - 1)
        at_final = beat == final
        m.d.sync += complete.eq(0)
        with m.If(reading & bus.rvalid):
            spoilt = bad | is_error(bus.rresp) | (bus.rlast != at_final)
            m.d.sync += [beat.eq(beat + 1), bad.eq(spoilt)]
            with m.Switch(beat):
                for i, register in enumerate(beats):
                    with m.Case(i):
                        m.d.sync += register.eq(bus.rdata)
            with m.If(bus.rlast | at_final):
                m.d.sync += beat.eq(final + 1)  # the next burst's, or 0
                with m.If(~middle):
                    m.d.sync += [
                        complete.eq(1),
                        error.eq(spoilt),
                        last.eq(to_come == 1),
                        to_come.eq(to_come - 1),
                        bad.eq(0),
                        place.eq(place + JOB.itemsize // PROGRAM_ALIGN_BYTES),
                    ]
        with m.If(self.start):
            m.d.sync += [
                place.eq(
                    (self.address >> (PROGRAM_ALIGN_BYTES - 1).bit_length()) + HEADER_BYTES // PROGRAM_ALIGN_BYTES
                ),
                beat.eq(0),
                bad.eq(0),
            ]
        m.d.comb += [
            self.jobs.valid.eq(complete),
            self.jobs.payload.bytes.eq(Cat(beats)),
            self.jobs.payload.last.eq(last),
            self.jobs.payload.error.eq(error),
        ]
