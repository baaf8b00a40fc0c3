"""Sums that rows take over from the tile before: from memory into a buffer, and on to the softmax and the PV array."""

from amaranth.hdl import Cat, Module, Mux, Signal, Value, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from accel.units.engine import OUTPUT_ROWS, EngineUnit
from accel.units.pv import ACCUMULATOR_BITS, PARTIAL_PLANES, PvArray
from accel.units.softmax import OUTPUT_BITS, SoftmaxUnit
from rtl.crossbar import arrived_layout
from rtl.job import KIND_Q, format_layout
from rtl.pv_ports import carry_layout
from rtl.pv_scaler import carried_layout
from rtl.softmax.reciprocal import final_row
from rtl.sram import Sram
from rtl.stream import Queue

__all__ = ["PartialSums", "header_layout"]

HEADER_WORDS = 8  # of the last plane: their upper bytes


def header_layout() -> data.StructLayout:
    """The running maximum and sum of a record (``accel.lower.layout.partial_stride_bytes``)."""
    return data.StructLayout({"maximum": signed(16), "total": 48})


class PartialSums(wiring.Component):
    """``query_slots`` slots of a record each. A slot's record comes through the lane of its query.

    Parameters
    ----------
    unit : EngineUnit. ``pv.output_lanes`` has to be a power of two.

    Members
    -------
    format : In(format_layout), a level.
    arrived : In(stream of arrived_layout, always ready).array(query_lanes). As the lanes get them; what is not of a
        record is passed over. A record may be used two cycles after its last access.
    start_slot : In. start : Out(final_row), in the same cycle: what that slot's row starts from.
    carry : In(stream of carry_layout, always ready): the row of this slot begins in the PV array. OUTPUT_ROWS at most
        are held.
    carried : Out(stream of carried_layout): the sums of these rows, shifted right by their rise, in order. The first of
        a row three cycles after its carry, if those before are taken by then; one item per cycle. Payload: registers.

    A memory per lane, plane and (if an item is several accesses) part of an item. Within the cycle: carried.ready
    enables the reads; start_slot to start.
    """

    def __init__(self, unit: EngineUnit):
        self.unit, self.array = unit, PvArray.of(unit.arch)
        self.lanes, self.slots = unit.query_lanes, unit.arch.fetcher.query_slots
        slot = range(max(2, self.slots))
        super().__init__(
            {
                "format": In(format_layout()),
                "arrived": In(stream.Signature(arrived_layout(unit), always_ready=True)).array(self.lanes),
                "start_slot": In(slot),
                "start": Out(final_row(SoftmaxUnit.of(unit.arch))),
                "carry": In(stream.Signature(carry_layout(unit), always_ready=True)),
                "carried": Out(stream.Signature(carried_layout(self.array))),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        lane_bits = self.lanes.bit_length() - 1
        access = self.unit.arch.memory_spec.access_bytes * 8 // OUTPUT_BITS  # words of an access
        item, row = self.array.output_lanes, max(self.array.max_head_dim, self.array.output_lanes)
        row = max(row, access)
        banks, parts = max(1, item // access), max(1, access // item)
        bank_bits, part_bits = banks.bit_length() - 1, parts.bit_length() - 1
        words = row // max(item, access)
        word_bits = (words - 1).bit_length()

        # The record in front: its items one by one.
        m.submodules.rows = rows = Queue(carry_layout(self.unit), OUTPUT_ROWS)
        command = rows.o.payload
        number = Signal(range(max(2, row // item)))  # of the item
        last, read = Signal(), Signal()
        fetched, moves, ready = Signal(), Signal(), Signal()  # fetched: an item is at the memories' outputs
        rise, lane = Signal.like(command.rise), Signal(range(max(2, self.lanes)))
        part = Signal(range(max(2, parts)))
        m.d.comb += [
            rows.i.valid.eq(self.carry.valid),
            rows.i.payload.eq(self.carry.payload),
            last.eq((number + 1) * item >= self.format.head_dim),
            ready.eq(~self.carried.valid | self.carried.ready),
            moves.eq(fetched & ready),
            read.eq(rows.o.valid & (~fetched | ready)),
            rows.o.ready.eq(read & last),
        ]
        with m.If(read):
            m.d.sync += [
                fetched.eq(1),
                rise.eq(command.rise),
                lane.eq(command.slot[:lane_bits]),
                part.eq(number[:part_bits]),
                number.eq(Mux(last, 0, number + 1)),
            ]
        with m.Elif(ready):
            m.d.sync += fetched.eq(0)

        planes: list[list[Value]] = [[] for _ in range(PARTIAL_PLANES)]  # of each, the item read from every lane
        headers: list[Value] = []
        for n, arrived in enumerate(self.arrived):
            at, word = arrived.payload.tag, arrived.payload.data
            slot = at.index[lane_bits : (self.slots - 1).bit_length()]
            written, plane = Signal(name=f"written_{n}"), Signal(range(PARTIAL_PLANES), name=f"plane_{n}")
            place = Signal(range(max(2, row // access)), name=f"place_{n}")  # of the access in its plane
            atoms = self.format.output_atoms
            m.d.comb += [
                written.eq(arrived.valid & (at.kind == KIND_Q) & at.side),
                plane.eq(Mux(at.atom >= 2 * atoms, 2, at.atom >= atoms)),
                place.eq(at.atom - plane * atoms),
            ]
            for p in range(PARTIAL_PLANES):
                outputs = []
                for bank in range(banks):
                    m.submodules[f"lane_{n}_{p}_{bank}"] = memory = Sram(
                        access * OUTPUT_BITS, self.slots // self.lanes * words
                    )
                    m.d.comb += [
                        memory.write_enable.eq(written & (plane == p) & (place[:bank_bits] == bank)),
                        memory.write_address.eq(Cat(place[bank_bits : bank_bits + word_bits], slot)),
                        memory.write_data.eq(word),
                        memory.read_enable.eq(read & (command.slot[:lane_bits] == n)),
                        memory.read_address.eq(
                            Cat(number[part_bits : part_bits + word_bits], command.slot[lane_bits:])
                        ),
                    ]
                    outputs.append(memory.read_data)
                whole = Cat(outputs)
                planes[p].append(whole.word_select(part, item * OUTPUT_BITS) if parts > 1 else whole)
            m.submodules[f"header_{n}"] = table = Memory(
                shape=header_layout().size, depth=max(2, self.slots // self.lanes), init=[]
            )
            write, show = table.write_port(), table.read_port(domain="comb")
            m.d.comb += [
                write.en.eq(written & (plane == PARTIAL_PLANES - 1) & (place == 0)),
                write.addr.eq(slot),
                write.data.eq(Cat(word.word_select(2 * w + 1, 8) for w in range(HEADER_WORDS))),
                show.addr.eq(self.start_slot[lane_bits:]),
            ]
            headers.append(show.data)

        header = Signal(header_layout())
        with m.Switch(self.start_slot[:lane_bits]):
            for n, shown in enumerate(headers):
                with m.Case(n):
                    m.d.comb += header.as_value().eq(shown)
        m.d.comb += [self.start.maximum.eq(header.maximum), self.start.total.eq(header.total)]

        chosen = [Signal(item * OUTPUT_BITS, name=f"chosen_{p}") for p in range(PARTIAL_PLANES)]
        with m.Switch(lane):
            for n in range(self.lanes):
                with m.Case(n):
                    m.d.comb += [one.eq(of[n]) for one, of in zip(chosen, planes, strict=True)]
        with m.If(ready):
            m.d.sync += self.carried.valid.eq(fetched)
        with m.If(moves):
            for i, total in enumerate(self.carried.payload):
                bits = Cat(one.word_select(i, OUTPUT_BITS) for one in chosen)[:ACCUMULATOR_BITS]
                m.d.sync += total.eq(bits.as_signed() >> rise)
        return m
