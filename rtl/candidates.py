"""On the way from the scores to the cascade's top-k: which entries of a word are in the list, and packing them."""

from itertools import pairwise

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from accel.units.engine import TOKEN_BITS, EngineUnit
from accel.units.importance import HEAD_SCORE_BITS, ImportanceUnit
from rtl.job import COUNT_BITS
from rtl.keep_list import word_read_signature
from rtl.topk.packer import Packer
from rtl.topk.row_filter import source_layout
from rtl.zero_eliminator import ZeroEliminator

__all__ = ["WINDOW_WORDS", "ListWindow", "Packing"]

WINDOW_WORDS = 3  # two in registers, one in the read register of the memory


class ListWindow(wiring.Component):
    """Which tokens of a word of P consecutive tokens are in the list, for word after word.

    The list is ascending, so those are among the next P entries not seen. Two of its words stand in registers, a third
    in the read register of its memory. The first is done with in the cycle in which its last entry is among the
    tokens; then the window moves, by one word per cycle at most.

    Parameters
    ----------
    unit : EngineUnit. P is topk.lanes.

    Members
    -------
    start, version, entries : In(1), In(1), In. Begin with the first word of a list of so many entries.
    fill : In(1). In the three cycles after start.
    valid, word : In. From the fourth on: tokens word * P ... word * P + P - 1; words in ascending order, each once.
    listed : Out(lanes). Combinational: those in the list.
    read : Out(word_read_signature).
    """

    def __init__(self, unit: EngineUnit):
        self.lanes = unit.arch.topk.lanes
        self.lane_bits = (self.lanes - 1).bit_length()
        super().__init__(
            {
                "start": In(1),
                "version": In(1),
                "entries": In(COUNT_BITS),
                "fill": In(1),
                "valid": In(1),
                "word": In(TOKEN_BITS - self.lane_bits),
                "listed": Out(self.lanes),
                "read": Out(word_read_signature(unit)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        lanes, lane_bits = self.lanes, self.lane_bits
        layout = self.read.tokens.shape()
        front, behind = Signal(layout, reset_less=True), Signal(layout, reset_less=True)
        left = Signal(COUNT_BITS)  # entries from the first of ``front`` on
        last_of_front, used = Signal(TOKEN_BITS), Signal()
        m.d.comb += [
            last_of_front.eq(front[lanes - 1]),
            used.eq(self.valid & (left >= lanes) & (last_of_front[lane_bits:] == self.word)),
            self.read.enable.eq(self.fill | used),
        ]
        with m.If(self.read.enable):
            m.d.sync += [front.eq(behind), behind.eq(self.read.tokens), self.read.word.eq(self.read.word + 1)]
        with m.If(used):
            m.d.sync += left.eq(left - lanes)
        with m.If(self.start):
            m.d.sync += [left.eq(self.entries), self.read.version.eq(self.version), self.read.word.eq(0)]

        met = []
        for i in range(2 * lanes):
            entry = (front, behind)[i // lanes][i % lanes]
            one_hot = Signal(lanes, name=f"met_{i}")
            with m.If((left > i) & (entry[lane_bits:] == self.word)):
                m.d.comb += one_hot.eq(Const(1, lanes) << entry[:lane_bits])
            met.append(one_hot)
        m.d.comb += self.listed.eq(Cat(Cat(bits[lane] for bits in met).any() for lane in range(lanes)))
        return m


class Packing(wiring.Component):
    """Candidates among words of P scores, packed, as the top-k takes them.

    Full words leave as they come, but the last one waits for the end of the sweep.

    Parameters
    ----------
    unit : EngineUnit. P is topk.lanes.

    Members
    -------
    clear : In(1). Between rows.
    n : In. Candidates of the row.
    i_valid, i_last, i_word, i_keep, i_scores : In. Word number i_word, lanes of it that are candidates; i_last ends the
        sweep. All candidates are in the words up to that.
    o_valid, o_word : Out. ceil(n / P) words of scores and numbers (word * P + lane).
    loaded : Out(1). The end: with the last of these words, if there are any.

    Latency: ``loaded`` four cycles after i_last, the words before the last not later. One word per cycle.
    """

    def __init__(self, unit: EngineUnit):
        self.lanes = lanes = unit.arch.topk.lanes
        self.word_bits = TOKEN_BITS - (lanes - 1).bit_length()
        super().__init__(
            {
                "clear": In(1),
                "n": In(COUNT_BITS),
                "i_valid": In(1),
                "i_last": In(1),
                "i_word": In(self.word_bits),
                "i_keep": In(lanes),
                "i_scores": In(data.ArrayLayout(HEAD_SCORE_BITS, lanes)),
                "o_valid": Out(1),
                "o_word": Out(source_layout(ImportanceUnit.of(unit.arch).topk())),
                "loaded": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        lanes, lane_bits = self.lanes, (self.lanes - 1).bit_length()
        m.submodules.eliminate = eliminate = ZeroEliminator(HEAD_SCORE_BITS + lane_bits, lanes)
        m.submodules.pack = pack = Packer(HEAD_SCORE_BITS + TOKEN_BITS, lanes)
        number = [self.i_word, *(Signal(self.word_bits, name=f"word_{stage}", reset_less=True) for stage in range(2))]
        last = [self.i_valid & self.i_last, *(Signal(name=f"last_{stage}") for stage in range(4))]
        m.d.sync += [after.eq(before) for steps in (number, last) for before, after in pairwise(steps)]
        m.d.comb += [
            eliminate.clear.eq(self.clear),
            eliminate.i_valid.eq(self.i_valid),
            eliminate.i_keep.eq(self.i_keep),
            *(eliminate.i_items[lane].eq(Cat(self.i_scores[lane], Const(lane, lane_bits))) for lane in range(lanes)),
            pack.clear.eq(self.clear),
            # Without a candidate nothing moves, so that what is complete stays so.
            pack.i_valid.eq(eliminate.o_valid & (eliminate.o_count != 0)),
            pack.i_count.eq(eliminate.o_count),
            *(pack.i_items[lane].eq(Cat(eliminate.o_items[lane], number[-1])) for lane in range(lanes)),
        ]

        # The word that leaves next: now, or when the sweep has ended.
        packed = Signal(COUNT_BITS)
        now, rest = Signal(), Signal()
        complete = Signal()
        leaving = Signal(pack.o_word.shape(), reset_less=True)
        m.d.comb += complete.eq(packed + pack.i_count == self.n)
        m.d.sync += [now.eq(0), rest.eq(0)]
        with m.If(pack.i_valid):
            m.d.sync += [
                packed.eq(packed + pack.i_count),
                leaving.eq(pack.o_word),
                now.eq(Mux(complete, pack.o_total > lanes, pack.o_total >= lanes)),
                rest.eq(complete & (pack.o_total > lanes)),
            ]
        with m.Elif(rest):
            m.d.sync += leaving.eq(pack.held)
        with m.If(self.clear):
            m.d.sync += [packed.eq(0), *(step.eq(0) for step in last[1:])]
        m.d.comb += [
            self.loaded.eq(last[-1]),
            self.o_valid.eq(now | (self.loaded & (self.n != 0))),
            *(self.o_word.values[lane].eq(leaving[lane][:HEAD_SCORE_BITS]) for lane in range(lanes)),
            *(self.o_word.payloads[lane].eq(leaving[lane][HEAD_SCORE_BITS:]) for lane in range(lanes)),
        ]
        return m
