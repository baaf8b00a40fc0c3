"""Bitwidth converter: puts the numbers of one memory access into their places in an entry of 12-bit words."""

from typing import NamedTuple

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from accel.numerics.quantise import WORD_BITS
from accel.units.engine import EngineUnit
from accel.units.fetcher import UNIT_BYTES
from rtl.crossbar import arrived_layout
from rtl.job import KIND_K, KIND_LSB, KIND_Q, KIND_V, format_layout, write_layout
from rtl.shared import shared

__all__ = ["Converter"]

STEPS = WORD_BITS // 2  # of two bits; step 0 is the highest
#: Steps that can hold the upper and the lower half of a nibble (of planes at even steps, of the LSB plane from step 2
#: on) and a crumb (after one or two planes).
HIGH_STEPS, LOW_STEPS, CRUMB_STEPS = (0, 2, 3, 4, 5), (1, 3, 4, 5), (2, 4)
NIBBLE_NUMBERS, CRUMB_NUMBERS = UNIT_BYTES * 2, UNIT_BYTES * 4  # in a unit


class _Fetch(NamedTuple):
    """Of the access's fetch: its nibble planes, whether a crumb plane follows, whether its rows are pairs'."""

    planes: Signal
    crumbs: Signal
    paired: Signal
    is_lsb: Signal


class _Unit(NamedTuple):
    """Where a unit of the access goes: not anywhere unless valid; numbers ``at`` times what a unit holds and following,
    of the entry or of its upper half; step: the first, one bit each. Its bits, two of each number: the upper and lower
    halves of nibbles, or the crumbs.
    """

    nibbles_high: Signal
    nibbles_low: Signal
    crumbs: Signal
    valid: Signal
    is_crumb: Signal
    at: Signal
    upper: Signal
    step: Signal


