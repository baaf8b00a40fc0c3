"""Queue that lets any of its oldest entries go first."""

from amaranth.hdl import Module, Mux, ShapeLike, Signal, Value
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from rtl.shared import shared
from rtl.sram import Sram

__all__ = ["WindowFifo"]


@shared
class WindowFifo(wiring.Component):
    """First in, first out, except that any of the ``window`` oldest entries may leave; older ones keep their order.

    Parameters
    ----------
    shape : of an entry.
    depth : entries held.
    window : 1 to depth.

    Members
    -------
    push : In(stream, always ready). Only while level < depth, or with a take in the same cycle.
    level : Out. Entries held, a register.
    heads : Out(shape).array(window). The oldest entries, oldest first, registers but for one multiplexer; from level on
        they carry no meaning.
    take : In(window). Bit p: entry p leaves at the end of the cycle. At most one, below level.

    Latency 1 cycle from push to level and heads, one entry per cycle in and out.

    The window is in registers. What is behind it lies in an ``Sram``, its first entry is always there to be read: it is
    what the last read brought, or what came when nothing else was there. So a take has only to enable the next read.
    """

    def __init__(self, shape: ShapeLike, depth: int, window: int):
        self.shape, self.depth, self.window = shape, depth, window
        super().__init__(
            {
                "push": In(stream.Signature(shape, always_ready=True)),
                "level": Out(range(depth + 1)),
                "heads": Out(shape).array(window),
                "take": In(window),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        window, push = self.window, self.push
        item = Value.cast(push.payload)
        taken, left, behind = Signal(), Signal.like(self.level), Signal()
        m.d.comb += [
            taken.eq(self.take.any()),
            left.eq(self.level - taken),  # where a push goes
            behind.eq(push.valid & (left >= window)),
        ]
        m.d.sync += self.level.eq(left + push.valid)
        heads = [Signal(item.shape(), name=f"head_{p}", reset_less=True) for p in range(window)]
        following = [*heads[1:], *self._rest(m, item, behind, left == window, taken & (self.level > window))]
        for p, head in enumerate(heads):
            m.d.comb += self.heads[p].eq(head)
            with m.If(push.valid & (left == p)):
                m.d.sync += head.eq(item)
            if p < len(following):
                with m.Elif(self.take[: p + 1].any()):
                    m.d.sync += head.eq(following[p])
        return m

    def _rest(self, m: Module, item: Value, push: Value, is_first: Value, pop: Value) -> list[Value]:
        """The entries behind the window; returns the oldest, if any can be. ``is_first``: a push finds no other."""
        size = self.depth - self.window
        if size == 0:
            return []
        late = Signal(item.shape(), reset_less=True)  # came when nothing else was there
        with m.If(push & is_first):
            m.d.sync += late.eq(item)
        if size == 1:
            return [late]
        m.submodules.rest = rest = Sram(len(item), size)
        write_at, read_at, from_memory = Signal(range(size)), Signal(range(size), init=1), Signal()
        m.d.comb += [
            rest.write_enable.eq(push),
            rest.write_address.eq(write_at),
            rest.write_data.eq(item),
            rest.read_enable.eq(pop),
            rest.read_address.eq(read_at),  # of the second
        ]
        with m.If(push):
            m.d.sync += write_at.eq(Mux(write_at == size - 1, 0, write_at + 1))
        with m.If(pop):
            m.d.sync += read_at.eq(Mux(read_at == size - 1, 0, read_at + 1))
        with m.If(push & is_first):
            m.d.sync += from_memory.eq(0)
        with m.Elif(pop):
            m.d.sync += from_memory.eq(1)
        return [Mux(from_memory, rest.read_data, late)]
