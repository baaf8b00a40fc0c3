"""Keep list: numbers of the tokens that are attended to, ascending, in two versions."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from accel.units.engine import TOKEN_BITS, EngineUnit
from rtl.fetcher import list_read_signature
from rtl.lane_list import LaneList
from rtl.second_pass import token_read_signature
from rtl.sram import Sram

__all__ = ["KeepList", "lane_read_signature", "list_write_layout", "word_read_signature"]


def _index_bits(unit: EngineUnit) -> int:
    """Bits of a position in the list; each version has room for a power of two of whole words and rows of banks."""
    arch = unit.arch
    return (max(arch.max_context, 2 * arch.topk.lanes, arch.fetcher.lanes) - 1).bit_length()


def _word_bits(unit: EngineUnit) -> int:
    return _index_bits(unit) - (unit.arch.topk.lanes - 1).bit_length()


def lane_read_signature(unit: EngineUnit) -> wiring.Signature:
    """The fetcher's reads."""
    return list_read_signature(unit.arch.fetcher.lanes, (unit.arch.max_context - 1).bit_length(), True)


def list_write_layout(unit: EngineUnit) -> data.StructLayout:
    """A word of the list: its entries from ``word * topk.lanes`` on."""
    lanes = unit.arch.topk.lanes
    return data.StructLayout({"version": 1, "word": _word_bits(unit), "tokens": data.ArrayLayout(TOKEN_BITS, lanes)})


def word_read_signature(unit: EngineUnit) -> wiring.Signature:
    """A reader of whole words, as it sees it: ``tokens`` comes in the cycle after ``enable`` and stays."""
    tokens = data.ArrayLayout(TOKEN_BITS, unit.arch.topk.lanes)
    return wiring.Signature({"enable": Out(1), "version": Out(1), "word": Out(_word_bits(unit)), "tokens": In(tokens)})


class KeepList(wiring.Component):
    """The list as the cascade writes it, for the fetcher, the second pass and the next prune.

    Parameters
    ----------
    unit : EngineUnit.

    Members
    -------
    write : In(stream of list_write_layout), always ready. Readable in the next cycle.
    lane_read : In(lane_read_signature). The fetch lanes: lane l reads entry index[l] of the version, where
        ``index[l] mod fetcher.lanes`` must be ``(l + rotate) mod fetcher.lanes``. data: of the last cycle with enable.
    token_read : In(token_read_signature). Entries position, position + 1, ..., as many as are in the same word of
        topk.lanes entries; the others have no meaning.
    word_read : In(word_read_signature). Goes before token_read where both ask; tokens of both are of the last read.

    Latency 1 cycle; every cycle a read by all lanes, one by token_read or word_read, and a write (of other words).
    Contents are not reset.
    """

    def __init__(self, unit: EngineUnit):
        self.unit = unit
        super().__init__(
            {
                "write": In(stream.Signature(list_write_layout(unit), always_ready=True)),
                "lane_read": In(lane_read_signature(unit)),
                "token_read": In(token_read_signature(unit)),
                "word_read": In(word_read_signature(unit)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        arch, bits = self.unit.arch, _index_bits(self.unit)
        place_bits = (arch.topk.lanes - 1).bit_length()
        write, line, word = self.write.payload, self.token_read, self.word_read

        m.submodules.by_lane = by_lane = LaneList(2 << bits, TOKEN_BITS, arch.fetcher.lanes, arch.topk.lanes)
        m.d.comb += [
            by_lane.write_enable.eq(self.write.valid),
            by_lane.write_word.eq(Cat(write.word, write.version)),
            by_lane.write_mask.eq(~0),
            by_lane.read_enable.eq(self.lane_read.enable),
            by_lane.read_rotate.eq(self.lane_read.rotate),
        ]
        m.d.comb += [by_lane.write_items[i].eq(write.tokens[i]) for i in range(arch.topk.lanes)]
        for lane in range(arch.fetcher.lanes):
            index = Signal(bits, name=f"index_{lane}")
            m.d.comb += [
                index.eq(self.lane_read.index[lane]),
                by_lane.read_index[lane].eq(Cat(index, self.lane_read.version)),
                self.lane_read.data[lane].eq(by_lane.data[lane]),
            ]

        m.submodules.by_word = by_word = Sram(arch.topk.lanes * TOKEN_BITS, 2 << bits - place_bits)
        place = Signal(place_bits, reset_less=True)
        with m.If(line.enable):
            m.d.sync += place.eq(line.position)
        line_word = Cat(line.position[place_bits:bits], line.version)
        m.d.comb += [
            by_word.write_enable.eq(self.write.valid),
            by_word.write_address.eq(Cat(write.word, write.version)),
            by_word.write_data.eq(write.tokens),
            by_word.read_enable.eq(line.enable | word.enable),
            by_word.read_address.eq(Mux(word.enable, Cat(word.word, word.version), line_word)),
            word.tokens.eq(by_word.read_data),
            line.tokens.eq(by_word.read_data >> place * TOKEN_BITS),
        ]
        return m
