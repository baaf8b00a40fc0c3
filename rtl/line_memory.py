"""K and V memory: written key by key through the fetcher's lanes, read line by line by an array."""

from collections.abc import Sequence
from typing import Literal

from amaranth.hdl import Cat, Const, Module, Mux, ShapeLike, Signal, Value, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from accel.numerics.quantise import WORD_BITS
from accel.units.engine import EngineUnit
from accel.units.qk import SMALLEST_DIM
from rtl.job import KIND_K, KIND_V, format_layout, line_bits, write_layout
from rtl.line_bank import STEP_BITS, STEPS, LineBank, LinePlaces

__all__ = ["LineMemory"]


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
    store_enable, store_line, store_part, store_words : In. A line, or part, of M words as they leave in ``data`` is
        written, all bits of it, in place of what comes through ``write``.
    data : Out, M words (multipliers of the array): key p from word p * D on, one cycle after read_enable, until the
        next. Words of no key are 0 from P * D on, without meaning from head_dim on.

    An entry written at t can be read at t + 1. There is no back-pressure. No input reaches ``data`` within the cycle
    but ``format``, which stands still while anything is read.
    """

    def __init__(self, unit: EngineUnit, which: Literal["k", "v"]):
        self.unit, self.which = unit, which
        arch = unit.arch
        is_k = which == "k"
        self.places = places = LinePlaces(unit, which)
        self.lanes, self.entries, self.dims, self.per_line = places.lanes, places.entries, places.dims, places.per_line
        self.multipliers = arch.qk.multipliers if is_k else arch.pv.multipliers
        self.parts = max(1, unit.entry_words // self.multipliers)
        line: ShapeLike = line_bits(unit)
        members: dict[str, wiring.Member] = {
            "format": In(format_layout()),
            "write": In(stream.Signature(write_layout(unit), always_ready=True)).array(self.lanes),
            "read_enable": In(1),
            "read_part": In(range(max(2, self.parts))),
            "store_enable": In(1),
            "store_line": In(line),
            "store_part": In(range(max(2, self.parts))),
            "store_words": In(data.ArrayLayout(signed(WORD_BITS), self.multipliers)),
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
        banks = [LineBank(self.unit, self.which) for _ in range(self.lanes)]
        for b, bank in enumerate(banks):
            m.submodules[f"bank_{b}"] = bank
            m.d.comb += [bank.is_dim.eq(self._is_dim), bank.wide.eq(self._wide)]
            self._write(m, b, bank)
        self._combine(m, self._read(m, banks))
        return m

    # ---- writing --------------------------------------------------------------------------------------------------
    def _write(self, m: Module, b: int, bank: LineBank) -> None:
        """What lane b brings, or the key of a stored line that lies in bank b."""
        unit, m_words = self.unit, self.multipliers
        here, stored = {}, Signal(write_layout(unit), name=f"stored_{b}")
        for keys in sorted(set(self.per_line.values())):
            side_by_side = (self.lanes // keys).bit_length() - 1
            here[keys] = self.store_line[:side_by_side] == b // keys if side_by_side else Const(1, 1)
        words: Value = Const(0, unit.entry_words * WORD_BITS)
        mask: Value = Const(0, len(stored.mask))
        block = unit.block_words
        for dim, keys in self.per_line.items():
            is_dim = self.places.has(self._is_dim, [dim])
            key = [self.store_words[b % keys * dim + i % m_words] for i in range(min(dim, m_words))]
            # A part is offered in all places where parts lie; the mask says in which of them it belongs.
            whole = Cat(key[i % m_words] for i in range(dim)) if dim > m_words else Cat(*key)
            words = words | Mux(is_dim, whole, 0)
            blocks = [
                self.store_part == k * block // m_words if dim > m_words else Const(1, 1)
                for k in range(-(-dim // block))
            ]
            mask = mask | Mux(is_dim, Cat(*blocks), 0)
        m.d.comb += [
            stored.tag.kind.eq(KIND_K if self.which == "k" else KIND_V),
            stored.tag.index.eq(self.store_line),
            stored.words.eq(words),
            *(entry.eq(Mux(bit, (1 << STEPS) - 1, 0)) for entry, bit in zip(stored.mask, mask, strict=True)),
            bank.write.valid.eq(
                Mux(self.store_enable, self.places.by_per_line(self._is_dim, here, 1), self.write[b].valid)
            ),
            bank.write.payload.eq(Mux(self.store_enable, stored.as_value(), self.write[b].payload.as_value())),
        ]

    # ---- reading --------------------------------------------------------------------------------------------------
    def _read(self, m: Module, banks: list[LineBank]) -> list[Signal]:
        """What each bank gives to the line that was asked for; 0 where it has no part in it."""
        lines = [self.read_line] if self.which == "k" else list(self.read_line)
        places = [self.places.place(m, self._is_dim, line, f"read_{c}") for c, line in enumerate(lines)]
        given = []
        for b, bank in enumerate(banks):
            here, address, upper = {}, {}, {}
            for keys in sorted(set(self.per_line.values())):
                column = b % keys if self.which == "v" else 0
                side_by_side = (self.lanes // keys).bit_length() - 1
                here[keys] = lines[column][:side_by_side] == b // keys if side_by_side else Const(1, 1)
                address[keys], upper[keys] = places[column]
            side = self.read_side if self.which == "k" else Const(0, 1)
            m.d.comb += [
                bank.read.eq(self.read_enable),
                bank.selected.eq(self.places.by_per_line(self._is_dim, here, 1)),
                bank.half.eq(Mux(self._wide, side, self.places.by_per_line(self._is_dim, upper, 1))),
                bank.address.eq(self.places.by_per_line(self._is_dim, address, len(bank.address))),
            ]
            given.append(bank.given)
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
                    entry = Signal(len(given[0]), name=f"entry_{c}_of_{keys}")
                    m.d.comb += entry.eq(_any_of(given[c::keys]))
                    if self.parts == 1:
                        m.d.comb += words.eq(entry)
                    with m.Switch(part):  # not word_select(part, ...): Amaranth looks at width times width of its bits
                        for of in range(self.parts if self.parts > 1 else 0):
                            with m.Case(of):
                                m.d.comb += words.eq(entry.word_select(of, part_bits))
                places[keys].append(words)

        line: Value = Const(0, self.multipliers * WORD_BITS)
        for dim, keys in self.per_line.items():
            words_of_dim = Cat(place[: min(dim, self.multipliers) * WORD_BITS] for place in places[keys])
            line = line | Mux(self.places.has(self._is_dim, [dim]), words_of_dim, 0)
        m.d.comb += self.data.as_value().eq(line & self._kept_bits(m).replicate(self.multipliers))

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
