"""Probes: ports of the engine at which a bench sees what passes its units' boundaries, and shows what it expects there.

Everything that happens at t is seen at t + ``LAG_CYCLES``, as registers, so that a bench may read it before it sets the
inputs of that cycle.
"""

from typing import TYPE_CHECKING, NamedTuple

from amaranth.hdl import Cat, Module, Mux, Shape, ShapeLike, Signal, Value, ValueLike
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from accel.units.engine import EngineUnit
from accel.units.pv import PvArray
from accel.units.qk import QkUnit
from accel.units.softmax import SoftmaxUnit
from rtl.fetch_layout import fetch_layout
from rtl.job import job_layout, line_bits, pass_layout, release_layout, weight_line_layout, weights_layout
from rtl.pv_path import head_magnitude_layout
from rtl.pv_ports import line_control_layout
from rtl.pv_scaler import output_layout
from rtl.pv_tree import row_layout
from rtl.qk import scores_layout
from rtl.sequencer import operation_layout
from rtl.softmax.exponent import row_sum
from rtl.softmax.reciprocal import row_reciprocal

if TYPE_CHECKING:
    from rtl.engine import Engine

__all__ = ["LAG_CYCLES", "ProbeField", "connect_probes", "probe_fields", "probe_members"]

LAG_CYCLES = 1
Fields = dict[str, ShapeLike]


class ProbeField(NamedTuple):
    """A field as its port carries it: ``lanes`` numbers of ``bits``, the first one lowest."""

    lanes: int
    bits: int
    signed: bool


def _of(layout: data.StructLayout, *names: str) -> Fields:
    return {name: layout[name].shape for name in names}


def _layouts(unit: EngineUnit) -> dict[str, Fields]:
    """Fields of each probe, in the order of a row's way through the engine."""
    softmax, qk, array = SoftmaxUnit.of(unit.arch), QkUnit.of(unit.arch), PvArray.of(unit.arch)
    sequencer = {"list_length": operation_layout()["live"].shape, "live_heads": unit.arch.max_heads}
    lines = release_layout(line_bits(unit) + 1)["count"].shape
    return {
        "dispatch": _of(job_layout(), "rows", "keys", "head", "q_address"),
        "operation": _of(operation_layout(), "op", "keep", "live"),
        "operation_done": sequencer,
        "fetch": _of(fetch_layout(unit), "kind", "count", "base"),
        "k_arrived": {},
        "v_arrived": {},
        "query_arrived": {},
        "lsb_arrived": {},
        "row_start": _of(pass_layout(unit), "second", "row", "keys", "lines", "kept", "selecting"),
        "scores": _of(scores_layout(qk), "scores", "count", "last"),
        "decision": {**_of(row_sum(softmax), "maximum", "total"), "again": 1},
        "release": {"k_lines": lines},
        "reciprocal": _of(row_reciprocal(softmax), "maximum", "reciprocal", "shift"),
        "second_pass": _of(weights_layout(unit), "keys", "kept", "selecting", "reciprocal", "shift", "rise"),
        "weight_line": _of(
            weight_line_layout(unit), "weights", "probabilities", "tokens", "position", "count", "first", "last",
            "accumulate",
        ),
        "emitted": {},
        "accumulated": {},
        "pv_line": {
            **_of(line_control_layout(unit), "weights", "count"),
            **_of(row_layout(array), "last", "signed", "reciprocal", "shift"),
        },
        "row_finished": {"granules": unit.granules.bit_length(), "v_lines": lines},
        "output": _of(output_layout(array), "numbers", "last", "magnitude"),
        "head_magnitude": _of(head_magnitude_layout(unit), "head", "magnitude"),
        "row_written": {"retired": 1},
    }  # fmt: skip


def probe_fields(unit: EngineUnit) -> dict[str, dict[str, ProbeField]]:
    """Fields of each probe. Its ports are ``probes__NAME__valid`` and ``probes__NAME__FIELD``; bit i of
    ``probes__active`` is the valid of the i-th. Inputs ``expected__...`` of the same names lead nowhere: what a bench
    drives there stands next to the actual values in a waveform.
    """

    def field(shape: ShapeLike) -> ProbeField:
        if isinstance(shape, data.ArrayLayout):
            item = Shape.cast(shape.elem_shape)
            return ProbeField(shape.length, item.width, item.signed)
        cast = Shape.cast(shape)
        return ProbeField(1, cast.width, cast.signed)

    return {name: {key: field(shape) for key, shape in of.items()} for name, of in _layouts(unit).items()}


