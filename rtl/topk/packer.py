"""Packer: joins partly filled words into full ones."""

from amaranth.hdl import Module, Mux, Shape, ShapeLike, Signal, Value
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

__all__ = ["Packer"]


class Packer(wiring.Component):
    """Accumulates the front-packed words of a zero eliminator into words without gaps.

    The incoming word is rotated up by the fill level and laid over the accumulator. What does not fit is, by the
    rotation, already at the front and becomes the new accumulator.

    Parameters
    ----------
    shape : shape of one lane's item.
    lanes : lanes per word, a power of two.

    Members
    -------
    i_valid : In(1). Take i_items[:i_count] this cycle.
    i_count, i_items : In. A front-packed word.
    clear : In(1). Empties the accumulator, over i_valid.
    o_word : Out. Combinational: accumulator followed by the incoming word (if i_valid).
    o_total : Out. Combinational: items in accumulator and incoming word together, 0..2*lanes-1; lanes of o_word from
        o_total on carry no meaning. A total of lanes or more means that o_word is complete and leaves this cycle.
    fill : Out. Items in the accumulator, 0..lanes-1.
    held : Out. The accumulator.

    Latency 0 from i to o_word, one word per cycle. It never refuses: whoever drives i_valid must be able to put
    o_word away.
    """

    def __init__(self, shape: ShapeLike, lanes: int):
        word = data.ArrayLayout(shape, lanes)
        super().__init__(
            {
                "i_valid": In(1),
                "i_count": In(range(lanes + 1)),
                "i_items": In(word),
                "clear": In(1),
                "o_word": Out(word),
                "o_total": Out(range(2 * lanes)),
                "fill": Out(range(max(2, lanes))),
                "held": Out(word),
            }
        )
        self.width, self.lanes = Shape.cast(shape).width, lanes

    def elaborate(self, platform: object) -> Module:
        m = Module()
        lanes, width = self.lanes, self.width
        rotated: list[Value] = [self.i_items.as_value().word_select(lane, width) for lane in range(lanes)]
        for layer in range((lanes - 1).bit_length()):
            turned = []
            for lane in range(lanes):
                item = Signal(width, name=f"rotated_{layer}_{lane}")
                m.d.comb += item.eq(Mux(self.fill[layer], rotated[lane - (1 << layer)], rotated[lane]))
                turned.append(item)
            rotated = turned
        held = [self.held.as_value().word_select(lane, width) for lane in range(lanes)]
        word = [Mux(lane < self.fill, held[lane], rotated[lane]) for lane in range(lanes)]
        m.d.comb += [
            self.o_total.eq(self.fill + Mux(self.i_valid, self.i_count, 0)),
            *(self.o_word.as_value().word_select(lane, width).eq(word[lane]) for lane in range(lanes)),
        ]
        with m.If(self.i_valid):
            m.d.sync += self.fill.eq(self.o_total & (lanes - 1))
            for lane in range(lanes):
                m.d.sync += held[lane].eq(Mux(self.o_total >= lanes, rotated[lane], word[lane]))
        with m.If(self.clear):
            m.d.sync += self.fill.eq(0)
        return m