@shared
class Converter(wiring.Component):
    """One lane's converter.

    Parameters
    ----------
    unit : the engine's geometry.

    Members
    -------
    format : In(format_layout). A level.
    arrived : In(stream of arrived_layout, always ready).
    write : Out(stream of write_layout, always ready). Registers: valid in the cycle after ``arrived``.

    Latency 1 cycle, one access per cycle.

    Memory
    ------
    Bytes as in ``accel.lower.records``: a unit is 16 bytes, 32 nibbles or 64 crumbs; with P = plane_units, C = P / 2
    rounded up and N nibble planes a record is N * P units of nibbles and, with a crumb plane, C of crumbs; a pair's is
    N * P of side 0, N * P of side 1, C of side 0, C of side 1. Access ``atom`` brings units ``atom * u`` to
    ``atom * u + u - 1``, u = access_bytes / 16.

    * KIND_Q: N = 3, no crumbs. KIND_V: value_planes, value_crumbs. KIND_K: key_planes, key_crumbs, and pair.
    * KIND_LSB: N = 1, no crumbs, not a pair.

    Words
    -----
    Nibble plane p is bits 11 - 4p to 8 - 4p, the crumb plane the two bits below the last, the LSB plane the four bits
    from step lsb_first_crumb on (of which only two are left if that is 5). Bits below all of those are written as 0,
    but not by KIND_LSB. A row begins at word 0; of a pair that is fused, side 1 begins at the upper half, and so does
    KIND_LSB with tag.side. Of a pair that is not fused only tag.side is written.

    A mask bit is set where the access brings the numbers of (some of) the block's words and the step is of its plane,
    or is of none that this fetch brings. So the accesses of a row may come in any order. No block is written beyond the
    padded head dimension: a neighbour may lie there. Words of a block beyond the head dimension are written with what
    fills up the record's last access.
    """

    def __init__(self, unit: EngineUnit):
        self.unit = unit
        super().__init__(
            {
                "format": In(format_layout()),
                "arrived": In(stream.Signature(arrived_layout(unit), always_ready=True)),
                "write": Out(stream.Signature(write_layout(unit), always_ready=True)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        access = self.arrived.payload
        fetch = self._fetch(m)
        count = self.unit.arch.memory_spec.access_bytes // UNIT_BYTES
        units = [self._unit(m, fetch, i, count) for i in range(count)]
        below = Signal(STEPS)  # the planes of this fetch
        m.d.comb += below.eq(Cat(~fetch.is_lsb & (s >= 2 * fetch.planes + fetch.crumbs) for s in range(STEPS)))

        size = self.unit.block_words
        words: list[Value] = []
        masks: list[Value] = []
        for b in range(self.unit.entry_words // size):
            steps, written = self._block(m, b, units, below)
            words.extend(Cat(step.word_select(w, 2) for step in reversed(steps)) for w in range(size))
            masks.extend(reversed(written))
        # In the order of the layout's fields; whole registers keep the Verilog small.
        for name, value in (("tag", access.tag.as_value()), ("words", Cat(words)), ("mask", Cat(masks))):
            register = Signal(len(value), name=name, reset_less=True)
            m.d.sync += register.eq(value)
            m.d.comb += Value.cast(self.write.payload[name]).eq(register)
        m.d.sync += self.write.valid.eq(self.arrived.valid)
        return m

    def _fetch(self, m: Module) -> _Fetch:
        fmt, tag = self.format, self.arrived.payload.tag
        fetch = _Fetch(Signal(2, name="planes"), Signal(name="crumbs"), Signal(name="paired"), Signal(name="is_lsb"))
        m.d.comb += [fetch.is_lsb.eq(tag.kind == KIND_LSB), fetch.paired.eq(fmt.pair & (tag.kind == KIND_K))]
        with m.Switch(tag.kind):
            with m.Case(KIND_Q):
                m.d.comb += fetch.planes.eq(WORD_BITS // 4)
            with m.Case(KIND_K):
                m.d.comb += [fetch.planes.eq(fmt.key_planes), fetch.crumbs.eq(fmt.key_crumbs)]
            with m.Case(KIND_LSB):
                m.d.comb += fetch.planes.eq(1)
            with m.Case(KIND_V):
                m.d.comb += [fetch.planes.eq(fmt.value_planes), fetch.crumbs.eq(fmt.value_crumbs)]
        return fetch

    def _unit(self, m: Module, fetch: _Fetch, i: int, count: int) -> _Unit:
        """Find out where the access's unit i belongs."""
        fmt, tag = self.format, self.arrived.payload.tag

        def signal(name: str, bits: int = 1) -> Signal:
            return Signal(bits, name=f"unit_{i}_{name}")

        content = self.arrived.payload.data.word_select(i, 8 * UNIT_BYTES)
        unit = _Unit(
            signal("nibbles_high", 2 * NIBBLE_NUMBERS), signal("nibbles_low", 2 * NIBBLE_NUMBERS),
            signal("crumbs", 2 * CRUMB_NUMBERS),
            signal("valid"), signal("is_crumb"), signal("at", 3), signal("upper"), signal("step", STEPS),
        )  # fmt: skip
        number = Cat(Const(i, (count - 1).bit_length()), tag.atom)
        of_nibbles, of_crumbs = fmt.plane_units, (fmt.plane_units + 1) >> 1  # units in a plane
        of_side = signal("of_side", 6)  # nibble units of one head
        nibbles = Mux(fetch.paired, of_side << 1, of_side)
        past = signal("past", len(number))  # among the crumbs
        place, side, plane = signal("place", len(number)), signal("side"), signal("plane", 2)
        m.d.comb += [
            unit.nibbles_high.eq(Cat(content.word_select(2 * n + 1, 2) for n in range(NIBBLE_NUMBERS))),
            unit.nibbles_low.eq(Cat(content.word_select(2 * n, 2) for n in range(NIBBLE_NUMBERS))),
            unit.crumbs.eq(content),
            of_side.eq(fetch.planes * fmt.plane_units),
            unit.is_crumb.eq(number >= nibbles),
            past.eq(number - nibbles),
        ]
        with m.If(unit.is_crumb):
            m.d.comb += [
                side.eq(fetch.paired & (past >= of_crumbs)),
                place.eq(past - Mux(side, of_crumbs, 0)),
                unit.at.eq(place),
                unit.step.eq(1 << (2 * fetch.planes)),
            ]
        with m.Else():
            m.d.comb += [
                side.eq(fetch.paired & (number >= of_side)),
                place.eq(number - Mux(side, of_side, 0)),
                plane.eq(Mux(place >= 2 * of_nibbles, 2, place >= of_nibbles)),
                unit.at.eq(place - plane * of_nibbles),
                unit.step.eq(1 << Mux(fetch.is_lsb, fmt.lsb_first_crumb, 2 * plane)),
            ]
        m.d.comb += [
            # Units behind the last crumbs land in words without meaning, or beyond the padded head dimension.
            unit.valid.eq((~unit.is_crumb | fetch.crumbs) & (~fetch.paired | fmt.fused | (side == tag.side))),
            unit.upper.eq(fmt.fused & Mux(fetch.is_lsb, tag.side, side)),
        ]
        return unit

    def _block(self, m: Module, b: int, units: list[_Unit], below: Signal) -> tuple[list[Signal], list[Value]]:
        """Of a block and each step: two bits of every word, and whether they are written."""
        size = self.unit.block_words
        half = self.unit.entry_words // size // 2
        steps: list[Value] = [Const(0, 2 * size)] * STEPS
        written: list[Value] = [Const(0, 1)] * STEPS
        touched: Value = Const(0, 1)
        for i, unit in enumerate(units):
            # What the unit has for the block, chosen once for all steps: of a nibble its upper bits, or a crumb, go to
            # step ``unit.step``, a nibble's lower bits to the step below.
            first_bits: Value = Const(0, 2 * size)
            next_bits: Value = Const(0, 2 * size)
            hits: dict[int, Value] = {}
            for crumb, numbers in ((0, NIBBLE_NUMBERS), (1, CRUMB_NUMBERS)):
                hits[crumb] = Const(0, 1)
                for offset, here in self._hits(b, half, unit, crumb, numbers).items():
                    hit = Signal(name=f"unit_{i}_{'crumbs' if crumb else 'nibbles'}_{offset}_to_{b}")
                    m.d.comb += hit.eq(unit.valid & here)
                    hits[crumb] |= hit
                    part = slice(2 * offset, 2 * (offset + size))
                    first_bits |= Mux(hit, (unit.crumbs if crumb else unit.nibbles_high)[part], 0)
                    if not crumb:
                        next_bits |= Mux(hit, unit.nibbles_low[part], 0)
            first, following = Signal(2 * size, name=f"first_{i}_{b}"), Signal(2 * size, name=f"following_{i}_{b}")
            m.d.comb += [first.eq(first_bits), following.eq(next_bits)]
            touched |= hits[0] | hits[1]
            for s in range(STEPS):
                at_first = unit.step[s] if s in HIGH_STEPS else Const(0, 1)
                at_next = unit.step[s - 1] if s in LOW_STEPS else Const(0, 1)
                steps[s] = steps[s] | Mux(at_first, first, 0) | Mux(at_next, following, 0)
                crumbs = hits[1] if s in CRUMB_STEPS else Const(0, 1)
                written[s] = written[s] | at_first & (hits[0] | crumbs) | at_next & hits[0]
        block = [Signal(2 * size, name=f"block_{b}_step_{s}") for s in range(STEPS)]
        m.d.comb += [named.eq(step) for named, step in zip(block, steps, strict=True)]
        return block, [written[s] | touched & below[s] for s in range(STEPS)]

    def _hits(self, b: int, half: int, unit: _Unit, crumb: int, numbers: int) -> dict[int, Value]:
        """From which of a unit's numbers on is the block in it: number -> whether."""
        size = self.unit.block_words
        hits: dict[int, Value] = {}
        for upper in (0, 1) if b >= half else (0,):
            first = (b - upper * half) * size
            # Is first below the padded head dimension?
            inside = self.format.log2_dim >= first.bit_length() if first else Const(1)
            at, offset = divmod(first, numbers)
            hit = inside & (unit.is_crumb == crumb) & (unit.at == at) & (unit.upper == upper)
            hits[offset] = hits[offset] | hit if offset in hits else hit
        return hits
