"""Cases of the PV array on its Verilog: payload vectors in, the simulator's transfers out."""

import zlib

import numpy as np

from accel.arch import Arch
from accel.units.pv import RECIPROCAL_WORD_BITS, SHIFT_BITS, VALUE_BITS
from accel.units.softmax import OUTPUT_BITS, WEIGHT_BITS
from sim.pv_schedule import Line, Transfer, lines_of
from tests.equivalence.harness import Handshake, Run
from tests.equivalence.pv_cases import Case


def pack(fields: list[tuple[int, int]]) -> int:
    """(number, bits) from the lowest bits up; signed numbers as two's complement."""
    vector, at = 0, 0
    for number, bits in fields:
        vector |= (number & (1 << bits) - 1) << at
        at += bits
    return vector


def unpack(vector: int, bits: int, count: int, *, is_signed: bool = False) -> list[int]:
    fields = [vector >> bits * i & (1 << bits) - 1 for i in range(count)]
    return [field - ((field >> bits - 1) << bits) for field in fields] if is_signed else fields


def line_payload(case: Case, line: Line, rng: np.random.Generator) -> int:
    """The transfer as a vector; everything that carries no meaning is drawn at random."""
    unit, row = case.unit, case.rows[line.row]
    padded = Arch.padded_head_dim(row.head_dim)
    is_final_part = line.part == unit.fold(row.head_dim) - 1
    words = rng.integers(-(1 << VALUE_BITS - 1), 1 << VALUE_BITS - 1, unit.multipliers)
    part = row.values[line.begin : line.end, line.part * unit.multipliers :][:, : unit.multipliers]
    words[: part.size] = part.ravel()
    weights = rng.integers(0, 1 << WEIGHT_BITS, unit.weights_per_line)
    count = line.end - line.begin
    weights[:count] = row.weights[line.begin : line.end]

    def read_when(read: bool, number: int, bits: int) -> tuple[int, int]:
        return (number if read else int(rng.integers(0, 1 << bits)), bits)

    return pack(
        [
            *((word, VALUE_BITS) for word in words.tolist()),
            *((weight, WEIGHT_BITS) for weight in weights.tolist()),
            (count, unit.weights_per_line.bit_length()),
            read_when(is_final_part, line.last, 1),
            (padded.bit_length() - 1, (unit.max_head_dim.bit_length() - 1).bit_length()),
            read_when(line.first, row.keep_shift is not None, 1),
            read_when(line.first and row.keep_shift is not None, row.keep_shift or 0, SHIFT_BITS),
            read_when(line.last, row.reciprocal, RECIPROCAL_WORD_BITS),
            read_when(line.last, row.shift, SHIFT_BITS),
            read_when(line.last, row.head_dim, unit.max_head_dim.bit_length()),
        ]
    )


def rtl_run(case: Case, cycles: int) -> Run:
    rng = np.random.default_rng(zlib.crc32(case.name.encode()))
    payloads = [line_payload(case, line, rng) for line in lines_of(case.unit, case.rows)]
    return Run({"line": (payloads, case.stalls.line)}, {"outputs": case.stalls.outputs}, cycles)


def as_transfers(case: Case, handshakes: list[Handshake]) -> list[Transfer]:
    """Payload vectors of the RTL as the simulator's contents."""
    unit, transfers = case.unit, []
    lines = lines_of(unit, case.rows)
    weights_at = unit.multipliers * VALUE_BITS
    count_at = weights_at + unit.weights_per_line * WEIGHT_BITS
    last_at = count_at + unit.weights_per_line.bit_length()
    numbers_bits = unit.output_lanes * OUTPUT_BITS
    for port, cycle, payload in handshakes:
        if port == "line":
            line = next(lines)
            is_final_part = line.part == unit.fold(case.rows[line.row].head_dim) - 1
            count = payload >> count_at & (1 << last_at - count_at) - 1
            last = payload >> last_at & 1 if is_final_part else 0
            content = [last, *unpack(payload >> weights_at, WEIGHT_BITS, count)]
        else:
            last = payload >> numbers_bits & 1
            magnitude = payload >> numbers_bits + 1 & (1 << unit.magnitude_bits) - 1
            content = [last, magnitude, *unpack(payload, OUTPUT_BITS, unit.output_lanes, is_signed=True)]
        transfers.append(Transfer(port, cycle, tuple(content)))
    return sorted(transfers, key=lambda t: (t.cycle, t.port))
