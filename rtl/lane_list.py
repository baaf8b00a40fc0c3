"""A list that is written in words and read by many lanes at once, each its own item."""

from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from rtl.sram import Sram

__all__ = ["LaneList", "rotated"]


def rotated(m: Module, values: list[Value], amount: Value, name: str) -> list[Value]:
    """The values turned down by ``amount`` places: place i has value ``(i + amount) mod len(values)``.

    One layer of multiplexers per bit of ``amount``; their number is a power of two and all have one width.
    """
    count = len(values)
    for layer in range((count - 1).bit_length()):
        turned = []
        for place in range(count):
            value = Signal(values[place].shape(), name=f"{name}_{layer}_{place}")
            m.d.comb += value.eq(Mux(amount[layer], values[(place + (1 << layer)) % count], values[place]))
            turned.append(value)
        values = list(turned)
    return values


class LaneList(wiring.Component):
    """Items in banks, item i in bank ``i mod lanes``, so that as many lanes can read as many items at once.

    Parameters
    ----------
    items : items held, a multiple of lanes and of word_items.
    item_bits : bits of an item.
    lanes : lanes that read, a power of two.
    word_items : items of a written word, a power of two. If it is more than lanes, a row of a bank is
        ``word_items / lanes`` items wide.

    Members
    -------
    write_enable, write_word, write_items, write_mask : In. Item ``write_word * word_items + i`` becomes write_items[i]
        at the end of the cycle where bit i of the mask is set.
    read_enable, read_rotate, read_index : In. Lane l reads item read_index[l]. ``read_index[l] mod lanes`` must be
        ``(l + read_rotate) mod lanes``: so no two lanes meet in a bank. A lane whose index is not in the list gets
        something without meaning.
    data : Out. What each lane asked for in the last cycle with read_enable.

    Latency 1 cycle, one read and one write per cycle, no back-pressure. An item read in the cycle in which it is
    written has no meaning. Contents are not reset.
    """

    def __init__(self, items: int, item_bits: int, lanes: int, word_items: int):
        assert items % max(lanes, word_items) == 0
        self.items, self.item_bits, self.lanes, self.word_items = items, item_bits, lanes, word_items
        super().__init__(
            {
                "write_enable": In(1),
                "write_word": In(range(items // word_items)),
                "write_items": In(item_bits).array(word_items),
                "write_mask": In(word_items),
                "read_enable": In(1),
                "read_rotate": In((lanes - 1).bit_length()),
                "read_index": In(range(items)).array(lanes),
                "data": Out(item_bits).array(lanes),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        lane_bits = (self.lanes - 1).bit_length()
        # Lane l's item lies in bank l + rotate: bank b is asked by lane b - rotate, and lane l answered by l + rotate.
        backwards = Signal(lane_bits)
        answer_rotate = Signal(lane_bits, reset_less=True)
        m.d.comb += backwards.eq(-self.read_rotate)
        places = rotated(m, [Value.cast(index)[lane_bits:] for index in self.read_index], backwards, "place")
        with m.If(self.read_enable):
            m.d.sync += answer_rotate.eq(self.read_rotate)
        answers = [self._bank(m, bank, place) for bank, place in enumerate(places)]
        m.d.comb += [
            self.data[lane].eq(answer) for lane, answer in enumerate(rotated(m, answers, answer_rotate, "answer"))
        ]
        return m

    def _bank(self, m: Module, bank: int, place: Value) -> Value:
        """Bank's answer to a lane that asks for the item at ``place`` of the bank.

        Where a word has several items of a bank they lie in memories of their own, so that each can be masked; only the
        one that is asked for reads.
        """
        columns = max(1, self.word_items // self.lanes)
        words_per_row = max(1, self.lanes // self.word_items)
        column_bits, word_bits = (columns - 1).bit_length(), (words_per_row - 1).bit_length()
        column = place[:column_bits]
        found = []
        for c in range(columns):
            item = (c * self.lanes + bank) % self.word_items
            cells = Sram(self.item_bits, self.items // (self.lanes * columns))
            m.submodules[f"bank_{bank}_{c}"] = cells
            m.d.comb += [
                cells.write_enable.eq(
                    self.write_enable & self.write_mask[item] & (self.write_word[:word_bits] == bank // self.word_items)
                    if words_per_row > 1
                    else self.write_enable & self.write_mask[item]
                ),
                cells.write_address.eq(self.write_word[word_bits:]),
                cells.write_data.eq(self.write_items[item]),
                cells.read_enable.eq(self.read_enable & (column == c)),
                cells.read_address.eq(place[column_bits:]),
            ]
            found.append(cells.read_data)
        if columns == 1:
            return found[0]
        asked = Signal(column_bits, name=f"asked_{bank}", reset_less=True)
        answer = Signal(self.item_bits, name=f"answer_{bank}")
        with m.If(self.read_enable):
            m.d.sync += asked.eq(column)
        m.d.comb += answer.eq(Cat(found).word_select(asked, self.item_bits))
        return answer
