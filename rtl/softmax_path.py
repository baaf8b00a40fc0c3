"""From scores to kept weights: softmax, requant, score buffer and local values, joined."""

from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from accel.units.engine import EngineUnit
from accel.units.softmax import SoftmaxUnit
from rtl.job import decay_layout, format_layout
from rtl.local_values import LocalValues
from rtl.requant import Requant
from rtl.second_pass import SecondPass
from rtl.softmax import component as softmax_component

__all__ = ["SoftmaxPath"]

_REQUANT_PORTS = ("passes", "scores", "lsb_request", "query_release", "k_release")
_SECOND_PASS_PORTS = ("score_release", "weights", "token_read", "line", "ring_release")
_LOCAL_VALUES_PORTS = (
    "v_row", "emitted", "dense_lines", "columns", "select_busy", "ring_read", "ring_items", "kept_read",
)  # fmt: skip


class SoftmaxPath(wiring.Component):
    """Everything between the QK array's scores and the PV array's weights. Nothing in it is ever refused.

    Parameters
    ----------
    unit : EngineUnit.

    Members
    -------
    format : In(format_layout). A level; changes only when nothing is under way.
    passes, start, decay, scores, lsb_request, query_release, k_release : as of :class:`rtl.requant.Requant`.
    score_release, weights, token_read, line, ring_release : as of :class:`rtl.second_pass.SecondPass`.
    v_row, emitted, dense_lines, columns, select_busy, ring_read, ring_items, kept_read : as of
        :class:`rtl.local_values.LocalValues`.
    softmax_busy : Out(1). A second pass reads a line in this cycle.

    Latency, with ``u`` the SoftmaxUnit: the last line of a pass's scores at s gives its decision at d = s +
    ``u.exponent_cycles`` + ``u.test_cycles``; a row final at d is released at d + 1 or later and may start its second
    pass at d + ``u.reciprocal_cycles`` + ``STORE_CYCLES``; a line read at t leaves at t + ``u.normalise_cycles``. The
    rules in between are those of the three parts. Golden: ``accel.numerics.softmax.softmax_row``, ``is_flat``,
    ``accel.numerics.topk.top_k``.
    """

    def __init__(self, unit: EngineUnit):
        self.unit = unit
        self.requant, self.second_pass, self.local_values = Requant(unit), SecondPass(unit), LocalValues(unit)
        ports = {
            "format": In(format_layout()),
            "start": self.requant.signature.members["start"],
            "decay": In(decay_layout()),
            "softmax_busy": Out(1),
        }
        for part, names in self._parts():
            ports.update({name: part.signature.members[name] for name in names})
        super().__init__(ports)

    def _parts(self) -> tuple[tuple[wiring.Component, tuple[str, ...]], ...]:
        """Each part with those of its ports that are ports of the whole."""
        return (
            (self.requant, _REQUANT_PORTS),
            (self.second_pass, _SECOND_PASS_PORTS),
            (self.local_values, _LOCAL_VALUES_PORTS),
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        requant, second, local = self.requant, self.second_pass, self.local_values
        arch = self.unit.arch
        softmax = softmax_component(SoftmaxUnit.of(arch), arch.softmax.unit)
        m.submodules.softmax, m.submodules.requant = softmax, requant
        m.submodules.second_pass, m.submodules.local_values = second, local
        for source, target in (
            (requant.lines, softmax.scores),
            (softmax.exponents, second.exponents),
            (softmax.sums, requant.sums),
            (requant.finals, softmax.finals),
            (requant.final, second.final),
            (softmax.reciprocals, second.reciprocals),
            (second.rows, softmax.rows),
            (second.stored, softmax.stored),
            (softmax.weights, second.normalised),
            (second.select, local.select),
        ):
            wiring.connect(m, source, target)
        m.d.comb += [
            second.format.eq(self.format),
            requant.format.eq(self.format),
            requant.start.eq(self.start),
            requant.decay.eq(self.decay),
            local.format.eq(self.format),
            second.passes.valid.eq(self.passes.valid),
            second.passes.payload.eq(self.passes.payload),
            local.line.valid.eq(second.line.valid),
            local.line.payload.eq(second.line.payload),
            local.place.eq(second.place),
            second.selected.eq(local.selected),
            self.softmax_busy.eq(second.busy),
        ]
        for part, names in self._parts():
            for name in names:
                inner, outer = getattr(part, name), getattr(self, name)
                if part.signature.members[name].is_signature:
                    wiring.connect(m, wiring.flipped(outer), inner)
                else:
                    m.d.comb += outer.eq(inner)
        return m
