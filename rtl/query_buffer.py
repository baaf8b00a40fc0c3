"""Query buffer: the words of the queries that have been fetched and are not yet final."""

from amaranth.hdl import Module, Mux, Signal, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from accel.numerics.quantise import WORD_BITS
from accel.units.engine import EngineUnit
from rtl.job import KIND_Q, write_layout
from rtl.line_bank import cells_of, entry_sram, words_of
from rtl.shared import shared

__all__ = ["QueryBuffer"]


@shared
class QueryBank(wiring.Component):
    """The slots of one lane.

    Parameters
    ----------
    unit : EngineUnit.
    slots : of this bank.

    Members
    -------
    write : In, as of :class:`QueryBuffer`, and with all bits of its slot number. read_enable, slot : In, in this bank.
    words : Out, one cycle later, until the next read.
    """

    def __init__(self, unit: EngineUnit, slots: int):
        self.unit, self.slots = unit, slots
        super().__init__(
            {
                "write": In(stream.Signature(write_layout(unit), always_ready=True)),
                "read_enable": In(1),
                "slot": In(range(max(2, slots))),
                "words": Out(unit.entry_words * WORD_BITS),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        access = self.write.payload
        m.submodules.memory = memory = entry_sram(self.unit, self.slots)
        is_query = self.write.valid & (access.tag.kind == KIND_Q) & ~access.tag.side
        m.d.comb += [
            memory.write_address.eq(access.tag.index[self.unit.query_lanes.bit_length() - 1 :]),
            memory.write_enable.eq(Mux(is_query, access.mask.as_value(), 0)),
            memory.write_data.eq(cells_of(self.unit, access.words)),
            memory.read_enable.eq(self.read_enable),
            memory.read_address.eq(self.slot),
            self.words.eq(words_of(self.unit, memory.read_data)),
        ]
        return m


class QueryBuffer(wiring.Component):
    """``query_slots`` slots of a query each, in ``query_lanes`` banks: slot s lies in bank s mod query_lanes.

    Parameters
    ----------
    unit : EngineUnit.

    Members
    -------
    write : In(stream of write_layout, always ready), one per bank; tag.index is the slot, of this lane's bank. What is
        no query (tag.kind, or tag.side for sums) is passed over. Written at the end of the cycle, readable from the
        next.
    read_enable, read_slot : In.
    words : Out. The slot's words one cycle later, until the next read; from head_dim on without meaning.

    There is no back-pressure, and no input reaches ``words`` within the cycle.
    """

    def __init__(self, unit: EngineUnit):
        self.unit = unit
        self.slots, self.banks = unit.arch.fetcher.query_slots, unit.query_lanes
        super().__init__(
            {
                "write": In(stream.Signature(write_layout(unit), always_ready=True)).array(self.banks),
                "read_enable": In(1),
                "read_slot": In(range(max(2, self.slots))),
                "words": Out(data.ArrayLayout(signed(WORD_BITS), unit.entry_words)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        bank_bits = self.banks.bit_length() - 1
        read_bank = Signal(range(max(2, self.banks)), reset_less=True)
        with m.If(self.read_enable):
            m.d.sync += read_bank.eq(self.read_slot[:bank_bits])
        with m.Switch(read_bank):
            for b in range(self.banks):
                m.submodules[f"bank_{b}"] = bank = QueryBank(self.unit, self.slots // self.banks)
                m.d.comb += [
                    bank.write.valid.eq(self.write[b].valid),
                    bank.write.payload.eq(self.write[b].payload),
                    bank.read_enable.eq(self.read_enable & (self.read_slot[:bank_bits] == b)),
                    bank.slot.eq(self.read_slot[bank_bits:]),
                ]
                with m.Case(b):
                    m.d.comb += self.words.as_value().eq(bank.words)
        return m
