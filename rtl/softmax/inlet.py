"""Inlet: what a pipeline that freezes as a whole needs in front of it."""

from amaranth.hdl import Module, Mux, Shape, ShapeLike, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

__all__ = ["Inlet"]


class Inlet(wiring.Component):
    """Cuts the path from ready to ready and lets valid and payload through.

    Parameters
    ----------
    shape : payload shape.

    Members
    -------
    i : In(stream). ready is a register: nothing is held.
    o : Out(stream). What is held, else what is on i, in the same cycle. The first pipeline register behind it ends
        the combinational path from i; put no output there.

    Latency 0, one item per cycle. Under back-pressure it holds the one item that i.ready had promised to take.
    """

    def __init__(self, shape: ShapeLike):
        super().__init__({"i": In(stream.Signature(shape)), "o": Out(stream.Signature(shape))})
        self.shape = shape

    def elaborate(self, platform: object) -> Module:
        m = Module()
        held, item = Signal(), Signal(Shape.cast(self.shape).width, reset_less=True)
        m.d.comb += [
            self.i.ready.eq(~held),
            self.o.valid.eq(held | self.i.valid),
            self.o.payload.eq(Mux(held, item, self.i.payload)),
        ]
        m.d.sync += held.eq(self.o.valid & ~self.o.ready)
        with m.If(~held):
            m.d.sync += item.eq(self.i.payload)
        return m
