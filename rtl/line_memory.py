"""K and V memory: written key by key through the fetcher's lanes, read line by line by an array."""

from collections.abc import Sequence
from typing import Literal

from amaranth.hdl import Cat, Const, Module, Mux, Shape, ShapeLike, Signal, Value, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from accel.numerics.quantise import WORD_BITS
from accel.units.engine import EngineUnit
from accel.units.qk import SMALLEST_DIM
from rtl.job import KIND_K, KIND_LSB, KIND_V, format_layout, line_bits, write_layout
from rtl.shared import shared

__all__ = ["LineMemory", "MaskedSram", "cells_of", "words_of"]

STEP_BITS = 2  # what a bit of the mask covers of each word
STEPS = WORD_BITS // STEP_BITS


def cells_of(unit: EngineUnit, words: data.View) -> Value:
    """An entry's words in the order in which they lie in a :class:`MaskedSram`.

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


@shared
class MaskedSram(wiring.Component):
    """A bank: simple dual-port memory as :class:`rtl.sram.Sram`, of whose words parts can be written.

    Parameters
    ----------
    unit : EngineUnit; its entries are the words.
    depth : entries.

    Members
    -------
    write_mask, write_address, write_data : In. write_data as of :func:`cells_of`; mask bit i writes bits
        i * 2 * unit.block_words and on, at the end of the cycle. 0 writes nothing.
    read_enable, read_address : In.
    read_data : Out. The entry asked for in the last cycle with read_enable; it stays until the next.

    An entry may be read in the cycle in which some of its bits are written; those come out as they were or otherwise,
    and are not used. Contents are not reset.
    """

    def __init__(self, unit: EngineUnit, depth: int):
        self.step_bits = STEP_BITS * unit.block_words
        self.depth = max(2, depth)
        self.width = unit.entry_words * WORD_BITS
        super().__init__(
            {
                "write_mask": In(self.width // self.step_bits),
                "write_address": In(range(self.depth)),
                "write_data": In(self.width),
                "read_enable": In(1),
                "read_address": In(range(self.depth)),
                "read_data": Out(self.width),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.cells = cells = Memory(shape=self.width, depth=self.depth, init=[])
        write, read = cells.write_port(granularity=self.step_bits), cells.read_port()
        m.d.comb += [
            write.en.eq(self.write_mask),
            write.addr.eq(self.write_address),
            write.data.eq(self.write_data),
            read.en.eq(self.read_enable),
            read.addr.eq(self.read_address),
            self.read_data.eq(read.data),
        ]
        return m


class LineMemory(wiring.Component):
    """One bank per lane; keys of a line lie in neighbouring banks and leave together.

    With P keys per line, ``lanes / P`` lines lie side by side: ring line n in banks ``n mod (lanes / P) * P`` and on,
    in entry ``n // (lanes / P)``. Where keys take half an entry (format.k_wide, v_wide = 0), the second half of the
    ring lies in the upper halves.

    Parameters
    ----------
    unit : EngineUnit.
    which : "k" or "v".

    Members
    -------
    format : In(format_layout), a level: log2_dim, k_wide or v_wide; for K lsb_atoms and lsb_first_crumb.
    write : In(stream of write_layout, always ready), one per lane, into the lane's bank at the end of the cycle;
        what is of another memory (tag.kind) is passed over. tag.index is the ring line.
    read_enable : In. Asks for what the ports below say.
    read_line : In, ring line. Of V an array: one for each place of a line, of which the first P are used.
    read_part : In. Which M words of a key that is wider than M; 0 for one that is not.
    read_side : In, K only. The second of a fused pair; without k_wide it is ignored.
    read_mask_lsb : In, K only. Bits below the MSB plane leave as 0, if the format has an LSB plane.
    data : Out, M words (multipliers of the array): key p from word p * D on, one cycle after read_enable, until the
        next. Words of no key are 0 from P * D on, without meaning from head_dim on.

    An entry written at t can be read at t + 1. There is no back-pressure. No input reaches ``data`` within the cycle
    but ``format``, which stands still while anything is read.
    """

    def __init__(self, unit: EngineUnit, which: Literal["k", "v"]):
        self.unit, self.which = unit, which
        arch = unit.arch
        is_k = which == "k"
        self.lanes = arch.fetcher.lanes
        self.multipliers = arch.qk.multipliers if is_k else arch.pv.multipliers
        self.entries = unit.k_entries if is_k else unit.v_entries
        self.kinds = (KIND_K, KIND_LSB) if is_k else (KIND_V,)
        self.dims = [SMALLEST_DIM << i for i in range((unit.entry_words // SMALLEST_DIM).bit_length())]
        self.per_line = {dim: arch.keys_per_line(dim) if is_k else arch.values_per_line(dim) for dim in self.dims}
        self.parts = max(1, unit.entry_words // self.multipliers)
        line: ShapeLike = line_bits(unit)
        members: dict[str, wiring.Member] = {
            "format": In(format_layout()),
            "write": In(stream.Signature(write_layout(unit), always_ready=True)).array(self.lanes),
            "read_enable": In(1),
            "read_part": In(range(max(2, self.parts))),
            "data": Out(data.ArrayLayout(signed(WORD_BITS), self.multipliers)),
        }
        if is_k:
            members |= {"read_line": In(line), "read_side": In(1), "read_mask_lsb": In(1)}
        else:
            members |= {"read_line": In(line).array(self.per_line[SMALLEST_DIM])}
        super().__init__(members)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        self._is_dim = Signal(len(self.dims), name="is_dim")
        m.d.comb += self._is_dim.eq(Cat(self.format.log2_dim == dim.bit_length() - 1 for dim in self.dims))
        self._wide = self.format.k_wide if self.which == "k" else self.format.v_wide
        banks = [MaskedSram(self.unit, self.entries) for _ in range(self.lanes)]
        for b, bank in enumerate(banks):
            m.submodules[f"bank_{b}"] = bank
            self._write(m, b, bank)
        self._combine(m, self._read(m, banks))
        return m

    # ---- where a line lies ----------------------------------------------------------------------------------------
    def _has(self, dims: Sequence[int]) -> Value:
        """Is the head dimension one of these?"""
        return Cat(self._is_dim[self.dims.index(dim)] for dim in dims).any()

    def _by_per_line(self, values: dict[int, Value], shape: ShapeLike) -> Value:
        """The value for the number of keys per line that the head dimension has."""
        if len(values) == 1:
            return next(iter(values.values()))
        width = Shape.cast(shape).width
        chosen: Value = Const(0, width)
        for keys, value in values.items():
            chosen = chosen | Mux(self._has([dim for dim in self.dims if self.per_line[dim] == keys]), value, 0)
        return chosen[:width]

    def _place(self, m: Module, line: Value, name: str) -> tuple[Signal, Signal]:
        """Entry of a ring line in its banks, and whether it lies in the ring's second half."""
        above = Signal(len(line), name=f"{name}_above")
        entry, over = Signal(range(max(2, self.entries)), name=f"{name}_entry"), Signal(name=f"{name}_over")
        shifted = {keys: line >> (self.lanes // keys).bit_length() - 1 for keys in set(self.per_line.values())}
        m.d.comb += [
            above.eq(self._by_per_line(shifted, len(line))),
            over.eq(above >= self.entries),
            entry.eq(Mux(over, above - self.entries, above)),
        ]
        return entry, over

    # ---- writing --------------------------------------------------------------------------------------------------
    def _write(self, m: Module, b: int, bank: MaskedSram) -> None:
        access = self.write[b].payload
        entry, up = self._place(m, access.tag.index, f"write_{b}")
        valid = Signal(name=f"write_{b}_valid")
        half_blocks = len(access.mask) // 2
        cells = Signal(bank.width, name=f"write_{b}_cells")
        half = bank.width // 2
        lower, upper = [], []
        for k in range(half_blocks):
            low, high = access.mask[k], access.mask[half_blocks + k]
            lower.append(Mux(valid & ~up, low, 0))
            upper.append(Mux(valid, Mux(self._wide, high, Mux(up, low, 0)), 0))
        m.d.comb += [
            valid.eq(self.write[b].valid & Cat(access.tag.kind == kind for kind in self.kinds).any()),
            cells.eq(cells_of(self.unit, access.words)),
            bank.write_address.eq(entry),
            bank.write_mask.eq(Cat(*lower, *upper)),
            bank.write_data.eq(Cat(cells[:half], Mux(up, cells[:half], cells[half:]))),
        ]

    # ---- reading --------------------------------------------------------------------------------------------------
    def _read(self, m: Module, banks: list[MaskedSram]) -> list[Signal]:
        """What each bank gives to the line that was asked for, as cells; 0 where it has no part in it."""
        lines = [self.read_line] if self.which == "k" else list(self.read_line)
        places = [self._place(m, line, f"read_{c}") for c, line in enumerate(lines)]
        given = []
        for b, bank in enumerate(banks):
            here, address, upper = {}, {}, {}
            for keys in sorted(set(self.per_line.values())):
                column = b % keys if self.which == "v" else 0
                side_by_side = (self.lanes // keys).bit_length() - 1
                here[keys] = lines[column][:side_by_side] == b // keys if side_by_side else Const(1, 1)
                address[keys], upper[keys] = places[column]
            selected, half = Signal(name=f"selected_{b}"), Signal(name=f"half_{b}")
            was_selected = Signal(name=f"was_selected_{b}", reset_less=True)
            was_half = Signal(name=f"was_half_{b}", reset_less=True)
            side = self.read_side if self.which == "k" else Const(0, 1)
            m.d.comb += [
                selected.eq(self._by_per_line(here, 1)),
                half.eq(Mux(self._wide, side, self._by_per_line(upper, 1))),
                bank.read_enable.eq(self.read_enable & selected),
                bank.read_address.eq(self._by_per_line(address, len(bank.read_address))),
            ]
            with m.If(self.read_enable):
                m.d.sync += [was_selected.eq(selected), was_half.eq(half)]
            middle = bank.width // 2
            low, high = bank.read_data[:middle], bank.read_data[middle:]
            cells = Signal(bank.width, name=f"given_{b}")
            m.d.comb += cells.eq(
                Cat(
                    Mux(was_selected, Mux(was_half, high, low), 0),
                    Mux(was_selected, high, 0),
                )
            )
            given.append(cells)
        return given

    def _combine(self, m: Module, given: list[Signal]) -> None:
        """From banks to places in the line: those of a place are joined, then the places lie as D says."""
        part = Signal(range(max(2, self.parts)), reset_less=True)
        with m.If(self.read_enable):
            m.d.sync += part.eq(self.read_part)
        part_bits = min(self.multipliers, self.unit.entry_words) * WORD_BITS
        places: dict[int, list[Signal]] = {}
        for keys in sorted(set(self.per_line.values()), reverse=True):
            finer = places.get(2 * keys)
            places[keys] = []
            for c in range(keys):
                words = Signal(part_bits, name=f"place_{c}_of_{keys}")
                if finer is not None:
                    m.d.comb += words.eq(finer[c] | finer[c + keys])
                else:
                    joined = Signal(len(given[0]), name=f"joined_{c}_of_{keys}")
                    entry = Signal(len(given[0]), name=f"entry_{c}_of_{keys}")
                    m.d.comb += [
                        joined.eq(_any_of(given[c::keys])),
                        entry.eq(words_of(self.unit, joined)),
                        words.eq(entry.word_select(part, part_bits) if self.parts > 1 else entry),
                    ]
                places[keys].append(words)

        keep = self._kept_bits(m)
        for w in range(self.multipliers):
            dims_by_source: dict[tuple[int, int, int], list[int]] = {}
            for dim, keys in self.per_line.items():
                place, word = divmod(w, min(dim, self.multipliers))
                if place < keys:
                    dims_by_source.setdefault((keys, place, word), []).append(dim)
            value: Value = Const(0, WORD_BITS)
            for (keys, place, word), dims in dims_by_source.items():
                source = places[keys][place].word_select(word, WORD_BITS)
                value = value | (source if len(dims) == len(self.dims) else Mux(self._has(dims), source, 0))
            m.d.comb += self.data[w].eq(value & keep)

    def _kept_bits(self, m: Module) -> Value:
        """Which bits of a word leave the memory: of K's first passes those of the MSB plane."""
        if self.which == "v":
            return Const((1 << WORD_BITS) - 1, WORD_BITS)
        mask_lsb, keep = Signal(reset_less=True), Signal(WORD_BITS)
        with m.If(self.read_enable):
            m.d.sync += mask_lsb.eq(self.read_mask_lsb & (self.format.lsb_atoms != 0))
        # Steps are counted from the top.
        steps = [~mask_lsb | (self.format.lsb_first_crumb > STEPS - 1 - step) for step in range(STEPS)]
        m.d.comb += keep.eq(Cat(step.replicate(STEP_BITS) for step in steps))
        return keep


def _any_of(values: Sequence[Value]) -> Value:
    """Their disjunction, as a balanced tree."""
    if len(values) == 1:
        return values[0]
    middle = len(values) // 2
    return _any_of(values[:middle]) | _any_of(values[middle:])
