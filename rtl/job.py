"""What the sequencer tells the units of an attend job, and what the units tell each other of a row."""

from amaranth.hdl import ShapeLike, Value, signed
from amaranth.lib import data

from accel.program import Mode
from accel.units.engine import ADDRESS_BITS, ROWS_BITS, TOKEN_BITS, EngineUnit
from accel.units.modes import DECAY_BITS, DECAY_SUM_BITS, OUTPUT_SCALE_BITS
from accel.units.pv import SHIFT_BITS as OUTPUT_SHIFT_BITS
from accel.units.qk import SHIFT_BITS as SCORE_SHIFT_BITS
from accel.units.softmax import MAXIMUM_BITS, QUOTIENT_BITS, SCALE_BITS, THRESHOLD_BITS, SoftmaxUnit

__all__ = [
    "KIND_K",
    "KIND_LSB",
    "KIND_Q",
    "KIND_V",
    "address_layout",
    "decay_layout",
    "format_layout",
    "job_layout",
    "log2_keys_per_line",
    "log2_values_per_line",
    "lsb_request_layout",
    "pass_layout",
    "release_layout",
    "tag_layout",
    "v_row_layout",
    "weight_line_layout",
    "weights_layout",
    "write_layout",
]

#: Where an access goes: query buffer, K memory (MSB planes), K memory (LSB plane), V memory.
KIND_Q, KIND_K, KIND_LSB, KIND_V = range(4)
COUNT_BITS = TOKEN_BITS + 1  # of keys
ATOM_BITS = 6  # of an access's number in a row, and of the accesses in a row


def line_bits(unit: EngineUnit) -> int:
    """Bits of a line's place in the ring of a line memory."""
    return (unit.max_lines - 1).bit_length()


def sequence_bits(unit: EngineUnit) -> int:
    """Bits of a running number of lines, rows or jobs; twice what can be under way, so that numbers compare."""
    return line_bits(unit) + 2


def log2_keys_per_line(unit: EngineUnit, log2_dim: Value) -> Value:
    """log2 of ``Arch.keys_per_line`` of the padded head dimension 2^log2_dim."""
    return _log2_per_line(unit, unit.arch.qk.multipliers, log2_dim)


def log2_values_per_line(unit: EngineUnit, log2_dim: Value) -> Value:
    """log2 of ``Arch.values_per_line`` of the padded head dimension 2^log2_dim."""
    return _log2_per_line(unit, unit.arch.pv.multipliers, log2_dim)


def _log2_per_line(unit: EngineUnit, multipliers: int, log2_dim: Value) -> Value:
    log2_multipliers = multipliers.bit_length() - 1
    log2_lanes = unit.arch.softmax.lanes.bit_length() - 1
    halvings = range(1, min(log2_lanes, log2_multipliers) + 1)
    return sum((log2_dim <= log2_multipliers - n for n in halvings), start=Value.cast(0))


def format_layout() -> data.StructLayout:
    """How numbers lie in memory and on chip: the same for all jobs under way (the sequencer drains the engine to
    change it), so it is a level that every unit reads and no tag carries.

    log2_dim: of the padded head dimension D. plane_units: 16-byte units of one nibble plane of one row, 1 to 8 (a
    crumb plane has half of them, rounded up). *_planes, *_crumbs: nibble planes of 4 bits and whether a 2-bit plane
    follows. *_atoms: memory accesses from row to row. pair: K rows of two heads lie side by side (``key_atoms`` is of
    both); output_atoms: of an output row, and of a plane of sums. fused: K of both is fetched together.
    lsb_first_crumb: where the LSB plane begins in the word, in steps of 2 bits from the top (the MSB plane's width /
    2). k_wide, v_wide: ``EngineUnit.wide`` of what is *fetched* together. mode: an ``accel.program.Mode``.
    """
    return data.StructLayout(
        {
            "head_dim": 9,
            "log2_dim": 4,
            "plane_units": 4,
            "query_atoms": ATOM_BITS,
            "key_atoms": ATOM_BITS,
            "key_planes": 2,
            "key_crumbs": 1,
            "pair": 1,
            "fused": 1,
            "k_wide": 1,
            "lsb_atoms": ATOM_BITS,
            "lsb_first_crumb": 3,
            "value_atoms": ATOM_BITS,
            "value_planes": 2,
            "value_crumbs": 1,
            "v_wide": 1,
            "output_atoms": ATOM_BITS,
            "mode": range(max(Mode) + 1),
        }
    )


