"""A bank of a line memory: what one lane of the fetcher writes, in masked parts of words."""

from collections.abc import Sequence
from typing import Literal

from amaranth.hdl import Cat, Const, Module, Mux, Shape, ShapeLike, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from accel.numerics.quantise import WORD_BITS
from accel.units.engine import EngineUnit
from accel.units.qk import SMALLEST_DIM
from rtl.job import KIND_K, KIND_LSB, KIND_V, write_layout
from rtl.shared import shared
from rtl.sram import Sram

__all__ = ["STEPS", "STEP_BITS", "LineBank", "LinePlaces", "cells_of", "entry_sram", "words_of"]

STEP_BITS = 2  # what a bit of the mask covers of each word
STEPS = WORD_BITS // STEP_BITS


def cells_of(unit: EngineUnit, words: data.View) -> Value:
    """An entry's words in the order in which they lie in a :func:`entry_sram`.

    All bits that one mask bit covers lie together: block by block, step by step, word by word.
    """
    size = unit.block_words
    return Cat(
        words[k * size + i][STEP_BITS * step : STEP_BITS * (step + 1)]
        for k in range(unit.entry_words // size)
        for step in range(STEPS)
        for i in range(size)
    )


def words_of(unit: EngineUnit, cells: Value) -> Value:
    """Inverse of :func:`cells_of`: words of 12 bits, word 0 lowest."""
    size = unit.block_words

    def step(word: int, step: int) -> Value:
        k, i = divmod(word, size)
        return cells.word_select((k * STEPS + step) * size + i, STEP_BITS)

    return Cat(step(word, s) for word in range(unit.entry_words) for s in range(STEPS))


def entry_sram(unit: EngineUnit, depth: int) -> Sram:
    """A memory of entries, words as of :func:`cells_of`: bit i of its write_enable is for bits i * STEP_BITS *
    ``unit.block_words`` and on.

    An entry may be read in the cycle in which some of its bits are written; those are not used then.
    """
    return Sram(unit.entry_words * WORD_BITS, max(2, depth), STEP_BITS * unit.block_words)


class LinePlaces:
    """Where a line of the K or V memory lies, for each head dimension.

    Attributes: dims, the padded head dimensions, whose index in it is the bit of an ``is_dim``; per_line, keys of each
    per line; lanes; entries of a bank.
    """

    def __init__(self, unit: EngineUnit, which: Literal["k", "v"]):
        arch = unit.arch
        is_k = which == "k"
        self.lanes = arch.fetcher.lanes
        self.entries = unit.k_entries if is_k else unit.v_entries
        self.dims = [SMALLEST_DIM << i for i in range((unit.entry_words // SMALLEST_DIM).bit_length())]
        self.per_line = {dim: arch.keys_per_line(dim) if is_k else arch.values_per_line(dim) for dim in self.dims}

    def has(self, is_dim: Value, dims: Sequence[int]) -> Value:
        """Is the head dimension one of these?"""
        return Cat(is_dim[self.dims.index(dim)] for dim in dims).any()

    def by_per_line(self, is_dim: Value, values: dict[int, Value], shape: ShapeLike) -> Value:
        """The value for the number of keys per line that the head dimension has."""
        if len(values) == 1:
            return next(iter(values.values()))
        width = Shape.cast(shape).width
        chosen: Value = Const(0, width)
        for keys, value in values.items():
            of_keys = self.has(is_dim, [dim for dim in self.dims if self.per_line[dim] == keys])
            chosen = chosen | Mux(of_keys, value, 0)
        return chosen[:width]

    def place(self, m: Module, is_dim: Value, line: Value, name: str) -> tuple[Signal, Signal]:
        """Entry of a ring line in its banks, and whether it lies in the ring's second half."""
        above = Signal(len(line), name=f"{name}_above")
        entry, over = Signal(range(max(2, self.entries)), name=f"{name}_entry"), Signal(name=f"{name}_over")
        shifted = {keys: line >> (self.lanes // keys).bit_length() - 1 for keys in set(self.per_line.values())}
        m.d.comb += [
            above.eq(self.by_per_line(is_dim, shifted, len(line))),
            over.eq(above >= self.entries),
            entry.eq(Mux(over, above - self.entries, above)),
        ]
        return entry, over


@shared
class LineBank(wiring.Component):
    """One bank of a :class:`rtl.line_memory.LineMemory`, with what decides where its lane's accesses are written.

    Parameters
    ----------
    unit : EngineUnit.
    which : "k" or "v".

    Members
    -------
    is_dim : In, one bit per padded head dimension. wide : In, keys take whole entries. Levels.
    write : In(stream of write_layout, always ready), as of the line memory.
    read : In. A line is read; selected : In, this bank has a part in it; address : In, its entry; half : In, only the
        upper half of the entry is meant, which leaves as the lower.
    given : Out, words, word 0 lowest, one cycle after read, until the next: 0 if this bank was not selected.
    """

    def __init__(self, unit: EngineUnit, which: Literal["k", "v"]):
        self.unit, self.which = unit, which
        places = LinePlaces(unit, which)
        super().__init__(
            {
                "is_dim": In(len(places.dims)),
                "wide": In(1),
                "write": In(stream.Signature(write_layout(unit), always_ready=True)),
                "read": In(1),
                "selected": In(1),
                "half": In(1),
                "address": In(range(max(2, places.entries))),
                "given": Out(unit.entry_words * WORD_BITS),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        places = LinePlaces(self.unit, self.which)
        m.submodules.memory = memory = entry_sram(self.unit, places.entries)
        self._write(m, places, memory)

        was_selected, was_half = Signal(reset_less=True), Signal(reset_less=True)
        with m.If(self.read):
            m.d.sync += [was_selected.eq(self.selected), was_half.eq(self.half)]
        middle = memory.width // 2
        low, high = memory.read_data[:middle], memory.read_data[middle:]
        cells = Signal(memory.width, name="given_cells")  # a name, as words_of mentions it hundreds of times
        m.d.comb += [
            cells.eq(Cat(Mux(was_selected, Mux(was_half, high, low), 0), Mux(was_selected, high, 0))),
            memory.read_enable.eq(self.read & self.selected),
            memory.read_address.eq(self.address),
            self.given.eq(words_of(self.unit, cells)),
        ]
        return m

    def _write(self, m: Module, places: LinePlaces, memory: Sram) -> None:
        access = self.write.payload
        kinds = (KIND_K, KIND_LSB) if self.which == "k" else (KIND_V,)
        entry, up = places.place(m, self.is_dim, access.tag.index, "write")
        valid = Signal()
        half_blocks = len(access.mask) // 2
        cells = Signal(memory.width)
        half = memory.width // 2
        lower, upper = [], []
        for k in range(half_blocks):
            low, high = access.mask[k], access.mask[half_blocks + k]
            lower.append(Mux(valid & ~up, low, 0))
            upper.append(Mux(valid, Mux(self.wide, high, Mux(up, low, 0)), 0))
        m.d.comb += [
            valid.eq(self.write.valid & Cat(access.tag.kind == kind for kind in kinds).any()),
            cells.eq(cells_of(self.unit, access.words)),
            memory.write_address.eq(entry),
            memory.write_enable.eq(Cat(*lower, *upper)),
            memory.write_data.eq(Cat(cells[:half], Mux(up, cells[:half], cells[half:]))),
        ]
