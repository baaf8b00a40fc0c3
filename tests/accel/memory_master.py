"""A master for every port of the engine that only reads and writes what a script says: stands in for the engine."""

from functools import reduce
from operator import xor

from amaranth.hdl import Cat, Module, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.fifo import SyncFIFOBuffered
from amaranth.lib.memory import Memory, ReadPort
from amaranth.lib.wiring import In, Out

from accel.units.engine import EngineUnit
from accel.verify import ports
from rtl.axi import lite_slave
from rtl.registers import PAGE_ADDRESS_BITS, Registers

ADDRESS_BITS, BEAT_BYTES = 48, 32


class Master(wiring.Component):
    """Reads ``reads[c]`` on channel c, writes what channel 0 brings to ``writes``, reads the program in bursts of
    ``beats``. It offers addresses and takes data in cycles that a shift register picks.

    Outputs beside the ports: arvalid_C, ar_C, rready_C, r_C, wvalid, w, b, beat, last_beat: high in each cycle in which
    an address is offered, is taken, data are wanted, are taken, and so on. The number of the job in error is the
    exclusive or of the first word of all data.
    """

    def __init__(self, unit: EngineUnit, reads: list[list[int]], writes: list[int], beats: list[int]) -> None:
        self.unit, self.reads, self.writes, self.beats = unit, reads, writes, beats
        self.atom_bytes = atom_bytes = unit.arch.memory_spec.access_bytes
        bits = 8 * atom_bytes
        read = {"arvalid": Out(1), "arready": In(1), "araddr": Out(ADDRESS_BITS), "rvalid": In(1), "rready": Out(1)}
        members: dict = {}
        for c in range(len(reads)):
            members |= {ports.read(c, name): member for name, member in read.items()}
            members |= {ports.read(c, "rdata"): In(bits), f"arvalid_{c}": Out(1), f"ar_{c}": Out(1)}
            members |= {f"rready_{c}": Out(1), f"r_{c}": Out(1)}
        members |= {ports.program(name): member for name, member in read.items()}
        members |= {ports.program("rdata"): In(8 * BEAT_BYTES), ports.program("arlen"): Out(8)}
        members |= {ports.program("rlast"): In(1), ports.program("rresp"): In(2)}
        members |= {ports.write(f"{name}valid"): Out(1) for name in ("aw", "w")}
        members |= {ports.write(f"{name}ready"): In(1) for name in ("aw", "w")}
        members |= {ports.write("awaddr"): Out(ADDRESS_BITS), ports.write("wdata"): Out(bits)}
        members |= {ports.write("wstrb"): Out(atom_bytes), ports.write("bvalid"): In(1), ports.write("bready"): Out(1)}
        members |= {"registers": In(lite_slave(PAGE_ADDRESS_BITS)), "started": Out(1)}
        members |= {name: Out(1) for name in ("wvalid", "w", "b", "beat", "last_beat", ports.INTERRUPT)}
        super().__init__(members)

    def port(self, name: str) -> Signal:
        return getattr(self, name)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.registers = registers = Registers(self.unit)
        wiring.connect(m, wiring.flipped(self.registers), registers.bus)
        started, program = Signal(), registers.program_address
        m.d.comb += [self.started.eq(registers.start), self.port(ports.INTERRUPT).eq(registers.interrupt)]
        with m.If(registers.start | registers.done):
            m.d.sync += started.eq(registers.start)
        chance = Signal(16, init=0xACE1)
        m.d.sync += chance.eq(Cat(chance[1:], chance[0] ^ chance[2] ^ chance[3] ^ chance[5]))

        done = []
        words: list[Signal] = []
        fifo = m.submodules.fifo = SyncFIFOBuffered(width=8 * self.atom_bytes, depth=16)
        for c, addresses in enumerate(self.reads):
            taken, given, word = Signal(16), Signal(16), Signal(32)
            valid, at = self.port(ports.read(c, "arvalid")), self.port(ports.read(c, "araddr"))
            take = valid & self.port(ports.read(c, "arready"))
            self._offer(m, f"reads_{c}", addresses, valid, at, take, taken, started & (chance[c] | chance[c + 3]))
            ready = self.port(ports.read(c, "rready"))
            m.d.comb += ready.eq((chance[c + 7] | chance[c + 8]) & (fifo.w_rdy if c == 0 else 1))
            give = ready & self.port(ports.read(c, "rvalid"))
            with m.If(give):
                m.d.sync += [given.eq(given + 1), word.eq(word ^ self.port(ports.read(c, "rdata"))[:32])]
            m.d.comb += [
                self.port(f"arvalid_{c}").eq(valid),
                self.port(f"ar_{c}").eq(take),
                self.port(f"rready_{c}").eq(ready),
                self.port(f"r_{c}").eq(give),
            ]
            if c == 0:
                m.d.comb += [fifo.w_en.eq(give), fifo.w_data.eq(self.port(ports.read(c, "rdata")))]
            done.append(given == len(addresses))
            words.append(word)

        written, answered, write_rom = Signal(16), Signal(16), self._rom(m, "write_rom", self.writes)
        m.d.comb += [
            write_rom.addr.eq(written),
            self.wvalid.eq(fifo.r_rdy),
            self.port(ports.write("awvalid")).eq(self.wvalid),
            self.port(ports.write("wvalid")).eq(self.wvalid),
            self.port(ports.write("awaddr")).eq(write_rom.data),
            self.port(ports.write("wdata")).eq(fifo.r_data),
            self.port(ports.write("wstrb")).eq(~(1 << self.atom_bytes - 1)),
            self.port(ports.write("bready")).eq(chance[11]),
            self.w.eq(self.wvalid & self.port(ports.write("awready")) & self.port(ports.write("wready"))),
            self.b.eq(self.port(ports.write("bvalid")) & chance[11]),
            fifo.r_en.eq(self.w),
        ]
        m.d.sync += [written.eq(written + self.w), answered.eq(answered + self.b)]
        done.append(answered == len(self.writes))
        done.append(self._program(m, started, program, chance[13], words))

        m.d.comb += [
            registers.done.eq(started & Cat(done).all()),
            registers.error_job.eq(reduce(xor, words)),
            registers.read_accesses.eq(sum(self.port(f"ar_{c}") for c in range(len(self.reads)))),
            registers.write_accesses.eq(self.w),
        ]
        return m

    def _rom(self, m: Module, name: str, addresses: list[int]) -> ReadPort:
        rom = m.submodules[name] = Memory(shape=ADDRESS_BITS, depth=len(addresses), init=addresses)
        return rom.read_port(domain="comb")

    def _offer(self, m: Module, name: str, addresses: list[int], valid: Signal, at: Signal, take: object,
               taken: Signal, go: object) -> None:  # fmt: skip
        """Offer each address once, from a cycle with ``go`` until it is taken."""
        rom = self._rom(m, name, addresses)
        held = Signal(name=f"{name}_held")
        m.d.comb += [rom.addr.eq(taken), at.eq(rom.data), valid.eq(held)]
        m.d.sync += taken.eq(taken + take)
        with m.If(take | ~held):
            m.d.sync += held.eq(go & (taken + take < len(addresses)))

    def _program(self, m: Module, started: Signal, program: Value, ready: object, words: list[Signal]) -> object:
        """Bursts one after the other, addresses as early as can be."""
        burst, beat, offset, word = Signal(8), Signal(8), Signal(16), Signal(32)
        lengths = Memory(shape=8, depth=len(self.beats), init=self.beats)
        m.submodules.lengths = lengths
        length = lengths.read_port(domain="comb")
        valid = self.port(ports.program("arvalid"))
        m.d.comb += [
            length.addr.eq(burst),
            valid.eq(started & (burst < len(self.beats))),
            self.port(ports.program("araddr")).eq(program + offset),
            self.port(ports.program("arlen")).eq(length.data - 1),
            self.port(ports.program("rready")).eq(ready),
            self.beat.eq(self.port(ports.program("rvalid")) & ready),
            self.last_beat.eq(self.beat & self.port(ports.program("rlast"))),
        ]
        with m.If(valid & self.port(ports.program("arready"))):
            m.d.sync += [burst.eq(burst + 1), offset.eq(offset + length.data * BEAT_BYTES)]
        with m.If(self.beat):
            m.d.sync += [beat.eq(beat + 1), word.eq(word ^ self.port(ports.program("rdata"))[:32])]
        words.append(word)
        return beat == sum(self.beats)
