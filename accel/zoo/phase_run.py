"""One phase on one machine: cycles, how they were found, and the counters that energy is made of.

`SIMULATED` names the modes that have a program; a further mode moves there when the simulator has it and its lowering
gives pieces, and everything behind it stays as it is.
"""

import math
from dataclasses import dataclass
from typing import Any, Literal

from accel.arch import Arch
from accel.lower.zoo import Mode, Phase, Piece
from accel.lower.zoo.phase import WORD
from accel.units.modes import STATE_BITS
from accel.units.softmax import EXPONENT_BITS
from accel.units.topk import TOPK_EVENTS
from accel.zoo.attention_time import Simulated, added, scaled, simulate
from accel.zoo.memory_time import memory_time
from accel.zoo.program_time import bytes_of, simulate_decay, simulate_product, simulate_state
from workloads.kernels import DecayAttention, Gemm, SoftmaxAttention, StateUpdate

Label = Literal["simulated", "sampled", "modelled", "host", "refused"]
WAITING = 0.5
ADDRESS_BYTES = 8  # an entry of an address FIFO, as in sim.counts


@dataclass(frozen=True)
class PhaseRun:
    """All repeats of a phase. ``cycles``: 0 on the host. ``array``, ``memory``: cycles that arrays and memory would
    need alone. ``moved_bytes``: whole accesses, reads and writes.
    """

    phase: Phase
    label: Label
    cycles: float
    array: float
    memory: float
    moved_bytes: float
    counts: dict[str, Any]
    sample: str = ""

    @property
    def limit(self) -> str:
        """What the phase's time is made of; ``waiting`` where neither arrays nor memory explain half of it."""
        if not self.cycles:
            return "-"
        if max(self.array, self.memory) < WAITING * self.cycles:
            return "waiting"
        return "memory" if self.memory > self.array else "arrays"


def run_phase(arch: Arch, phase: Phase) -> PhaseRun:
    """Time and counters of a phase, simulated where its mode has a program and modelled elsewhere."""
    return (_simulated if phase.mode in SIMULATED and phase.pieces else _modelled)(arch, phase)


def simulate_piece(arch: Arch, piece: Piece) -> Simulated:
    """One piece of a phase."""
    match piece.kernel:
        case SoftmaxAttention():
            return simulate(arch, piece.kernel)
        case DecayAttention():
            return simulate_decay(arch, piece.kernel)
        case Gemm():
            return simulate_product(arch, piece.kernel, piece.width, piece.longest)
        case StateUpdate():
            return simulate_state(arch, piece.kernel)


def _simulated(arch: Arch, phase: Phase) -> PhaseRun:
    cycles, counted, samples = 0.0, None, []
    for piece in phase.pieces:
        found = simulate_piece(arch, piece)
        times = piece.times * phase.repeats
        cycles += found.cycles * times
        part = scaled(found.counts, times)
        counted = part if counted is None else added(counted, part)
        samples += [found.sample] if found.sample else []
    assert counted is not None
    if phase.mode == "linear":  # its traffic is known in closed form, so a sample's need not stand for it
        counted = counted | _traffic(phase, counted)
    moved = bytes_of(counted)
    label: Label = "sampled" if samples else "simulated"
    needs = counted["needs"]
    # A state's lines leave every other cycle free, in which the arrays cannot take another.
    arrays = phase.array_cycles * phase.repeats if phase.mode == "state" else needs["arrays"]
    return PhaseRun(phase, label, cycles, arrays, needs["memory"], moved, counted, "; ".join(samples))


def _traffic(phase: Phase, counted: dict[str, Any]) -> dict[str, Any]:
    """Counters of a product's traffic from its streams, and accesses to match."""
    before = bytes_of(counted)
    wanted = phase.moved_bytes * phase.repeats
    if before == wanted:
        return {}
    write = sum(stream.write + stream.write_again for stream in phase.streams) * phase.repeats
    read = dict.fromkeys(counted["dram_read_bytes"], 0.0)
    for stream in phase.streams:
        name = "v" if stream.kind in ("weights", "cache") else "q"
        read[name] += (stream.read + stream.read_again) * phase.repeats
    by = {name: scaled(counted[name], wanted / before) for name in ("dram_commands", "crossbar_bytes")}
    return {"dram_read_bytes": read, "dram_write_bytes": write, **by}


