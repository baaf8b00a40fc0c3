"""Importance: how much probability each token has received, and how large the outputs of each head were."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from accel.units.engine import EngineUnit
from accel.units.importance import TOKEN_SCORE_BITS, ImportanceUnit
from accel.units.softmax import PROBABILITY_BITS
from rtl.job import weight_line_layout
from rtl.shared import shared
from rtl.sram import Sram

__all__ = ["Importance", "ScoreMemory", "sweep_signature"]


def saturated(total: Value, bits: int) -> Value:
    """An unsigned sum in ``bits`` bits, the largest number if it does not fit."""
    return Mux(total[bits:].any(), Const((1 << bits) - 1, bits), total[:bits])


def sweep_signature(words: int, score_bits: int, lanes: int) -> wiring.Signature:
    """Word by word access to ``words`` words of ``lanes`` scores, as its user sees it.

    read_enable, read_word : Out. read_scores : In, the word; how many cycles later says the component.
    write_enable, write_word, write_scores : Out. Written at the end of the cycle.
    """
    word = data.ArrayLayout(score_bits, lanes)
    address = range(max(2, words))
    return wiring.Signature(
        {
            "read_enable": Out(1),
            "read_word": Out(address),
            "read_scores": In(word),
            "write_enable": Out(1),
            "write_word": Out(address),
            "write_scores": Out(word),
        }
    )


@shared
class ScoreMemory(wiring.Component):
    """Saturating sums in words of ``lanes``. One addition per cycle, or a sweep, never both.

    An addition reads its word, changes one score and writes the word. The word written is kept for one cycle: the next
    addition takes it from there if it is to the same word, as the memory is then read and written at once.

    Parameters
    ----------
    scores : how many.
    lanes : scores per word, a power of two of at least 2.
    score_bits, addend_bits : widths of a sum, and of what is added; unsigned.

    Members
    -------
    add : In(stream of score, addend), always ready. Added at c, written at the end of c + 1: in the memory at
        c + ``ACCUMULATE_CYCLES``.
    sweep : In(sweep_signature). Scores of a word come one cycle after its read. Only while no addition is under way.

    Latency 2 cycles, one addition per cycle, to any score. Contents are not reset.
    """

    def __init__(self, scores: int, lanes: int, score_bits: int, addend_bits: int):
        self.lanes, self.score_bits = lanes, score_bits
        self.words = max(2, -(-scores // lanes))
        self.lane_bits = (lanes - 1).bit_length()
        index = range(self.words * lanes)
        super().__init__(
            {
                "add": In(
                    stream.Signature(data.StructLayout({"score": index, "addend": addend_bits}), always_ready=True)
                ),
                "sweep": In(sweep_signature(self.words, score_bits, lanes)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        lanes, bits = self.lanes, self.score_bits
        add, sweep = self.add, self.sweep
        m.submodules.memory = memory = Sram(lanes * bits, self.words)

        adding, written = Signal(), Signal()
        item = Signal(add.payload.shape(), reset_less=True)
        word_number, place = item.score[self.lane_bits :], item.score[: self.lane_bits]
        # What was written in the cycle before.
        newer_number, newer = (
            Signal(len(word_number), reset_less=True, name="newer_number"),
            Signal(lanes * bits, reset_less=True, name="newer"),
        )
        word, sum_, changed = Signal(lanes * bits), Signal(bits), Signal(lanes * bits)
        m.d.sync += [
            adding.eq(add.valid),
            item.eq(add.payload),
            written.eq(adding),
            newer_number.eq(word_number),
            newer.eq(changed),
        ]
        m.d.comb += [
            word.eq(Mux(written & (newer_number == word_number), newer, memory.read_data)),
            sum_.eq(saturated(word.word_select(place, bits) + item.addend, bits)),
            changed.eq(Cat(Mux(place == lane, sum_, word.word_select(lane, bits)) for lane in range(lanes))),
            memory.read_enable.eq(add.valid | sweep.read_enable),
            memory.read_address.eq(Mux(sweep.read_enable, sweep.read_word, add.payload.score[self.lane_bits :])),
            memory.write_enable.eq(adding | sweep.write_enable),
            memory.write_address.eq(Mux(sweep.write_enable, sweep.write_word, word_number)),
            memory.write_data.eq(Mux(sweep.write_enable, sweep.write_scores, changed)),
            sweep.read_scores.eq(memory.read_data),
        ]
        return m


class Importance(wiring.Component):
    """Token scores: the probability each token received, added up.

    The tokens of a line may lie anywhere, so each lane has a replica of all scores of its own; the score of a token is
    the saturated sum of its replicas.

    Parameters
    ----------
    unit : EngineUnit.

    Members
    -------
    line : In(stream of weight_line_layout), always ready. Lanes below ``count`` are added, if ``accumulate``.
    row_accumulated : Out(1). A row's last line, with ``accumulate`` or not, came ``ACCUMULATE_CYCLES`` ago: what it
        adds can be read from this cycle on.
    sweep : In(sweep_signature). A word is read in all replicas; its sums come 1 + ``ImportanceUnit.sum_cycles`` cycles
        later. Written are the scores in replica 0 and zeros in the others. Only while no row is under way.

    Latency ``ACCUMULATE_CYCLES``, one line per cycle. Contents are not reset.
    """

    def __init__(self, unit: EngineUnit):
        self.sizes = ImportanceUnit.of(unit.arch)
        super().__init__(
            {
                "line": In(stream.Signature(weight_line_layout(unit), always_ready=True)),
                "row_accumulated": Out(1),
                "sweep": In(sweep_signature(self.sizes.token_words, TOKEN_SCORE_BITS, self.sizes.topk_lanes)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        sizes, sweep, line = self.sizes, self.sweep, self.line.payload
        sums: list[Value] = []
        for lane in range(sizes.score_lanes):
            replica = ScoreMemory(sizes.max_context, sizes.topk_lanes, TOKEN_SCORE_BITS, PROBABILITY_BITS + 1)
            m.submodules[f"replica_{lane}"] = replica
            m.d.comb += [
                replica.add.valid.eq(self.line.valid & line.accumulate & (lane < line.count)),
                replica.add.payload.score.eq(line.tokens[lane]),
                replica.add.payload.addend.eq(line.probabilities[lane]),
                replica.sweep.read_enable.eq(sweep.read_enable),
                replica.sweep.read_word.eq(sweep.read_word),
                replica.sweep.write_enable.eq(sweep.write_enable),
                replica.sweep.write_word.eq(sweep.write_word),
            ]
            if lane == 0:
                m.d.comb += replica.sweep.write_scores.eq(sweep.write_scores)
            sums.append(replica.sweep.read_scores.as_value())

        for level in range(sizes.sum_cycles):
            added = []
            for pair in range(len(sums) // 2):
                total = Signal(len(sums[0]), name=f"sum_{level}_{pair}", reset_less=True)
                for place in range(sizes.topk_lanes):
                    left, right = (
                        replicas.word_select(place, TOKEN_SCORE_BITS) for replicas in sums[2 * pair : 2 * pair + 2]
                    )
                    scores = total.word_select(place, TOKEN_SCORE_BITS)
                    m.d.sync += scores.eq(saturated(left + right, TOKEN_SCORE_BITS))
                added.append(total)
            sums = added
        m.d.comb += sweep.read_scores.eq(sums[0])

        ended = Signal()
        m.d.sync += [ended.eq(self.line.valid & line.last), self.row_accumulated.eq(ended)]
        return m