def probe_members(unit: EngineUnit) -> dict[str, wiring.Member]:
    """Members ``probes`` and ``expected`` of the engine."""
    layouts = _layouts(unit)
    ports = {
        name: Out(wiring.Signature({"valid": Out(1), **{key: Out(_plain(shape)) for key, shape in of.items()}}))
        for name, of in layouts.items()
    }
    signature = wiring.Signature(ports)
    return {"probes": Out(wiring.Signature({**ports, "active": Out(len(layouts))})), "expected": In(signature)}


def _plain(shape: ShapeLike) -> Shape:
    return Shape.cast(shape)


def connect_probes(m: Module, engine: "Engine") -> None:
    """Drive ``engine.probes``; in its elaboration, when all its units are there."""
    sequencer, fetch, state, pv = engine.sequencer, engine.fetcher.jobs, engine.state, engine.pv_path
    path, scores = engine.softmax_path, engine.qk.scores
    requant, second, local = path.requant, path.second_pass, path.local_values
    issued, outputs = pv.line, pv.array.outputs
    sources: dict[str, tuple[ValueLike, data.View | dict[str, ValueLike]]] = {
        "dispatch": (sequencer.dispatch.valid, sequencer.dispatch.payload),
        "operation": (sequencer.op.valid & sequencer.op.ready, sequencer.op.payload),
        "operation_done": (state.done, {"list_length": state.list_length, "live_heads": state.live_heads}),
        "row_start": (engine.qk_issue.passes.valid, engine.qk_issue.passes.payload),
        "scores": (scores.valid, scores.payload),
        "decision": (
            requant.sums.valid,
            {
                "maximum": requant.sums.payload.maximum,
                "total": requant.sums.payload.total,
                "again": requant.lsb_request.valid,
            },
        ),
        "release": (
            engine.fetcher.query_release,
            {"k_lines": Mux(requant.k_release.valid, requant.k_release.payload["count"], 0)},
        ),
        "reciprocal": (second.reciprocals.valid, second.reciprocals.payload),
        "second_pass": (second.weights.valid, second.weights.payload),
        "weight_line": (second.line.valid, second.line.payload),
        "emitted": (local.selected, {}),
        "accumulated": (state.row_accumulated, {}),
        "pv_line": (
            issued.valid,
            {
                "weights": issued.payload.weights,
                "count": issued.payload["count"],
                **{name: issued.payload.row[name] for name in ("last", "signed", "reciprocal", "shift")},
            },
        ),
        "row_finished": (
            pv.row_finished,
            {
                "granules": pv.ring_release.payload["count"],
                "v_lines": Mux(pv.v_release.valid, pv.v_release.payload["count"], 0),
            },
        ),
        "output": (outputs.valid, outputs.payload),
        "head_magnitude": (pv.head_magnitude.valid, pv.head_magnitude.payload),
    }
    # These are known a cycle after they happen anyway.
    late: dict[str, tuple[ValueLike, data.View | dict[str, ValueLike]]] = {
        "fetch": (fetch.start, fetch.fetch),
        "row_written": (pv.row_written, {"retired": pv.retired}),
    }
    for name, passed in engine.passed.items():
        before = Signal.like(passed, name=f"{name}_passed_before")
        m.d.sync += before.eq(passed)
        late[f"{name}_arrived"] = (passed != before, {})
    for domain, of in ((m.d.sync, sources), (m.d.comb, late)):
        for name, (valid, fields) in of.items():
            port = getattr(engine.probes, name)
            domain += port.valid.eq(valid)
            for key in port.signature.members:
                if key != "valid":
                    domain += getattr(port, key).eq(Value.cast(fields[key]))
    m.d.comb += engine.probes.active.eq(Cat(getattr(engine.probes, name).valid for name in _layouts(engine.unit)))
