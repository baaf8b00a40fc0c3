"""State that survives a job: importance, keep list, live heads, and the operations on them."""

from amaranth.hdl import Module
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from accel.units.engine import EngineUnit
from accel.units.importance import HEAD_SCORE_BITS
from accel.units.pv import PvArray
from rtl.cascade import Cascade, operation_layout
from rtl.importance import Importance, ScoreMemory
from rtl.job import COUNT_BITS, weight_line_layout
from rtl.keep_list import KeepList, lane_read_signature
from rtl.second_pass import token_read_signature

__all__ = ["State", "head_magnitude_layout"]


def head_magnitude_layout(unit: EngineUnit) -> data.StructLayout:
    """Magnitude of one output row of a head."""
    return data.StructLayout({"head": 9, "magnitude": PvArray.of(unit.arch).magnitude_bits})


class State(wiring.Component):
    """:class:`Importance`, :class:`KeepList`, head scores and :class:`Cascade`, joined.

    Parameters
    ----------
    unit : EngineUnit.
    lfsr_seed : of the cascade's pivot generator, 1 to 65535.

    Members
    -------
    line, row_accumulated : as of ``Importance``.
    head_magnitude : In(stream of head_magnitude_layout), always ready. Added at c, in the head's score (saturated) at
        c + ``ACCUMULATE_CYCLES``; one per cycle.
    op, done, all_tokens, version, list_length, live_heads : as of ``Cascade``.
    lane_read, token_read : as of ``KeepList``. token_read not while PRUNE_TOKENS is under way: a row whose lines are
        still to be read has not been accumulated, so there is none.

    Tokens from the largest ``live`` since the last RESTART on have score 0, so ``all_tokens`` need not clear anything:
    RESTART writes 0 to all of ``max_context``, lines add to live tokens only, and half of 0 is 0. Without a RESTART
    since power-up scores are undefined; such a program must not prune.
    """

    def __init__(self, unit: EngineUnit, lfsr_seed: int = 1):
        self.unit, self.lfsr_seed = unit, lfsr_seed
        super().__init__(
            {
                "line": In(stream.Signature(weight_line_layout(unit), always_ready=True)),
                "row_accumulated": Out(1),
                "head_magnitude": In(stream.Signature(head_magnitude_layout(unit), always_ready=True)),
                "op": In(stream.Signature(operation_layout())),
                "done": Out(1),
                "all_tokens": In(1),
                "version": Out(1),
                "list_length": Out(COUNT_BITS),
                "live_heads": Out(unit.arch.max_heads),
                "lane_read": In(lane_read_signature(unit)),
                "token_read": In(token_read_signature(unit)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        arch = self.unit.arch
        m.submodules.importance = importance = Importance(self.unit)
        m.submodules.heads = heads = ScoreMemory(
            arch.max_heads, arch.topk.lanes, HEAD_SCORE_BITS, PvArray.of(arch).magnitude_bits
        )
        m.submodules.keep_list = keep_list = KeepList(self.unit)
        m.submodules.cascade = cascade = Cascade(self.unit, self.lfsr_seed)
        outer = wiring.flipped(self)
        wiring.connect(m, outer.line, importance.line)
        wiring.connect(m, outer.op, cascade.op)
        wiring.connect(m, outer.lane_read, keep_list.lane_read)
        wiring.connect(m, outer.token_read, keep_list.token_read)
        wiring.connect(m, cascade.tokens, importance.sweep)
        wiring.connect(m, cascade.heads, heads.sweep)
        wiring.connect(m, cascade.list_read, keep_list.word_read)
        wiring.connect(m, cascade.list_write, keep_list.write)
        m.d.comb += [
            heads.add.valid.eq(self.head_magnitude.valid),
            heads.add.payload.score.eq(self.head_magnitude.payload.head),
            heads.add.payload.addend.eq(self.head_magnitude.payload.magnitude),
            self.row_accumulated.eq(importance.row_accumulated),
            self.done.eq(cascade.done),
            self.version.eq(cascade.version),
            self.list_length.eq(cascade.list_length),
            self.live_heads.eq(cascade.live_heads),
            cascade.all_tokens.eq(self.all_tokens),
        ]
        return m