def job_layout() -> data.StructLayout:
    """An attend job as dispatched. Fields of the same name are those of :data:`accel.program.JOB`.

    rows: queries * group. fetches_k: it has K of its own. list: keys are positions in the keep list that is stored
    (else token numbers). version: which of the two stored lists. second: K came with the job before (``Fused.SECOND``).
    side: of the pair's row, when a single head of a pair is fetched or for the second of a fused pair. selecting: its
    rows pass through the local top-k. v_selected: V is fetched per row. sums_in, sums_out: its rows take sums from
    memory, leave them there. A later tile without sums_in takes them over on chip, a tile that is not the last one and
    without sums_out leaves them there; then it has one row. state: mode STATE, whose rows are tokens; units between
    the query buffer and the PV array pass it over. records: query records of all rows. fresh: an empty state comes
    before it. decay_words: its tokens have such a record.
    """
    fields: dict[str, ShapeLike] = {
        "rows": ROWS_BITS,
        "group": 9,
        "head": 9,
        "keys": COUNT_BITS,
        "first_key": COUNT_BITS,
        "causal": 1,
        "first_visible": COUNT_BITS,
        "accumulate": 1,
        "list": 1,
        "version": 1,
        "second": 1,
        "fetches_k": 1,
        "side": 1,
        "first_tile": 1,
        "last_tile": 1,
        "lsb": 2,
        "threshold": THRESHOLD_BITS,
        "selecting": 1,
        "v_selected": 1,
        "keep_values": COUNT_BITS,
        "keep_ratio": 17,
        "score_mantissa": SCALE_BITS,
        "score_shift": SCORE_SHIFT_BITS,
        "decay": DECAY_BITS,
        "output_mantissa": OUTPUT_SCALE_BITS,
        "output_shift": OUTPUT_SHIFT_BITS,
        "q_address": ADDRESS_BITS,
        "q_stride": 16,
        "k_msb_address": ADDRESS_BITS,
        "k_lsb_address": ADDRESS_BITS,
        "v_address": ADDRESS_BITS,
        "output_address": ADDRESS_BITS,
        "output_stride": 16,
        "partial_address": ADDRESS_BITS,
        "sums_in": 1,
        "sums_out": 1,
        "state": 1,
        "records": ROWS_BITS,
        "fresh": 1,
        "decay_words": 1,
    }
    return data.StructLayout(fields)


def tag_layout(unit: EngineUnit) -> data.StructLayout:
    """What comes back with an access: where it goes.

    index: ring line (K, LSB, V) or query slot (Q). row: LSB only, the fetch's number modulo rows_in_flight. atom: which
    access of the row. side: head of a pair, of K where a single side is fetched, of LSB where K of both came together;
    of Q: not the query, but the sums that the row takes over.
    """
    return data.StructLayout(
        {
            "kind": 2,
            "index": line_bits(unit),
            "row": range(unit.arch.rows_in_flight),
            "atom": ATOM_BITS,
            "side": 1,
        }
    )


def address_layout(unit: EngineUnit) -> data.StructLayout:
    """One access on its way from a lane to its channel."""
    return data.StructLayout(
        {"channel": range(max(2, unit.arch.memory_spec.channels)), "address": ADDRESS_BITS, "tag": tag_layout(unit)}
    )


