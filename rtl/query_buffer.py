"""Query buffer: the words of the queries that have been fetched and are not yet final."""

from amaranth.hdl import Module, Mux, Signal, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from accel.numerics.quantise import WORD_BITS
from accel.units.engine import EngineUnit
from rtl.job import KIND_Q, write_layout
from rtl.line_bank import MaskedSram, cells_of, words_of

__all__ = ["QueryBuffer"]


class QueryBuffer(wiring.Component):
    """``query_slots`` slots of a query each, in ``query_lanes`` banks: slot s lies in bank s mod query_lanes.

    Parameters
    ----------
    unit : EngineUnit.

    Members
    -------
    write : In(stream of write_layout, always ready), one per bank; tag.index is the slot, of this lane's bank. What is
        no query (tag.kind) is passed over. Written at the end of the cycle, readable from the next.
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
        cells = Signal(self.unit.entry_words * WORD_BITS)
        with m.Switch(read_bank):
            for b in range(self.banks):
                access = self.write[b].payload
                is_query = self.write[b].valid & (access.tag.kind == KIND_Q)
                m.submodules[f"bank_{b}"] = bank = MaskedSram(self.unit, self.slots // self.banks)
                m.d.comb += [
                    bank.write_address.eq(access.tag.index[bank_bits:]),
                    bank.write_mask.eq(Mux(is_query, access.mask.as_value(), 0)),
                    bank.write_data.eq(cells_of(self.unit, access.words)),
                    bank.read_enable.eq(self.read_enable & (self.read_slot[:bank_bits] == b)),
                    bank.read_address.eq(self.read_slot[bank_bits:]),
                ]
                with m.Case(b):
                    m.d.comb += cells.eq(bank.read_data)
        m.d.comb += self.words.as_value().eq(words_of(self.unit, cells))
        return m
