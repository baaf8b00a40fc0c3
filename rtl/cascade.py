"""Cascade: the operations on the state, with the second physical top-k engine."""

from itertools import pairwise

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import data, enum, stream, wiring
from amaranth.lib.wiring import In, Out

from accel.units.engine import TOKEN_BITS, EngineUnit
from accel.units.importance import HEAD_SCORE_BITS, TOKEN_SCORE_BITS, ImportanceUnit
from rtl.candidates import WINDOW_WORDS, ListWindow, Packing
from rtl.importance import sweep_signature
from rtl.job import COUNT_BITS
from rtl.keep_list import list_write_layout, word_read_signature
from rtl.topk import component as top_k
from rtl.topk.selector import lanes_below

__all__ = ["Cascade", "Operation", "operation_layout"]


class Operation(enum.Enum, shape=2):  # type: ignore[call-arg]  # of Amaranth's own metaclass
    """RESTART: all scores 0, all heads live, list is all tokens. HALVE: token scores one bit down. PRUNE_TOKENS,
    PRUNE_HEADS: keep the best ones, as the list or the live heads.
    """

    RESTART = 0
    HALVE = 1
    PRUNE_TOKENS = 2
    PRUNE_HEADS = 3


def operation_layout() -> data.StructLayout:
    """keep: of a prune. live: tokens. restart: of a prune, among all and not only among those kept before."""
    return data.StructLayout({"op": Operation, "keep": COUNT_BITS, "live": COUNT_BITS, "restart": 1})