def _modelled(arch: Arch, phase: Phase) -> PhaseRun:
    memory = memory_time(arch, phase.streams)
    counted = _counts(arch, phase, memory.activations, memory.refreshes, memory.read_bytes, memory.write_bytes)
    on_engine = phase.mode not in ("host", "refused")
    cycles = math.ceil(max(phase.array_cycles, memory.cycles)) if on_engine else 0
    label: Label = "modelled" if on_engine else "refused" if phase.mode == "refused" else "host"
    return PhaseRun(
        phase, label, cycles * phase.repeats, phase.array_cycles * phase.repeats, memory.cycles * phase.repeats,
        (memory.read_bytes + memory.write_bytes) * phase.repeats, scaled(counted, phase.repeats),
    )  # fmt: skip


def _counts(arch: Arch, phase: Phase, act: float, ref: float, read: int, write: int) -> dict[str, Any]:
    """The counters of docs/cost.md for one repeat of a modelled phase."""
    engine = phase.mode not in ("host", "refused")
    weights = sum(stream.read for stream in phase.streams if stream.kind == "weights")
    values = sum(stream.read + stream.read_again for stream in phase.streams if stream.kind in ("cache", "state"))
    products = phase.qk_macs + phase.pv_macs + phase.again_macs
    qk = phase.qk_macs * products / (phase.qk_macs + phase.pv_macs) if phase.qk_macs else 0
    word = WORD / 8
    # In state mode a line is read and written back; its halves lie in the two SRAMs.
    half = STATE_BITS / 2 / 8
    updates = qk * half if phase.mode == "state" else 0
    return {
        "rows": 0,
        "dram_read_bytes": {
            "q": max(0, read - weights - values), "k_msb": 0, "k_lsb": 0, "v": values, "weights": weights,
        },
        "dram_write_bytes": write,
        "dram_commands": {"act": act, "ref": ref},
        "macs": {"qk": qk if engine else 0, "pv": (products - qk) if engine else 0},
        "sram_read_bytes": {
            "k": updates if phase.mode == "state" else qk * word,
            "v": (products - qk) * word if engine else 0,
            "score": phase.normalisations * EXPONENT_BITS / 8 if phase.mode == "decay" else 0,
        },
        "sram_write_bytes": {
            "k": updates,
            "v": updates + (weights + values if engine else 0),
            "score": phase.normalisations * EXPONENT_BITS / 8 if phase.mode == "decay" else 0,
        },
        "softmax": {
            "exponentials": phase.exponentials if engine else 0, "reciprocals": 0,
            "normalisations": phase.normalisations if engine else 0,
        },
        "topk": dict.fromkeys(TOPK_EVENTS, 0),
        "importance_updates": 0,
        "output_values": phase.output_values if engine else 0,
        "crossbar_bytes": {
            "address": read / arch.memory_spec.access_bytes * ADDRESS_BYTES if engine else 0,
            "data": read if engine else 0,
        },
    }  # fmt: skip


SIMULATED: tuple[Mode, ...] = ("softmax", "decay", "linear", "state")
"""Modes with a program. A phase of theirs without pieces (totals only, states that come from memory) is modelled."""


def energy_counts(runs: list[PhaseRun]) -> dict[str, Any]:
    """The sum of all phases' counters, only those that energy asks for."""
    total: dict[str, Any] = {}
    for run in runs:
        wanted = {name: run.counts[name] for name in ENERGY_COUNTS}
        wanted["dram_commands"] = {name: wanted["dram_commands"][name] for name in ("act", "ref")}
        wanted["topk"] = {name: wanted["topk"][name] for name in TOPK_EVENTS}
        total = added(total, wanted) if total else wanted
    return total


ENERGY_COUNTS = (
    "rows", "dram_read_bytes", "dram_write_bytes", "dram_commands", "macs", "sram_read_bytes", "sram_write_bytes",
    "softmax", "topk", "importance_updates", "output_values", "crossbar_bytes",
)  # fmt: skip
