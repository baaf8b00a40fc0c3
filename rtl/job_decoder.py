"""A job's 128 bytes to what the units need of it, with everything checked that the job alone tells."""

from collections.abc import Mapping
from typing import Any

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from accel.numerics.quantise import PLANES, WORD_BITS
from accel.program import JOB, Flag, Fused, Lsb, Mode, Opcode, Side, ValueFetch
from accel.registers import ERROR_CODE_BITS, ErrorCode
from accel.units.engine import ADDRESS_BITS, ROWS_BITS, TOKEN_BITS, EngineUnit
from accel.units.fetcher import UNIT_BYTES
from accel.units.modes import DECAY_BITS, MAX_LAG, MAX_OUTPUT_SHIFT, MAX_STATE_SHIFT, OUTPUT_SCALE_BITS
from accel.units.sequencer import SequencerUnit
from accel.units.state import RECORDS_WITH_DECAYS, ROW_STEP, StateUnit
from rtl.job import COUNT_BITS, format_layout, job_layout
from rtl.program_reader import raw_job_layout

__all__ = ["JobDecoder", "decoded_layout", "job_bytes_layout"]

GROUP_BITS = 9  # a group or head number that passes the checks
LIMB_BITS = ROWS_BITS // 2
WIDTHS = (4, 6, 8, 10, 12)
RATIO_ONE = 1 << 16
#: Codes that a job alone can cause, the first that holds is reported.
STATIC_CODES = tuple(
    c for c in ErrorCode if c in (ErrorCode.BUS, *range(ErrorCode.NO_END, ErrorCode.SHRINK), ErrorCode.MODE)
)


def job_bytes_layout() -> data.FlexibleLayout:
    """The fields of :data:`accel.program.JOB` where they lie in its bytes."""
    fields: Mapping[str, Any] = JOB.fields or {}
    return data.FlexibleLayout(
        8 * JOB.itemsize, {name: data.Field(8 * kind.itemsize, 8 * at) for name, (kind, at, *_) in fields.items()}
    )


def decoded_layout() -> data.StructLayout:
    """What the sequencer needs of a job. With ``error`` other than 0 nothing else has a meaning.

    job: complete but for ``version``, ``sums_in`` and ``sums_out``; ``list`` is KEEP_LIST alone. end: first_key + keys.
    alone: no other query head shares its K and V, so it goes when its head is pruned. keep: of a prune. keys of a
    TOKENS are in ``job``.
    """
    return data.StructLayout(
        {
            "error": ERROR_CODE_BITS,
            "opcode": range(max(Opcode) + 1),
            "halve": 1,
            "restart": 1,
            "keep": COUNT_BITS,
            "fused": range(max(Fused) + 1),
            "alone": 1,
            "end": COUNT_BITS,
            "job": job_layout(),
            "format": format_layout(),
        }
    )


def _at_most(value: Value, bits: int, top: int) -> Value:
    """``value``, but at most ``top``, in ``bits`` bits."""
    return Mux(value > top, top, value[:bits])


