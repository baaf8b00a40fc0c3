"""Control and status registers behind AXI4-Lite, made from the map in ``accel.registers``."""

from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from accel.registers import (
    COUNTER_BITS,
    COUNTERS,
    ERROR_CODE_BITS,
    ERROR_JOB_BITS,
    PAGE_BYTES,
    WORD_BYTES,
    constant_words,
    register,
)
from accel.units.engine import ADDRESS_BITS, EngineUnit
from rtl.axi import lite_slave

__all__ = ["Registers"]

WORD_BITS = 8 * WORD_BYTES
PAGE_ADDRESS_BITS = (PAGE_BYTES - 1).bit_length()
RESPONSE_SLVERR = 0b10


def event_names() -> list[str]:
    """Counters that have an input; ``cycles`` needs none."""
    return [name for name, _ in COUNTERS if name != "cycles"]


class Registers(wiring.Component):
    """The registers of :data:`accel.registers.REGISTERS`, their counters, start and interrupt.

    Parameters
    ----------
    unit : EngineUnit.

    Members
    -------
    bus : In(lite_slave), 32 bits, a page of addresses.
    start : Out(1), pulse. The cycle in which it is 1 is cycle 0: the one after a write to CONTROL was carried out.
    program_address : Out. Level.
    done : In(1), pulse of the sequencer. error_code, error_job : In. Taken with it.
    cycle : Out(64). n in cycle n; from the cycle after ``done`` it stays.
    interrupt : Out(1). Level, a register: some enabled event has not been cleared.
    One input per counter but ``cycles``, by its name: how many events this cycle has. 1 bit, but ``read_accesses``,
        which counts up to the number of channels. Counted from cycle 0 to that of ``done``, both included.

    AXI4-Lite: address and data of a write may come in any order; one of each is held. The write is carried out in the
    cycle after both are there and the response before it was taken, the response stands a cycle later. A read is
    answered in the cycle after it was taken, one every two cycles. SLVERR: a write to what is not writable, a start
    while busy, any access to an unknown word; it has no effect (and reads 0). Strobes are obeyed. Reading the low word
    of a counter keeps its high word for the read of that.

    No ready depends on an input in the same cycle.
    """

    def __init__(self, unit: EngineUnit):
        self.unit = unit
        counts = {name: In(1) for name in event_names()}
        counts["read_accesses"] = In(range(unit.arch.memory_spec.channels + 1))
        super().__init__(
            {
                "bus": In(lite_slave(PAGE_ADDRESS_BITS)),
                "start": Out(1),
                "program_address": Out(ADDRESS_BITS),
                "done": In(1),
                "error_code": In(ERROR_CODE_BITS),
                "error_job": In(ERROR_JOB_BITS),
                "cycle": Out(COUNTER_BITS),
                "interrupt": Out(1),
                **counts,
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        running, busy, starting = Signal(), Signal(), Signal()
        status_done, status_error = Signal(), Signal()
        error_code, error_job = Signal(ERROR_CODE_BITS), Signal(ERROR_JOB_BITS)
        enable, events = Signal(2), Signal(2)
        m.d.comb += busy.eq(self.start | running)
        m.d.sync += [self.start.eq(starting), self.interrupt.eq((enable & events).any())]
        self._writes(m, busy, starting, enable, events)

        with m.If(starting):
            m.d.sync += [status_done.eq(0), status_error.eq(0), error_code.eq(0), error_job.eq(0)]
        with m.If(self.start):
            m.d.sync += running.eq(1)
        with m.If(busy & self.done):
            failed = self.error_code.any()
            m.d.sync += [
                running.eq(0),
                status_done.eq(1),
                status_error.eq(failed),
                error_code.eq(self.error_code),
                error_job.eq(self.error_job),
                events[0].eq(1),  # after the write above: an event that comes while it is cleared is not lost
            ]
            with m.If(failed):
                m.d.sync += events[1].eq(1)

        counters = {"cycles": self.cycle} | {name: Signal(COUNTER_BITS, name=name) for name in event_names()}
        for name, counter in counters.items():
            with m.If(starting):
                m.d.sync += counter.eq(0)
            with m.Elif(busy):
                m.d.sync += counter.eq(counter + (1 if name == "cycles" else getattr(self, name)))

        words: dict[int, Value | int] = dict(constant_words(self.unit))
        words[register("CONTROL").offset] = 0
        words[register("STATUS").offset] = Cat(busy, status_done, status_error)
        words[register("INTERRUPT_ENABLE").offset] = enable
        words[register("INTERRUPT_STATUS").offset] = events
        for name, low, high in (
            ("ERROR", error_code, error_job),
            ("PROGRAM_ADDRESS", self.program_address[:WORD_BITS], self.program_address[WORD_BITS:]),
        ):
            words[register(name).offset], words[register(name).offset + WORD_BYTES] = low, high
        self._reads(m, words, {register(name.upper()).offset: counter for name, counter in counters.items()})
        return m

    def _writes(self, m: Module, busy: Value, starting: Signal, enable: Signal, events: Signal) -> None:
        bus = self.bus
        address, address_held = Signal(PAGE_ADDRESS_BITS), Signal()
        word, strobe, word_held = Signal(WORD_BITS), Signal(WORD_BYTES), Signal()
        write, good = Signal(), Signal()
        m.d.comb += [
            bus.awready.eq(~address_held),
            bus.wready.eq(~word_held),
            write.eq(address_held & word_held & ~bus.bvalid),
        ]
        with m.If(bus.awvalid & bus.awready):
            m.d.sync += [address.eq(bus.awaddr), address_held.eq(1)]
        with m.If(bus.wvalid & bus.wready):
            m.d.sync += [word.eq(bus.wdata), strobe.eq(bus.wstrb), word_held.eq(1)]
        with m.If(bus.bvalid & bus.bready):
            m.d.sync += bus.bvalid.eq(0)
        with m.If(write):
            m.d.sync += [
                address_held.eq(0),
                word_held.eq(0),
                bus.bvalid.eq(1),
                bus.bresp.eq(Mux(good, 0, RESPONSE_SLVERR)),
            ]

        def bytes_written(target: Value) -> list[Value]:
            at = range(0, len(target), 8)
            new = [Mux(strobe[i // 8], word[i : i + 8], target[i : i + 8]) for i in at]
            return [target.eq(Cat(new))]

        program, word_index = register("PROGRAM_ADDRESS").offset, address[2:]
        with m.Switch(word_index):
            with m.Case(register("CONTROL").offset // WORD_BYTES):
                asked = strobe[0] & word[0]
                m.d.comb += [good.eq(~(asked & busy)), starting.eq(write & asked & ~busy)]
            with m.Case(program // WORD_BYTES):
                m.d.comb += good.eq(1)
                with m.If(write):
                    m.d.sync += bytes_written(self.program_address[:WORD_BITS])
            with m.Case(program // WORD_BYTES + 1):
                m.d.comb += good.eq(1)
                with m.If(write):
                    m.d.sync += bytes_written(self.program_address[WORD_BITS:])
            with m.Case(register("INTERRUPT_ENABLE").offset // WORD_BYTES):
                m.d.comb += good.eq(1)
                with m.If(write & strobe[0]):
                    m.d.sync += enable.eq(word)
            with m.Case(register("INTERRUPT_STATUS").offset // WORD_BYTES):
                m.d.comb += good.eq(1)
                with m.If(write & strobe[0]):
                    m.d.sync += events.eq(events & ~word[: len(events)])

    def _reads(self, m: Module, words: dict[int, Value | int], counters: dict[int, Signal]) -> None:
        bus = self.bus
        kept = Signal(WORD_BITS)  # high word of the counter read last
        m.d.comb += bus.arready.eq(~bus.rvalid)
        with m.If(bus.rvalid & bus.rready):
            m.d.sync += bus.rvalid.eq(0)
        with m.If(bus.arvalid & bus.arready):
            m.d.sync += bus.rvalid.eq(1)
            with m.Switch(bus.araddr[2:]):
                for offset, value in words.items():
                    with m.Case(offset // WORD_BYTES):
                        m.d.sync += [bus.rdata.eq(value), bus.rresp.eq(0)]
                for offset, counter in counters.items():
                    with m.Case(offset // WORD_BYTES):
                        m.d.sync += [bus.rdata.eq(counter), kept.eq(counter >> WORD_BITS), bus.rresp.eq(0)]
                    with m.Case(offset // WORD_BYTES + 1):
                        m.d.sync += [bus.rdata.eq(kept), bus.rresp.eq(0)]
                with m.Default():
                    m.d.sync += [bus.rdata.eq(0), bus.rresp.eq(RESPONSE_SLVERR)]
