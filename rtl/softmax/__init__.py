"""Softmax units in hardware. One module per implementation, named by ``Arch.softmax.unit``; each defines ``Softmax``.

Every ``Softmax`` is a ``wiring.Component`` built from a :class:`~accel.units.softmax.SoftmaxUnit` with the ports of
:mod:`rtl.softmax.base2`. The score buffer and whoever decides that a row is final stand outside.
"""

from amaranth.lib import wiring

from accel.units import implementation
from accel.units.softmax import SoftmaxUnit

Parameters = SoftmaxUnit


def component(parameters: SoftmaxUnit, unit: str = "base2") -> wiring.Component:
    """The unit ``unit``. Raises UserError for an unknown implementation."""
    return implementation("rtl.softmax", unit).Softmax(parameters)