class Cascade(wiring.Component):
    """Carries out one operation at a time: taken at t, done at t + cycles.

    ===============  ==================================================================================================
    RESTART          ``ImportanceUnit.restart_cycles``
    HALVE            ``halve_cycles(live)``
    PRUNE_TOKENS     ``prune_tokens_cycles(live, select, emit)``
    PRUNE_HEADS      ``prune_heads_cycles(select, emit)``
    ===============  ==================================================================================================

    A prune sweeps the scores, one word per cycle in order of tokens or heads, and packs the candidates' scores with
    their numbers for the top-k. The list is ascending, so the candidates of a word of tokens are among the next P
    entries (``ListWindow``). The last word enters the top-k at a
    fixed distance from the end of the sweep, so that the duration does not depend on where the candidates lie. The
    newest token, the last live one, is not a candidate; it is appended to what the top-k kept.

    Parameters
    ----------
    unit : EngineUnit.
    lfsr_seed : of the pivot generator.

    Members
    -------
    op : In(stream of operation_layout). ready while none is under way, and in the cycle of done. keep, and live of
        PRUNE_TOKENS, are at least 1; live is 0 to max_context.
    done : Out(1). In this cycle ``version``, ``list_length`` and ``live_heads`` are new, and the list can be read.
    all_tokens : In(1). Pulse: the sequence has a new length, its list is all live tokens. The next PRUNE_TOKENS takes
        them all for candidates, as after RESTART. Not while an operation is under way or taken.
    version : Out(1). Of the list as stored; the other one is written next.
    list_length : Out(COUNT_BITS). Entries of the list as stored.
    live_heads : Out(max_heads). One bit per head; all after reset.
    tokens, heads : Out(sweep_signature). Scores; those of tokens come ``sum_cycles`` later than those of heads.
    list_read : Out(word_read_signature). Nobody else may read in a PRUNE_TOKENS.
    list_write : Out(stream of list_write_layout), always ready.

    ready, done and all levels are registers or decoded from registers. The sequencer must see to it that no row is
    being accumulated (or, in RESTART and PRUNE_HEADS, written) meanwhile.
    """

    def __init__(self, unit: EngineUnit, lfsr_seed: int = 1):
        self.sizes = sizes = ImportanceUnit.of(unit.arch)
        self.unit, self.topk = unit, sizes.topk(lfsr_seed)
        self.lane_bits = (sizes.topk_lanes - 1).bit_length()
        self.word_bits = TOKEN_BITS - self.lane_bits
        self.head_bits = (sizes.max_heads - 1).bit_length()
        self.head_word_bits = (sizes.head_words - 1).bit_length()
        super().__init__(
            {
                "op": In(stream.Signature(operation_layout())),
                "done": Out(1),
                "all_tokens": In(1),
                "version": Out(1),
                "list_length": Out(COUNT_BITS),
                "live_heads": Out(sizes.max_heads, init=(1 << sizes.max_heads) - 1),
                "tokens": Out(sweep_signature(sizes.token_words, TOKEN_SCORE_BITS, sizes.topk_lanes)),
                "heads": Out(sweep_signature(sizes.head_words, HEAD_SCORE_BITS, sizes.topk_lanes)),
                "list_read": Out(word_read_signature(unit)),
                "list_write": Out(stream.Signature(list_write_layout(unit), always_ready=True)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        sizes, lanes, op = self.sizes, self.sizes.topk_lanes, self.op.payload
        m.submodules.topk = topk = top_k(self.topk)
        m.submodules.window = window = ListWindow(self.unit)
        m.submodules.packing = packing = Packing(self.unit)
        wiring.connect(m, window.read, wiring.flipped(self.list_read))

        # The operation under way: n candidates of which k are kept; ``newest`` is appended.
        kind, of_list, of_alive = Signal(Operation), Signal(), Signal()
        n, k, newest = (Signal(shape, reset_less=True) for shape in (COUNT_BITS, COUNT_BITS, TOKEN_BITS))
        kept = Signal(COUNT_BITS)
        operations = (Operation.HALVE, Operation.PRUNE_TOKENS, Operation.PRUNE_HEADS)
        halving, of_tokens, of_heads = (kind == operation for operation in operations)
        all_listed = Signal(init=1)
        alive = Signal(range(sizes.max_heads + 1), init=sizes.max_heads)  # heads
        pruning_tokens, pruning_heads = op.op == Operation.PRUNE_TOKENS, op.op == Operation.PRUNE_HEADS
        candidates = Signal(COUNT_BITS)
        with m.If(pruning_heads):
            m.d.comb += candidates.eq(Mux(op.restart, sizes.max_heads, alive))
        with m.Else():
            m.d.comb += candidates.eq(Mux(op.restart | all_listed, op.live, self.list_length) - 1)
        m.d.comb += kept.eq(Mux(k < n, k, n))

        word, last_word = Signal(self.word_bits), Signal(self.word_bits, reset_less=True)
        sweeping = Signal()
        stages = self._stages(m, sweeping, word, word == last_word)
        ahead, summed = stages[-2:]  # a word whose sums come in the next cycle, and one whose sums are there
        m.d.comb += [
            self.tokens.read_enable.eq(sweeping),
            self.tokens.read_word.eq(word),
            self.heads.read_enable.eq(ahead.valid & of_heads),
            self.heads.read_word.eq(ahead.word),
            window.version.eq(self.version),
            window.entries.eq(candidates),
            window.valid.eq(ahead.valid),
            window.word.eq(ahead.word),
        ]

        # Candidates: a whole word as far as there are any, or those of the list, or the heads that are alive.
        remaining, keep = Signal(COUNT_BITS, reset_less=True), Signal(lanes, reset_less=True)
        alive_bits = Cat(self.live_heads, Const(0, sizes.head_words * lanes - sizes.max_heads))
        m.d.sync += keep.eq(Cat(lanes_below(remaining, lanes)))
        with m.If(of_list):
            m.d.sync += keep.eq(window.listed)
        with m.If(of_alive):
            m.d.sync += keep.eq(alive_bits.word_select(ahead.word[: self.head_word_bits], lanes))
        with m.If(ahead.valid):
            m.d.sync += remaining.eq(Mux(remaining > lanes, remaining - lanes, 0))
        m.d.comb += [
            packing.n.eq(n),
            packing.i_valid.eq(summed.valid & (of_tokens | of_heads)),
            packing.i_last.eq(summed.last),
            packing.i_word.eq(summed.word),
            packing.i_keep.eq(keep),
            *(
                packing.i_scores[lane].eq(Mux(of_heads, self.heads.read_scores[lane], self.tokens.read_scores[lane]))
                for lane in range(lanes)
            ),
            topk.input.valid.eq(packing.o_valid),
            topk.input.payload.eq(packing.o_word),
            topk.command.payload.n.eq(n),
            topk.command.payload.k.eq(kept),
            topk.output.ready.eq(1),
        ]

        # Zeros of RESTART, halves of HALVE.
        clearing = Signal()
        m.d.comb += [
            self.tokens.write_enable.eq((summed.valid & halving) | (clearing & (word < sizes.token_words))),
            self.tokens.write_word.eq(Mux(clearing, word, summed.word)),
            self.heads.write_enable.eq(clearing & (word < sizes.head_words)),
            self.heads.write_word.eq(word),
        ]
        with m.If(~clearing):
            m.d.comb += [self.tokens.write_scores[lane].eq(self.tokens.read_scores[lane] >> 1) for lane in range(lanes)]

        # What the top-k keeps.
        found, place = topk.output.payload, Signal.like(self.list_write.payload.word)
        appending, full = Signal(), Signal()
        heads_found, in_word = Signal(sizes.max_heads), Signal(sizes.max_heads)
        of_lane = [Signal(sizes.max_heads, name=f"head_of_lane_{lane}") for lane in range(lanes)]
        m.d.comb += [
            *(
                bits.eq(Mux(lane < found.count, 1 << found.payloads[lane][: self.head_bits], 0))
                for lane, bits in enumerate(of_lane)
            ),
            in_word.eq(Cat(Cat(bits[head] for bits in of_lane).any() for head in range(sizes.max_heads))),
            self.list_write.valid.eq(of_tokens & (topk.output.valid | (appending & full))),
            self.list_write.payload.version.eq(~self.version),
            self.list_write.payload.word.eq(place),
            *(
                self.list_write.payload.tokens[lane].eq(
                    Mux((lane < found.count) & ~appending, found.payloads[lane], newest)
                )
                for lane in range(lanes)
            ),
        ]
        with m.If(topk.output.valid):
            m.d.sync += [place.eq(place + 1), full.eq(found.count == lanes), heads_found.eq(heads_found | in_word)]

        with m.If(self.all_tokens):
            m.d.sync += all_listed.eq(1)
        m.d.sync += self.done.eq(0)
        fills = Signal(range(WINDOW_WORDS))
        with m.FSM():
            with m.State("IDLE"):
                m.d.comb += [self.op.ready.eq(1), window.start.eq(1), packing.clear.eq(1)]
                m.d.sync += [
                    kind.eq(op.op),
                    n.eq(candidates),
                    remaining.eq(candidates),
                    k.eq(op.keep - pruning_tokens),
                    newest.eq(op.live - 1),
                    of_list.eq(pruning_tokens & ~op.restart & ~all_listed),
                    of_alive.eq(pruning_heads & ~op.restart),
                    word.eq(0),
                    last_word.eq(Mux(op.live == 0, 0, (op.live - 1)[self.lane_bits :])),
                    place.eq(0),
                    heads_found.eq(0),
                    fills.eq(0),
                ]
                with m.If(self.op.valid):
                    m.next = "FILL"
                    with m.Switch(op.op):
                        with m.Case(Operation.RESTART):
                            m.next = "CLEAR"
                            m.d.sync += [
                                last_word.eq(max(sizes.token_words, sizes.head_words) - 1),
                                all_listed.eq(1),
                                self.live_heads.eq(~0),
                                alive.eq(sizes.max_heads),
                            ]
                        with m.Case(Operation.HALVE):
                            m.next = "SWEEP"
                        with m.Case(Operation.PRUNE_HEADS):
                            m.d.sync += last_word.eq(sizes.head_words - 1)
            with m.State("CLEAR"):
                m.d.comb += clearing.eq(1)
                m.d.sync += word.eq(word + 1)
                with m.If(word == last_word):
                    m.d.sync += self.done.eq(1)
                    m.next = "IDLE"
            with m.State("FILL"):
                m.d.comb += [window.fill.eq(1), topk.command.valid.eq((fills == 0) & (n != 0))]
                m.d.sync += fills.eq(fills + 1)
                with m.If(fills == WINDOW_WORDS - 1):
                    m.next = "SWEEP"
            with m.State("SWEEP"):
                m.d.comb += sweeping.eq(1)
                m.d.sync += word.eq(word + 1)
                with m.If(word == last_word):
                    m.next = "WAIT"
            with m.State("WAIT"):
                with m.If(halving & summed.valid & summed.last):
                    m.d.sync += self.done.eq(1)
                    m.next = "IDLE"
                with m.Elif(packing.loaded):
                    m.d.comb += topk.command.valid.eq(n == 0)
                    m.next = "SELECT"
            with m.State("SELECT"), m.If(topk.output.valid & found.last):
                m.next = "APPEND"
            with m.State("APPEND"):
                m.d.comb += appending.eq(1)
                m.d.sync += self.done.eq(1)
                m.next = "IDLE"
                with m.If(of_tokens):
                    m.d.sync += [
                        self.version.eq(~self.version),
                        self.list_length.eq(kept + 1),
                        all_listed.eq(0),
                    ]
                with m.Else():
                    m.d.sync += [self.live_heads.eq(heads_found), alive.eq(kept)]
        return m

    def _stages(self, m: Module, valid: Value, word: Value, last: Value) -> list[data.View]:
        """A word of the sweep from its read to its sums, cycle by cycle."""
        layout = data.StructLayout({"valid": 1, "last": 1, "word": self.word_bits})
        stages = [Signal(layout, name=f"stage_{cycle}") for cycle in range(self.sizes.sum_cycles + 2)]
        m.d.comb += stages[0].eq(Cat(valid, last, word))
        m.d.sync += [after.eq(before) for before, after in pairwise(stages)]
        return stages
