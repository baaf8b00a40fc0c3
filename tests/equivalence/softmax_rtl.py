"""Cases of the softmax on its Verilog: payload vectors in, the simulator's transfers out."""

import random
import zlib
from collections import defaultdict

from accel.units.softmax import (
    EXPONENT_BITS,
    MAXIMUM_BITS,
    PROBABILITY_BITS,
    QUOTIENT_BITS,
    SCORE_BITS,
    THRESHOLD_BITS,
    WEIGHT_BITS,
    SoftmaxUnit,
)
from sim.softmax_schedule import Stalls, Transfer, contents
from tests.equivalence.harness import Handshake, Run
from tests.equivalence.softmax_cases import Case

SOURCES, SINKS = Stalls._fields[:4], Stalls._fields[4:]
Fields = list[tuple[str, int]]  # name and bits, the first in the lowest ones; negative bits: a signed field


def fields(unit: SoftmaxUnit, port: str) -> Fields:
    """Layout of a port's payload; the fields of lanes are called lane."""
    lanes, maximum, end = unit.lanes, ("maximum", -MAXIMUM_BITS), [("count", unit.lanes.bit_length()), ("last", 1)]
    line = [*[("lane", EXPONENT_BITS)] * lanes, maximum, *end]
    inverse = [maximum, ("reciprocal", QUOTIENT_BITS), ("shift", unit.shift_bits)]
    total = ("total", unit.total_bits)
    return {
        "scores": [*[("lane", -SCORE_BITS)] * lanes, *end, maximum, total, ("threshold", THRESHOLD_BITS)],
        "exponents": line,
        "stored": line,
        "sums": [maximum, total, ("largest", EXPONENT_BITS), ("flat", 1)],
        "finals": [maximum, total],
        "reciprocals": inverse,
        "rows": inverse,
        "weights": [*[("lane", WEIGHT_BITS)] * lanes, *[("high", PROBABILITY_BITS + 1)] * lanes, *end],
    }[port]


def pack(layout: Fields, values: list[int]) -> int:
    vector, at = 0, 0
    for (_, bits), value in zip(layout, values, strict=True):
        vector |= (value & (1 << abs(bits)) - 1) << at
        at += abs(bits)
    return vector


def unpack(layout: Fields, vector: int) -> dict[str, list[int]]:
    values = defaultdict(list)
    for name, bits in layout:
        value = vector & (1 << abs(bits)) - 1
        values[name].append(value - (1 << -bits) if bits < 0 and value >> -bits - 1 else value)
        vector >>= abs(bits)
    return values


def payloads(case: Case, port: str) -> list[int]:
    """What a source offers. Fields and lanes without meaning hold anything."""
    unit, layout = case.unit, fields(case.unit, port)
    noise = random.Random(zlib.crc32(f"{case.name} {port}".encode()))
    vectors, first = [], True
    for content in contents(unit, case.rows)[port]:
        if port in ("finals", "rows"):
            vectors.append(pack(layout, list(content)))
            continue
        last, *rest = content
        before = 0 if port == "scores" and not first else {"scores": 3, "stored": 1}[port]
        state, lanes = rest[:before], rest[before:]
        count = len(lanes)
        lanes += [noise.getrandbits(SCORE_BITS) for _ in range(unit.lanes - count)]
        if port == "scores":
            values = [*lanes, count, last, *(state or [noise.getrandbits(40) for _ in range(3)])]
        else:
            values = [*lanes, *state, count, last]
        vectors.append(pack(layout, values))
        first = bool(last)
    return vectors


def rtl_run(case: Case, cycles: int) -> Run:
    stalls = case.stalls._asdict()
    sources = {port: (payloads(case, port), stalls[port]) for port in SOURCES}
    return Run(sources, {port: stalls[port] for port in SINKS}, cycles)


def as_transfers(case: Case, handshakes: list[Handshake]) -> list[Transfer]:
    """Payload vectors of the RTL as the simulator's contents; what carries no meaning left out."""
    transfers, first = [], True
    for port, cycle, payload in handshakes:
        if port not in Stalls._fields:  # the bench's complaint that an offer did not stay
            transfers.append(Transfer(port, cycle, ()))
            continue
        values = unpack(fields(case.unit, port), payload)
        if "count" not in values:
            content = [value for (value,) in values.values()]
        else:
            count, last, lanes = values["count"][0], values["last"][0], values["lane"]
            content = [last]
            if port == "scores":
                content += [values[name][0] for name in ("maximum", "total", "threshold")] if first else []
                first = bool(last)
            elif port != "weights":
                content += values["maximum"]
            pairs = zip(lanes, values["high"], strict=True) if port == "weights" else ((value,) for value in lanes)
            content += [value for pair in list(pairs)[:count] for value in pair]
        transfers.append(Transfer(port, cycle, tuple(content)))
    return sorted(transfers, key=lambda t: (t.cycle, t.port))
