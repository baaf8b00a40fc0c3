"""Cases of the top-k engine on its Verilog: payload vectors in, the simulator's transfers out."""

from collections.abc import Iterable

from sim.topk_schedule import Transfer
from tests.equivalence.harness import Handshake, Run
from tests.equivalence.topk_cases import Case


def pack(numbers: Iterable[int], bits: int) -> int:
    return sum(int(number) << bits * i for i, number in enumerate(numbers))


def unpack(vector: int, bits: int, count: int) -> list[int]:
    return [vector >> bits * i & (1 << bits) - 1 for i in range(count)]


def rtl_run(case: Case, cycles: int) -> Run:
    unit, rows = case.unit, case.rows
    commands = [pack([len(row.values), row.k], unit.size_bits) for row in rows]
    words = [
        pack(row.values[first : first + unit.lanes], unit.value_bits)
        for row in rows
        for first in range(0, len(row.values), unit.lanes)
    ]
    stalls = case.stalls
    sources = {"command": (commands, stalls.command), "input": (words, stalls.input)}
    return Run(sources, {"output": stalls.output}, cycles)


def as_transfers(case: Case, handshakes: list[Handshake]) -> list[Transfer]:
    """Payload vectors of the RTL as the simulator's contents; lanes that carry no meaning left out."""
    unit = case.unit
    value_bits = unit.lanes * unit.value_bits
    lengths = [len(row.values) for row in case.rows]
    live = iter([min(unit.lanes, n - first) for n in lengths for first in range(0, n, unit.lanes)])
    transfers = []
    for port, cycle, payload in handshakes:
        if port == "command":
            content = unpack(payload, unit.size_bits, 2)
        elif port == "input":
            content = unpack(payload, unit.value_bits, next(live))
        else:
            tail = payload >> value_bits + unit.lanes * unit.index_bits
            count = tail & (2 * unit.lanes - 1)
            values = unpack(payload, unit.value_bits, count)
            positions = unpack(payload >> value_bits, unit.index_bits, count)
            content = [
                tail >> unit.lanes.bit_length(),
                *(x for pair in zip(positions, values, strict=True) for x in pair),
            ]
        transfers.append(Transfer(port, cycle, tuple(content)))
    return sorted(transfers, key=lambda t: (t.cycle, t.port))
