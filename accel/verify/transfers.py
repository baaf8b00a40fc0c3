"""Every transfer of every boundary: what was predicted against what the RTL's probes saw."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from accel.arch import Arch
from accel.verify.boundaries import Content, Transfer, expected_transfers
from accel.verify.compare import Mismatch, Prediction
from accel.verify.engine import EngineRun
from rtl.probes import ProbeField
from sim.dram_state import flat_bank, map_address, new_dram

Fields = Mapping[str, Mapping[str, ProbeField]]


@dataclass
class Tally:
    """Transfers of one boundary that were compared, and those that differ in value and in cycle; one that is missing,
    or one too many, differs in both.
    """

    transfers: int = 0
    values: int = 0
    cycles: int = 0

    def add(self, other: "Tally") -> None:
        """Counts of another program."""
        self.transfers += other.transfers
        self.values += other.values
        self.cycles += other.cycles


def unpack(word: int, field: ProbeField) -> int | list[int]:
    """The number, or the numbers of all lanes, that a port carries."""
    mask, half = (1 << field.bits) - 1, 1 << (field.bits - 1)
    numbers = [word >> lane * field.bits & mask for lane in range(field.lanes)]
    if field.signed:
        numbers = [number - (number >= half) * 2 * half for number in numbers]
    return numbers if field.lanes > 1 else numbers[0]


def pack(value: Any, field: ProbeField) -> int:
    """Inverse of :func:`unpack`; lanes that are not given are 0."""
    mask = (1 << field.bits) - 1
    numbers = value if isinstance(value, list) else [value]
    return sum((int(number) & mask) << lane * field.bits for lane, number in enumerate(numbers))


def shown(transfers: Mapping[str, Sequence[Transfer]], fields: Fields) -> dict[str, list[tuple[int, list[int]]]]:
    """Expected transfers as the bench shows them next to the probes (:attr:`accel.verify.engine.Case.expected`); what
    is not predicted is shown as 0.
    """
    return {
        name: [(t, [pack(content.get(key, 0), field) for key, field in fields[name].items()]) for t, content in of]
        for name, of in transfers.items()
    }


def _content(words: Sequence[int], fields: Mapping[str, ProbeField], wanted: Content) -> Content:
    """Of what a probe saw, that which is predicted: lanes beyond those carry no meaning."""
    found: Content = {}
    for (name, field), word in zip(fields.items(), words, strict=True):
        if name in wanted:
            value = unpack(word, field)
            right = wanted[name]
            if isinstance(right, list):
                value = (value if isinstance(value, list) else [value])[: len(right)]
            found[name] = value
    return found


def _reads(arch: Arch, prediction: Prediction, run: EngineRun) -> dict[str, tuple[list[Transfer], list[Transfer]]]:
    """Both sides of the read ports: predicted and seen, ordered by cycle and channel."""
    times = prediction.timing.times
    dram = new_dram(arch.memory_spec, arch.memory_spec.channels)
    taken = [
        Transfer(int(t), {"channel": int(channel), "bank": int(bank), "row": int(row)})
        for t, channel, bank, row in times.taken
    ]
    seen = []
    for t, channel, address in run.taken:
        of, pseudo, group, bank, row, _ = map_address(dram, address)
        where = channel if channel == of else f"{channel}, though its address is of {of}"
        seen.append(Transfer(t, {"channel": where, "bank": int(flat_bank(dram, pseudo, group, bank)), "row": int(row)}))
    given = [Transfer(int(entry["cycle"]), {"channel": int(entry["channel"])}) for entry in times.given]

    def ordered(transfers: list[Transfer]) -> list[Transfer]:
        return sorted(transfers, key=lambda transfer: (transfer.cycle, str(transfer.content["channel"])))

    return {
        "read_taken": (ordered(taken), ordered(seen)),
        "read_given": (ordered(given), ordered([Transfer(t, {"channel": channel}) for t, channel in run.given])),
    }


def compare_transfers(
    prediction: Prediction, run: EngineRun, fields: Fields, command: str = ""
) -> tuple[dict[str, Tally], list[Mismatch]]:
    """Counts of each boundary, and the first difference of each that has one, in order of cycle.

    Args:
        run: with probes, on the simulator's memory. fields: :func:`rtl.probes.probe_fields`.
    """
    sides = _reads(prediction.case.arch, prediction, run)
    for name, expected in expected_transfers(prediction).items():
        seen = []
        for number, (t, words) in enumerate(run.transfers[name]):
            wanted = expected[number].content if number < len(expected) else {}
            seen.append(Transfer(t, _content(words, fields[name], wanted)))
        sides[name] = (expected, seen)
    tallies, found = {}, []
    for name, (expected, seen) in sides.items():
        tallies[name], mismatch = _compare(name, expected, seen, prediction.case.name, command)
        found += mismatch
    return tallies, sorted(found, key=lambda mismatch: mismatch.cycle or 0)


def _compare(
    name: str, expected: Sequence[Transfer], seen: Sequence[Transfer], case: str, command: str
) -> tuple[Tally, list[Mismatch]]:
    missing = abs(len(expected) - len(seen))
    tally, first = Tally(max(len(expected), len(seen)), missing, missing), None
    for number, (right, found) in enumerate(zip(expected, seen, strict=False)):
        tally.cycles += right.cycle != found.cycle
        tally.values += right.content != found.content
        if first is None and right != found:
            first = Mismatch(case, name, number, right.cycle, *_difference(right, found), command)
    if first is None and missing:
        number, (longer, shorter) = min(len(expected), len(seen)), (expected, seen)
        if len(seen) > len(expected):
            first = Mismatch(case, name, number, seen[number].cycle, "no transfer", seen[number].content, command)
        else:
            first = Mismatch(case, name, number, longer[len(shorter)].cycle, longer[number].content, "none", command)
    return tally, [first] if first else []


def _difference(right: Transfer, found: Transfer) -> tuple[str, str]:
    """What differs, on both sides: the cycle, and fields of the content."""
    keys = [key for key in right.content if right.content[key] != found.content.get(key)]

    def text(transfer: Transfer) -> str:
        cycle = [f"cycle {transfer.cycle}"] if right.cycle != found.cycle else []
        return ", ".join(cycle + [f"{key} = {transfer.content.get(key)}" for key in keys])

    return text(right), text(found)