class JobDecoder(wiring.Component):
    """Raw job to decoded job.

    Parameters
    ----------
    unit : EngineUnit.

    Members
    -------
    raw : In(stream of raw_job_layout, always_ready).
    decoded : Out(stream of decoded_layout, always_ready).

    Latency 2 cycles, one job per cycle. In the first it multiplies and adds, in the second it compares. No input
    reaches an output within the cycle.

    Counts that stop nothing by being large are brought down to what means the same: keep_ratio to 65536, first_visible,
    keep_values and keep to 2^17 - 1; keys of an attend job to those that any of its rows sees, so that lines are never
    given back before they have come.
    """

    def __init__(self, unit: EngineUnit):
        self.unit = unit
        super().__init__(
            {
                "raw": In(stream.Signature(raw_job_layout(), always_ready=True)),
                "decoded": Out(stream.Signature(decoded_layout(), always_ready=True)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        flags_layout = data.StructLayout({code.name: 1 for code in STATIC_CODES})
        first_layout = data.StructLayout(
            {
                "flags": flags_layout,
                "decoded": decoded_layout(),
                "attend": 1,
                "rows_low": LIMB_BITS + GROUP_BITS,
                "rows_high": LIMB_BITS + GROUP_BITS,
                "heads": 2 * GROUP_BITS,
                "last_visible": 33,  # keys that the last query of a causal job sees
                "keys": 32,
                "end": 33,
                "keep_values": COUNT_BITS,
            }
        )
        first = Signal(first_layout, reset_less=True)
        second = Signal(data.StructLayout({"flags": flags_layout, "decoded": decoded_layout()}), reset_less=True)
        first_valid = Signal()
        now, then = Signal.like(first), Signal.like(second)
        raw = data.View(job_bytes_layout(), self.raw.payload.bytes)
        self._fields(m, raw, now)
        self._simple_checks(m, raw, now)
        m.d.sync += [first.eq(now), first_valid.eq(self.raw.valid)]
        self._derive(m, first, then)
        m.d.sync += [second.eq(then), self.decoded.valid.eq(first_valid)]
        m.d.comb += self.decoded.payload.eq(second.decoded)
        code = Signal(ERROR_CODE_BITS)
        for at, static in enumerate(STATIC_CODES):
            with m.If(second.flags[static.name]) if at == 0 else m.Elif(second.flags[static.name]):
                m.d.comb += code.eq(static)
        m.d.comb += self.decoded.payload.error.eq(code)
        return m

    # ---- first cycle ----------------------------------------------------------------------------------------------
    def _fields(self, m: Module, raw: data.View, now: data.View) -> None:
        unit, out = self.unit, now.decoded
        job, form = out.job, out.format
        flags = raw.flags

        def flag(which: Flag) -> Value:
            return flags[which.bit_length() - 1]

        single, pair = raw.fused == Fused.SINGLE, (raw.fused != Fused.SINGLE) | (raw.side != Side.ALONE)
        queries, group = raw.queries, raw.group[:GROUP_BITS]
        m.d.comb += [
            now.attend.eq(raw.opcode == Opcode.ATTEND),
            now.rows_low.eq(queries[:LIMB_BITS] * group),
            now.rows_high.eq(queries[LIMB_BITS:ROWS_BITS] * group),
            now.heads.eq((raw.head[:GROUP_BITS] + 1) * group),
            now.last_visible.eq(raw.first_visible + queries - 1),
            now.keys.eq(raw.keys),
            now.end.eq(raw.first_key + raw.keys),
            now.keep_values.eq(_at_most(raw.keep_values, COUNT_BITS, (1 << COUNT_BITS) - 1)),
            out.opcode.eq(raw.opcode),
            out.halve.eq(flag(Flag.HALVE)),
            out.restart.eq(flag(Flag.RESTART)),
            out.fused.eq(raw.fused),
            out.alone.eq((raw.group == 1) & (raw.mode != Mode.LINEAR) & (raw.mode != Mode.STATE)),
            job.causal.eq(flag(Flag.CAUSAL)),
            job.accumulate.eq(flag(Flag.ACCUMULATE)),
            job.list.eq(flag(Flag.KEEP_LIST)),
            job.first_tile.eq(flag(Flag.FIRST_TILE)),
            job.last_tile.eq(flag(Flag.LAST_TILE)),
            job.second.eq(raw.fused == Fused.SECOND),
            job.fetches_k.eq((raw.fused != Fused.SECOND) & (raw.mode != Mode.LINEAR) & (raw.mode != Mode.STATE)),
            job.state.eq(raw.mode == Mode.STATE),
            job.fresh.eq(flag(Flag.RESTART)),
            job.decay_words.eq(flag(Flag.DECAY_WORDS)),
            job.first_visible.eq(_at_most(raw.first_visible, COUNT_BITS, (1 << COUNT_BITS) - 1)),
            job.decay.eq(Mux((raw.mode == Mode.DECAY) | (raw.mode == Mode.STATE), raw.decay, 0)),
            job.side.eq((raw.fused == Fused.SECOND) | (single & (raw.side == Side.SECOND))),
            job.v_selected.eq(raw.value_fetch == ValueFetch.SELECTED),
            job.keep_ratio.eq(_at_most(raw.keep_ratio, 17, RATIO_ONE)),
        ]
        for name in ("group", "head", "keys", "first_key", "lsb", "threshold", "score_mantissa", "score_shift",
                     "q_address", "q_stride", "k_msb_address", "k_lsb_address", "v_address", "output_address",
                     "output_stride", "partial_address", "output_mantissa", "output_shift"):  # fmt: skip
            m.d.comb += job[name].eq(raw[name])

        dim = raw.head_dim[:9]
        largest = unit.entry_words.bit_length() - 1
        plane_units = Signal(4)
        m.d.comb += [
            plane_units.eq((dim + 31) >> 5),
            form.head_dim.eq(dim),
            form.log2_dim.eq(3 + sum((dim > 1 << i for i in range(3, largest)), Const(0))),
            form.plane_units.eq(plane_units),
            form.query_atoms.eq(self._atoms(WORD_BITS // 4 * plane_units)),
            form.key_planes.eq(raw.msb_bits >> 2),
            form.key_crumbs.eq(raw.msb_bits[1]),
            form.pair.eq(pair),
            form.fused.eq(~single),
            form.k_wide.eq(~single | (dim > unit.entry_words // 2)),
            form.v_wide.eq(dim > unit.entry_words // 2),
            form.output_atoms.eq(self._atoms(dim >> 3)),  # of 8 numbers of 16 bits
            form.lsb_atoms.eq(Mux(raw.lsb_bits[2], self._atoms(plane_units), 0)),
            form.lsb_first_crumb.eq(raw.msb_bits >> 1),
            form.value_planes.eq(raw.value_bits >> 2),
            form.value_crumbs.eq(raw.value_bits[1]),
            form.mode.eq(raw.mode),
        ]
        key_units = self._record_units(m, raw.msb_bits, plane_units, "key_units")
        value_units = self._record_units(m, raw.value_bits, plane_units, "value_units")
        m.d.comb += [
            form.key_atoms.eq(Mux(pair, self._atoms(key_units << 1), self._atoms(key_units))),
            form.value_atoms.eq(self._atoms(value_units)),
        ]

    def _record_units(self, m: Module, bits: Value, plane_units: Value, name: str) -> Signal:
        """A row's record in units of 16 bytes (``accel.units.fetcher.record_bytes``)."""
        units = Signal(5, name=name)
        m.d.comb += units.eq(bits[2:4] * plane_units + Mux(bits[1], (plane_units + 1) >> 1, 0))
        return units

    def _atoms(self, units: Value) -> Value:
        """Memory accesses of so many units of 16 bytes."""
        per_atom = self.unit.arch.memory_spec.access_bytes // UNIT_BYTES
        return (units + per_atom - 1) >> (per_atom.bit_length() - 1)

    def _simple_checks(self, m: Module, raw: data.View, now: data.View) -> None:
        arch = self.unit.arch
        flags, attend = now.flags, raw.opcode == Opcode.ATTEND
        atom = arch.memory_spec.access_bytes
        inside = atom.bit_length() - 1  # bits of an address inside an access
        planes = [(bits, 0) for bits in WIDTHS] + list(PLANES)

        def one_of(value: Value, allowed: tuple[int, ...]) -> Value:
            return Cat(value == each for each in allowed).any()

        def off(name: str, bits: int) -> Value:
            return raw[name][:inside].any() | raw[name][bits:].any()

        misplaced = off("q_stride", 16) | off("output_stride", 16)
        for name in ("q_address", "k_msb_address", "v_address", "output_address"):
            misplaced |= off(name, ADDRESS_BITS)
        both_tiles = Flag.FIRST_TILE | Flag.LAST_TILE
        misplaced |= ((raw.flags & both_tiles) != both_tiles) & off("partial_address", ADDRESS_BITS)
        conditions = {
            ErrorCode.BUS: self.raw.payload.error,
            ErrorCode.NO_END: self.raw.payload.last & (raw.opcode != Opcode.END),
            ErrorCode.OPCODE: raw.opcode > max(Opcode),
            ErrorCode.CHOICE: attend
            & (
                (raw.lsb > max(Lsb))
                | (raw.value_fetch > max(ValueFetch))
                | (raw.fused > max(Fused))
                | (raw.side > max(Side))
            ),
            ErrorCode.HEAD_DIM: attend
            & ((raw.head_dim < 8) | (raw.head_dim > arch.max_head_dim) | raw.head_dim[:3].any()),
            ErrorCode.ROWS: attend & (~raw.queries.any() | ~raw.group.any() | raw.queries[ROWS_BITS:].any()),
            ErrorCode.HEADS: attend & ((raw.head >= arch.max_heads) | (raw.group > arch.max_heads)),
            ErrorCode.PLANES: attend & ~Cat((raw.msb_bits == a) & (raw.lsb_bits == b) for a, b in planes).any(),
            ErrorCode.LSB: attend & (raw.lsb != Lsb.NEVER) & ~raw.lsb_bits.any(),
            ErrorCode.VALUE_BITS: attend & ~one_of(raw.value_bits, WIDTHS),
            ErrorCode.THRESHOLD: attend & raw.threshold[16:].any(),
            ErrorCode.SCALE: attend & ((raw.score_shift > 62) | (~raw.score_shift.any() & raw.score_mantissa.any())),
            ErrorCode.VISIBLE: attend & (raw.flags & Flag.CAUSAL).any() & ~raw.first_visible.any(),
            ErrorCode.ADDRESS: attend & (misplaced | ((raw.lsb != Lsb.NEVER) & off("k_lsb_address", ADDRESS_BITS))),
            ErrorCode.KEEP_VALUES: ((raw.opcode == Opcode.PRUNE_TOKENS) | (raw.opcode == Opcode.PRUNE_HEADS))
            & ~raw.keep_values.any(),
            ErrorCode.TOKENS: (raw.opcode == Opcode.TOKENS) & (raw.keys > arch.max_context),
            ErrorCode.MODE: attend & self._wrong_mode(raw),
        }
        m.d.comb += [flags[code.name].eq(condition) for code, condition in conditions.items()]

    def _wrong_mode(self, raw: data.View) -> Value:
        """Whether there is no such mode, or it cannot do what the job asks of it (but to drop values)."""
        some = raw.mode != Mode.SOFTMAX
        causal, listed = (raw.flags & flag for flag in (Flag.CAUSAL, Flag.KEEP_LIST))
        never = (raw.mode > max(Mode)) | (raw.lsb != Lsb.NEVER) | (raw.flags & Flag.ACCUMULATE).any()
        never |= raw.output_mantissa[OUTPUT_SCALE_BITS:].any() | (raw.output_shift > MAX_OUTPUT_SHIFT)
        never_decay = ~causal.any() | raw.decay[DECAY_BITS:].any()
        never_linear = causal.any() | listed.any() | (raw.fused != Fused.SINGLE) | (raw.keys > raw.head_dim)
        never_state = never_linear | self._wrong_state(raw)
        of_mode = {Mode.DECAY: never_decay, Mode.LINEAR: never_linear, Mode.STATE: never_state}
        return some & (never | Cat((raw.mode == mode) & wrong for mode, wrong in of_mode.items()).any())

    def _wrong_state(self, raw: data.View) -> Value:
        """Whether mode STATE cannot do what the job asks, beyond what LINEAR cannot."""
        if StateUnit(self.unit.arch).missing():
            return Const(1, 1)
        step_bits, shift_bits = ROW_STEP.bit_length() - 1, MAX_STATE_SHIFT.bit_length()
        whole = Flag.FIRST_TILE | Flag.LAST_TILE
        wrong = ((raw.flags & whole) != whole) | (raw.group != 1) | (raw.side != Side.ALONE)
        wrong |= raw.keys[:step_bits].any() | raw.first_key[:step_bits].any()
        wrong |= raw.score_shift[shift_bits:].any() | raw.decay[DECAY_BITS:].any()
        return wrong | raw.queries[ROWS_BITS - (RECORDS_WITH_DECAYS - 1).bit_length() :].any()

    # ---- second cycle ---------------------------------------------------------------------------------------------
    def _derive(self, m: Module, first: data.View, then: data.View) -> None:
        job, out = first.decoded.job, then.decoded
        limits = SequencerUnit(self.unit)
        rows = Signal(ROWS_BITS + GROUP_BITS)
        most = Signal(COUNT_BITS)
        with m.Switch(first.decoded.format.log2_dim):
            for dim in limits.dims:
                with m.Case(dim.bit_length() - 1):
                    single, pair = limits.most_keys(dim, False), limits.most_keys(dim, True)
                    m.d.comb += most.eq(Mux(first.decoded.format.fused, pair, single))
        # V rows kept of the most keys that any row sees (accel.numerics.attention.values_kept): fewer than those? A row
        # with fewer keys drops some only if that one does.
        sees_all = ~job.causal | (first.last_visible >= first.keys)
        visible = Signal(COUNT_BITS)
        drops = Mux(first.keep_values.any(), first.keep_values < visible, (visible >= 2) & (job.keep_ratio < RATIO_ONE))
        m.d.comb += [
            rows.eq(first.rows_low + (first.rows_high << LIMB_BITS)),
            visible.eq(Mux(sees_all, first.keys, first.last_visible)),
            then.flags.eq(first.flags),
            out.eq(first.decoded),
            out.end.eq(first.end),
            out.keep.eq(first.keep_values),
            out.job.rows.eq(rows),
            out.job.records.eq(Mux(job.state, Mux(job.decay_words, rows << 2, rows + (rows << 1)), rows)),
            out.job.keep_values.eq(first.keep_values),
            out.job.selecting.eq(job.v_selected | drops),
        ]
        with m.If(first.attend):
            m.d.comb += [
                out.job.keys.eq(visible),
                then.flags[ErrorCode.KEYS.name].eq(~first.keys.any() | (first.keys > most)),
                then.flags[ErrorCode.ROWS.name].eq(first.flags[ErrorCode.ROWS.name] | rows[ROWS_BITS:].any()),
                then.flags[ErrorCode.HEADS.name].eq(
                    first.flags[ErrorCode.HEADS.name] | (first.heads > self.unit.arch.max_heads)
                ),
            ]
            with m.If((first.end > 1 << TOKEN_BITS) | (job.state & (first.end > most))):
                m.d.comb += then.flags[ErrorCode.KEYS.name].eq(1)
            mode = first.decoded.format.mode
            far = (mode == Mode.DECAY) & (first.last_visible > MAX_LAG + 1)
            with m.If((mode != Mode.SOFTMAX) & out.job.selecting | far):
                m.d.comb += then.flags[ErrorCode.MODE.name].eq(1)
