"""Zero eliminator: packs the kept lanes of a word to its front, in order."""

from amaranth.hdl import Const, Module, Mux, Shape, ShapeLike, Signal, Value
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

__all__ = ["ZeroEliminator", "count_ones"]


def count_ones(bits: list[Value]) -> Value:
    """Number of ones, as a balanced tree of adders."""
    if len(bits) == 1:
        return bits[0]
    half = len(bits) // 2
    return count_ones(bits[:half]) + count_ones(bits[half:])


class ZeroEliminator(wiring.Component):
    """Order-preserving compaction of one word per cycle.

    Lane l moves down by the number of dropped lanes below it. That number is counted in the first stage; in the second,
    log2(lanes) layers of multiplexers apply it bit by bit (published design), lowest bit first, so that two kept
    lanes never meet.

    Parameters
    ----------
    shape : shape of one lane's item.
    lanes : lanes per word, a power of two.

    Members
    -------
    enable : In(1). A pipeline step; with 0 every register holds.
    clear : In(1). Discards the words inside, also while enable is 0.
    i_valid, i_keep, i_items : In. A word and which of its lanes to keep.
    o_valid, o_count, o_items : Out. The word packed; lanes from o_count on carry no meaning.

    Latency 2 steps, one word per step. It has no handshake of its own: ``enable`` is the back-pressure.
    Golden: ``accel.numerics.topk.zero_eliminate``.
    """

    def __init__(self, shape: ShapeLike, lanes: int):
        word = data.ArrayLayout(shape, lanes)
        super().__init__(
            {
                "enable": In(1, init=1),
                "clear": In(1),
                "i_valid": In(1),
                "i_keep": In(lanes),
                "i_items": In(word),
                "o_valid": Out(1),
                "o_count": Out(range(lanes + 1)),
                "o_items": Out(word),
            }
        )
        self.width, self.lanes = Shape.cast(shape).width, lanes

    def elaborate(self, platform: object) -> Module:
        m = Module()
        lanes = self.lanes
        distance_bits = (lanes - 1).bit_length()
        valid = Signal()
        kept = Signal(range(lanes + 1))
        items = [Signal(self.width, name=f"item_{lane}") for lane in range(lanes)]
        keep = [Signal(name=f"keep_{lane}") for lane in range(lanes)]
        # Lane 0 has none below it; the others can have as many dropped as there are lanes below.
        distance = [Const(0, 1), *(Signal(lane.bit_length(), name=f"distance_{lane}") for lane in range(1, lanes))]

        with m.If(self.enable):
            m.d.sync += [
                valid.eq(self.i_valid),
                kept.eq(count_ones(list(self.i_keep))),
                self.o_valid.eq(valid),
                self.o_count.eq(kept),
            ]
            for lane in range(lanes):
                m.d.sync += [
                    items[lane].eq(self.i_items.as_value().word_select(lane, self.width)),
                    keep[lane].eq(self.i_keep[lane]),
                ]
                if lane:
                    m.d.sync += distance[lane].eq(count_ones([~bit for bit in self.i_keep[:lane]]))

        # Each layer carries (kept, remaining distance, item) of whatever sits in the lane by then.
        network = list(zip(keep, distance, items, strict=True))
        for layer in range(distance_bits):
            step = 1 << layer
            moved = []
            for lane in range(lanes):
                stay_keep, stay_distance, stay_item = network[lane]
                leaves = stay_distance[layer] if layer < len(stay_distance) else Const(0, 1)
                out_keep, out_distance, out_item = stay_keep & ~leaves, stay_distance, stay_item
                if lane + step < lanes:
                    from_keep, from_distance, from_item = network[lane + step]
                    comes = Signal(name=f"comes_{layer}_{lane}")
                    m.d.comb += comes.eq(from_keep & from_distance[layer])
                    next_distance = Signal(distance_bits, name=f"distance_{layer}_{lane}")
                    next_item = Signal(self.width, name=f"item_{layer}_{lane}")
                    m.d.comb += [
                        next_distance.eq(Mux(comes, from_distance, stay_distance)),
                        next_item.eq(Mux(comes, from_item, stay_item)),
                    ]
                    out_keep, out_distance, out_item = out_keep | comes, next_distance, next_item
                moved.append((out_keep, out_distance, out_item))
            network = moved
        with m.If(self.enable):
            for lane in range(lanes):
                m.d.sync += self.o_items.as_value().word_select(lane, self.width).eq(network[lane][2])
        with m.If(self.clear):
            m.d.sync += [valid.eq(0), self.o_valid.eq(0)]
        return m
