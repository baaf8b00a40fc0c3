"""Top-k engines in hardware. One module per implementation, named by ``Arch.topk.unit``; each defines ``TopK``.

Every ``TopK`` is a ``wiring.Component`` built from a :class:`~accel.units.topk.TopKUnit` with the ports ``command``,
``input`` and ``output`` of :mod:`rtl.topk.quickselect`; for local values, which have payloads, also with ``selecting``
and ``marked``.
"""

from amaranth.lib import wiring

from accel.units import implementation
from accel.units.topk import TopKUnit

Parameters = TopKUnit


def component(parameters: TopKUnit) -> wiring.Component:
    """The engine that ``parameters.engine`` names. Raises UserError for an unknown implementation."""
    return implementation("rtl.topk", parameters.engine).TopK(parameters)
