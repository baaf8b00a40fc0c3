"""Stream building blocks: a register slice and a queue, both elastic, neither with a path from ready to ready."""

from amaranth.hdl import Module, Shape, ShapeLike, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.fifo import SyncFIFO
from amaranth.lib.wiring import In, Out

from rtl.shared import shared

__all__ = ["SkidBuffer", "Queue"]


@shared
class SkidBuffer(wiring.Component):
    """Register slice: cuts every combinational path between its two sides.

    Parameters
    ----------
    shape : payload shape.

    Members
    -------
    i : In(stream). ready is a register.
    o : Out(stream). valid and payload are registers.

    Latency 1 cycle, one item per cycle. Under back-pressure it takes one item more than it has given, then i.ready
    falls; it holds at most two.
    """

    def __init__(self, shape: ShapeLike):
        super().__init__({"i": In(stream.Signature(shape)), "o": Out(stream.Signature(shape))})
        self.shape = shape

    def elaborate(self, platform: object) -> Module:
        m = Module()
        front, skid = Signal(Shape.cast(self.shape)), Signal(Shape.cast(self.shape))
        front_valid, skid_valid = Signal(), Signal()
        m.d.comb += [
            self.i.ready.eq(~skid_valid),
            self.o.valid.eq(front_valid),
            self.o.payload.eq(front),
        ]
        with m.If(~front_valid | self.o.ready):
            with m.If(skid_valid):
                m.d.sync += [front.eq(skid), front_valid.eq(1), skid_valid.eq(0)]
            with m.Else():
                m.d.sync += [front.eq(self.i.payload), front_valid.eq(self.i.valid)]
        with m.Elif(self.i.valid & self.i.ready):
            m.d.sync += [skid.eq(self.i.payload), skid_valid.eq(1)]
        return m


@shared
class Queue(wiring.Component):
    """First in, first out, in registers.

    Parameters
    ----------
    shape : payload shape.
    depth : items held, 1 or more.

    Members
    -------
    i : In(stream). ready while fewer than depth items are held.
    o : Out(stream). valid while any is held.

    Latency 1 cycle, one item per cycle. Under back-pressure it fills to depth, then i.ready falls; a full queue takes
    an item in the cycle after it gives one, so depth 1 passes an item every other cycle.
    """

    def __init__(self, shape: ShapeLike, depth: int):
        super().__init__({"i": In(stream.Signature(shape)), "o": Out(stream.Signature(shape))})
        self.shape, self.depth = shape, depth

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.fifo = fifo = SyncFIFO(width=Shape.cast(self.shape).width, depth=self.depth)
        m.d.comb += [
            fifo.w_data.eq(self.i.payload),
            fifo.w_en.eq(self.i.valid),
            self.i.ready.eq(fifo.w_rdy),
            self.o.payload.eq(fifo.r_data),
            self.o.valid.eq(fifo.r_rdy),
            fifo.r_en.eq(self.o.ready),
        ]
        return m