def pass_layout(unit: EngineUnit) -> data.StructLayout:
    """One pass of a row through the QK array, sent in the cycle in which its first line issues.

    second: the pass with both planes. row: the row's number modulo rows_in_flight. keys: visible to it. line: ring line
    of its first key; side: its keys are the second of a fused pair. score: word of the score buffer where its first
    line goes. kept: V rows it keeps. ends_k: its K may be freed when it, and all rows before it, are final; k_lines:
    that many lines.
    """
    rows = unit.arch.rows_in_flight
    return data.StructLayout(
        {
            "second": 1,
            "row": range(rows),
            "keys": COUNT_BITS,
            "lines": line_bits(unit) + 1,
            "line": line_bits(unit),
            "score": range(unit.score_words),
            "kept": COUNT_BITS,
            "side": 1,
            "lsb": 2,
            "threshold": THRESHOLD_BITS,
            "k_lsb_address": ADDRESS_BITS,
            "first_key": COUNT_BITS,
            "list": 1,
            "version": 1,
            "selecting": 1,
            "v_selected": 1,
            "accumulate": 1,
            "first_tile": 1,
            "sums_in": 1,
            "ends_k": 1,
            "k_lines": line_bits(unit) + 1,
        }
    )


def decay_layout() -> data.StructLayout:
    """A row's decay from key to key, and that between its query and its first key; 0 where there is none."""
    return data.StructLayout({"step": DECAY_BITS, "start": DECAY_SUM_BITS})


def lsb_request_layout(unit: EngineUnit) -> data.StructLayout:
    """A row that needs its LSB plane: ``keys`` keys from ring line ``line`` of K; side: of a fused pair."""
    return data.StructLayout(
        {
            "row": range(unit.arch.rows_in_flight),
            "keys": COUNT_BITS,
            "line": line_bits(unit),
            "side": 1,
            "k_lsb_address": ADDRESS_BITS,
            "first_key": COUNT_BITS,
            "list": 1,
            "version": 1,
        }
    )


def weights_layout(unit: EngineUnit) -> data.StructLayout:
    """A final row on its way to the PV array, sent when its second pass starts.

    granule: where its kept weights begin in the ring. rise: of the running maximum over the tile before (its sums are
    shifted by as much), for a row that is not its query's first tile. maximum, total: what the softmax leaves to the
    next.
    """
    softmax = SoftmaxUnit.of(unit.arch)
    return data.StructLayout(
        {
            "keys": COUNT_BITS,
            "kept": COUNT_BITS,
            "granule": range(unit.granules),
            "reciprocal": QUOTIENT_BITS,
            "shift": range(1 << softmax.shift_bits),
            "rise": 6,
            "selecting": 1,
            "maximum": signed(MAXIMUM_BITS),
            "total": softmax.total_bits,
        }
    )


def weight_line_layout(unit: EngineUnit) -> data.StructLayout:
    """One line of the second pass as it leaves the normaliser: what importance and local values both take.

    tokens: token number of each lane's key; positions are ``position`` + lane. Lanes from count on carry no meaning.
    """
    lanes = unit.arch.softmax.lanes
    return data.StructLayout(
        {
            "weights": data.ArrayLayout(12, lanes),
            "probabilities": data.ArrayLayout(13, lanes),
            "tokens": data.ArrayLayout(TOKEN_BITS, lanes),
            "position": TOKEN_BITS,
            "count": range(lanes + 1),
            "first": 1,
            "last": 1,
            "accumulate": 1,
        }
    )


def write_layout(unit: EngineUnit) -> data.StructLayout:
    """What a lane's converter writes: one access's numbers in their places in an entry, and which bits are written.

    words: entry_words words of 12 bits. A key, row or query begins at word 0; side 1 of a fused pair at the upper
    half. mask: for each block of ``unit.block_words`` words, one bit per 2-bit step of a word, lowest bits first. The
    planes that the fetch does not bring are written as 0 with every access (the LSB plane only in its own fetch).
    """
    blocks = unit.entry_words // unit.block_words
    return data.StructLayout(
        {
            "tag": tag_layout(unit),
            "words": data.ArrayLayout(12, unit.entry_words),
            "mask": data.ArrayLayout(6, blocks),
        }
    )


def v_row_layout(unit: EngineUnit) -> data.StructLayout:
    """A row whose kept tokens are in the ring: ``kept`` of them, from entry ``granule * unit.granule`` on."""
    return data.StructLayout({"kept": COUNT_BITS, "granule": range(unit.granules)})


def release_layout(bits: int) -> data.StructLayout:
    """So many lines, words or granules are free again."""
    return data.StructLayout({"count": bits})
