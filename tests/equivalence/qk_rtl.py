"""Cases of the QK array on its Verilog: payload vectors in, the simulator's transfers out."""

import zlib
from collections.abc import Iterable, Iterator

import numpy as np

from accel.numerics.quantise import WORD_BITS
from accel.units.qk import SHIFT_BITS, QkUnit
from accel.units.softmax import SCALE_BITS, SCORE_BITS
from sim.qk_schedule import Row, Transfer, lines_of
from tests.equivalence.harness import Handshake, Run
from tests.equivalence.qk_cases import Case


def pack(fields: Iterable[tuple[int, int]]) -> int:
    """(value, bits) of each field, the first in the lowest bits; a negative value as two's complement."""
    vector, at = 0, 0
    for value, bits in fields:
        vector |= (int(value) & (1 << bits) - 1) << at
        at += bits
    return vector


def _junk(count: int, rng: np.random.Generator) -> np.ndarray:
    """Words that carry no meaning and therefore may be anything."""
    return rng.integers(-(1 << WORD_BITS - 1), 1 << WORD_BITS - 1, count)


def query_payload(unit: QkUnit, row: Row, rng: np.random.Generator) -> int:
    words = _junk(unit.max_head_dim, rng)
    words[: row.dim] = 0
    words[: len(row.query)] = row.query
    log2_bits = (unit.max_head_dim.bit_length() - 1).bit_length()
    scale = [(row.mantissa, SCALE_BITS), (row.shift, SHIFT_BITS), (row.dim.bit_length() - 1, log2_bits)]
    return pack([*((word, WORD_BITS) for word in words), *scale])


def line_payloads(unit: QkUnit, row: Row, rng: np.random.Generator) -> Iterator[int]:
    lines, fold = lines_of(unit, row), unit.fold(row.dim)
    for i, keys in enumerate(lines):
        words = _junk(unit.multipliers, rng)
        for k, key in enumerate(keys):
            words[k * row.dim : k * row.dim + len(key)] = key
        count, last = len(keys), i == len(lines) - 1
        if (i + 1) % fold:
            count, last = int(rng.integers(0, unit.lanes + 1)), bool(rng.integers(2))
        yield pack([*((word, WORD_BITS) for word in words), (count, unit.lanes.bit_length()), (last, 1)])


def rtl_run(case: Case, cycles: int) -> Run:
    rng = np.random.default_rng(zlib.crc32(case.name.encode()))
    queries = [query_payload(case.unit, row, rng) for row in case.rows]
    lines = [payload for row in case.rows for payload in line_payloads(case.unit, row, rng)]
    sources = {"query": (queries, case.stalls.query), "line": (lines, case.stalls.line)}
    return Run(sources, {"scores": case.stalls.scores}, cycles)


def _sent(case: Case) -> dict[str, Iterator[tuple[int, ...]]]:
    """What the bench sends, as the simulator's contents, in order."""
    queries = [(row.dim.bit_length() - 1, row.mantissa, row.shift, *row.query.tolist()) for row in case.rows]
    ends = [(row, keys, i == n - 1) for row in case.rows for n in [len(lines_of(case.unit, row))]
            for i, keys in enumerate(lines_of(case.unit, row))]  # fmt: skip
    return {"query": iter(queries), "line": iter((int(last), *keys.ravel().tolist()) for _, keys, last in ends)}


def as_transfers(case: Case, handshakes: list[Handshake]) -> list[Transfer]:
    """Payload vectors of the RTL as the simulator's contents; lanes that carry no meaning left out."""
    unit, sent = case.unit, _sent(case)
    transfers = []
    for port, cycle, payload in handshakes:
        if port in sent:
            content = next(sent[port])
        else:
            tail = payload >> SCORE_BITS * unit.lanes
            count, last = tail & (1 << unit.lanes.bit_length()) - 1, tail >> unit.lanes.bit_length()
            scores = [payload >> SCORE_BITS * k & (1 << SCORE_BITS) - 1 for k in range(min(count, unit.lanes))]
            content = (last, *(score - (score >> SCORE_BITS - 1 << SCORE_BITS) for score in scores))
        transfers.append(Transfer(port, cycle, content))
    return sorted(transfers, key=lambda t: (t.cycle, t.port))
