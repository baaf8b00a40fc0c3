"""Mode state in the engine: what its path shares with that of attention."""

from typing import TYPE_CHECKING

from amaranth.hdl import Const, Module, Mux, Signal, Value

from accel.program import Mode
from rtl.state_path import StatePath

if TYPE_CHECKING:
    from rtl.engine import Engine

__all__ = ["connect_states"]


def connect_states(m: Module, engine: "Engine") -> None:
    """Give the query buffer, the line memories and the arrays to whom they belong; in the engine's elaboration, when
    all its units are there.
    """
    recurrent, states = Signal(), engine.state_path
    m.d.comb += recurrent.eq(engine.sequencer.format.mode == Mode.STATE)
    _share(m, engine, recurrent, states)
    if states is None:
        return
    m.submodules.state_path = states
    pv, issue, dispatch = engine.pv_path, engine.qk_issue, engine.sequencer.dispatch
    m.d.comb += [
        states.dispatch.valid.eq(dispatch.valid),
        states.dispatch.payload.eq(dispatch.payload),
        states.format.eq(engine.sequencer.format),
        states.query_passed.eq(engine.passed["query"]),
        states.query_number.eq(issue.query_number),
        states.query_words.eq(engine.query_buffer.words),
        issue.record_taken.eq(states.record_taken),
        pv.record_taken.eq(states.record_taken),
        states.room.eq(pv.room),
        pv.row_started.eq(states.row_started),
        engine.fetcher.row_started.eq(states.row_started),
        engine.qk.only_products.eq(recurrent),
        states.products.eq(engine.qk.products),
        states.k_words.eq(engine.k_memory.data),
        states.v_words.eq(engine.v_memory.data),
        pv.state_line.valid.eq(states.pv_line.valid),
        pv.state_line.payload.eq(states.pv_line.payload),
        pv.state_words.eq(states.pv_words),
    ]
    for memory, words in ((engine.k_memory, states.store_k), (engine.v_memory, states.store_v)):
        m.d.comb += [
            memory.store_enable.eq(states.store_enable),
            memory.store_line.eq(states.store_line),
            memory.store_part.eq(states.store_part),
            memory.store_words.eq(words),
        ]


def _share(m: Module, engine: "Engine", recurrent: Value, states: StatePath | None) -> None:
    """Reads of the query buffer and the line memories, and what enters the QK array."""
    issue, v_read = engine.qk_issue, engine.pv_path.v_read
    buffer, k, v, qk = engine.query_buffer, engine.k_memory, engine.v_memory, engine.qk
    attends: list[tuple[Value, Value]] = [
        (buffer.read_enable, issue.query_read_enable),
        (buffer.read_slot, issue.query_read_slot),
        (k.read_enable, issue.k_read_enable),
        (k.read_line, issue.k_read_line),
        (k.read_part, issue.k_read_part),
        (k.read_side, issue.k_read_side),
        (k.read_mask_lsb, issue.k_read_mask_lsb),
        (v.read_enable, v_read.valid),
        (v.read_part, v_read.payload.part),
        # Never refused, so nobody listens to ready.
        (qk.query.valid, issue.query.valid),
        (Value.cast(qk.query.payload), Value.cast(issue.query.payload)),
        (qk.line.valid, issue.line.valid),
        (Value.cast(qk.line.payload), Value.cast(issue.line.payload)),
        *((line, v_read.payload["lines"][column]) for column, line in enumerate(v.read_line)),
    ]
    if states is None:
        m.d.comb += [target.eq(source) for target, source in attends]
        return
    recurs: list[Value] = [
        states.record_taken,
        states.query_read_slot,
        states.read_enable,
        states.read_line,
        states.read_part,
        Const(0, 1),
        Const(0, 1),
        states.read_enable,
        states.read_part,
        states.query.valid,
        Value.cast(states.query.payload),
        states.qk_line.valid,
        Value.cast(states.qk_line.payload),
        *(states.read_line for _ in v.read_line),
    ]
    for (target, source), other in zip(attends, recurs, strict=True):
        m.d.comb += target.eq(Mux(recurrent, other, source))
