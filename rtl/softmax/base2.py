"""Base-2 softmax: the two passes and the divider, side by side."""

from amaranth.hdl import Module
from amaranth.lib import wiring

from accel.units.softmax import SoftmaxUnit
from rtl.softmax.exponent import Exponent
from rtl.softmax.normalise import Normalise
from rtl.softmax.reciprocal import Reciprocal

__all__ = ["Softmax"]


class Softmax(wiring.Component):
    """Everything of the softmax that computes.

    What connects its three parts lies outside: the score buffer between ``exponents`` and ``stored``, and the decision
    between ``sums`` and ``finals`` whether a row is final. ``rows`` takes what ``reciprocals`` gives; they are ports
    because the same transfer starts the reading of the buffer.

    Parameters
    ----------
    unit : SoftmaxUnit.

    Members
    -------
    scores, exponents, sums : ports of :class:`rtl.softmax.exponent.Exponent`.
    finals, reciprocals : ports of :class:`rtl.softmax.reciprocal.Reciprocal`.
    stored, rows, weights : ports of :class:`rtl.softmax.normalise.Normalise`.

    Latencies, initiation intervals and back-pressure are those of the parts; no part can stall another.
    Golden: ``accel.numerics.softmax.softmax_row``.
    """

    def __init__(self, unit: SoftmaxUnit):
        self.parts: dict[str, wiring.Component] = {
            "exponent": Exponent(unit),
            "reciprocal": Reciprocal(unit),
            "normalise": Normalise(unit),
        }
        super().__init__(
            {name: member for part in self.parts.values() for name, member in part.signature.members.items()}
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        for label, part in self.parts.items():
            m.submodules[label] = part
            for name in part.signature.members:
                inner, outer = getattr(part, name), wiring.flipped(getattr(self, name))
                wiring.connect(m, inner, outer)
        return m
