"""One row of the zoo: a configuration on a machine, from its kernels to bytes, time, energy, error and gains.

A row is a plain dictionary that depends on nothing but the configuration, the machine and the code.
"""

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

from accel.arch import Arch
from accel.cost.energy import run_energy
from accel.lower.zoo import ENGINE_BITS, Phase, lower_call
from accel.zoo.error import BOUND, measure
from accel.zoo.phase_run import PhaseRun, energy_counts, run_phase
from accel.zoo.techniques import measure_techniques
from workloads.systems import Call, Configuration, System
from workloads.systems.totals import totals_of

FORMAT = 1
BASELINES = {"fp32": 32, "fp16": 16, "int8": 8}
"""Bits per number of an unpruned machine that moves every tensor once, as the closed forms say."""
UNBUILT = (
    "not built: products with the best of weights, x or outputs resident in SRAMs of this size; "
    "a job of this engine takes one record of x and keeps no sums of several rows"
)


def run_row(
    system: System, one: Configuration, arch: Arch, tell: Callable[[str, float], None] | None = None
) -> dict[str, Any]:
    """Lower, time, cost and measure one configuration; ``tell`` hears which kernel is at hand, and the share done.

    Raises:
        UserError: a machine whose memory or technology has no figures.
    """
    calls = one.calls()
    phases = [lower_call(call, arch) for call in calls]
    runs = []
    for at, found in enumerate(phases):
        if tell:
            tell(calls[at].label, at / len(phases))
        runs.append([run_phase(arch, phase) for phase in found])
    every = [run for found in runs for run in found]
    cycles = math.ceil(sum(run.cycles for run in every))
    energy = run_energy(arch, energy_counts(every), cycles).energy_pJ
    moved = {"mixer": _moved(calls, runs, mixer=True), "whole": sum(run.moved_bytes for run in every)}
    totals = totals_of(calls)
    f = totals.mixer_share
    techniques = measure_techniques(system, calls, runs, arch)
    unbuilt = {"mixer": _moved(calls, runs, mixer=True, unbuilt=True), "whole": sum(map(_unbuilt, every))}
    return {
        "format": FORMAT,
        "name": one.name,
        "system": system.name,
        "title": system.title,
        "about": system.about,
        "computes": list(system.computes),
        "seed_system": system.seed,
        "paper": system.paper,
        "family": system.family,
        "unit": one.unit,
        "sources": {key: system.sources[key] for key in one.sources},
        "confidence": one.confidence,
        "confidence_of": dict(one.confidence_of),
        "arch": arch.name,
        "macs": sum(call.times * call.kernel.macs for call in calls),
        "host_macs": sum(phase.host_macs * phase.repeats for found in phases for phase in found),
        "again_macs": sum(phase.again_macs * phase.repeats for found in phases for phase in found),
        "closed_form_bytes": sum(sum(call.dram_bytes(ENGINE_BITS).values()) for call in calls),
        "dram_bytes": moved["whole"],
        "dram_bytes_mixer": moved["mixer"],
        "cycles": cycles,
        "latency_s": cycles / (arch.clock_MHz * 1e6),
        "time": _time_label(every),
        "time_of": _cycles_by_label(every),
        "energy_pJ": energy,
        "baseline_bytes": {name: _baseline(calls, bits) for name, bits in BASELINES.items()},
        "ratio": {name: _ratios(calls, bits, moved) for name, bits in BASELINES.items()},
        "unbuilt": {
            "said": UNBUILT,
            "dram_bytes": unbuilt["whole"],
            "ratio": {name: _ratios(calls, bits, unbuilt) for name, bits in BASELINES.items()},
        },
        "mixer_share": f,
        "ceiling": 1 / (1 - f) if f < 1 else None,
        "lowering": _summary(every),
        "refused": [f"{run.phase.name}: {run.phase.decision}" for run in every if run.label == "refused"],
        "host": [f"{run.phase.name}: {run.phase.decision}" for run in every if run.label == "host"],
        "error": _errors(calls, arch),
        "together": techniques.pop("together"),
        "techniques": techniques,
        "phases": [_phase(call, run) for call, found in zip(calls, runs, strict=True) for run in found],
        "notes": [*system.notes, *one.notes],
        "uncertain": list(system.uncertain),
    }


def _unbuilt(run: PhaseRun) -> float:
    """Bytes of a phase under the best tiling that is not built."""
    best = run.phase.unbuilt_bytes
    return run.moved_bytes if best is None else min(run.moved_bytes, best * run.phase.repeats)


def _moved(calls: Sequence[Call], runs: Sequence[list[PhaseRun]], *, mixer: bool, unbuilt: bool = False) -> float:
    return sum(
        _unbuilt(run) if unbuilt else run.moved_bytes
        for call, found in zip(calls, runs, strict=True)
        if (call.role == "mixer") == mixer
        for run in found
    )


def _baseline(calls: Sequence[Call], bits: int) -> dict[str, int]:
    sizes = {"mixer": 0, "whole": 0}
    for call in calls:
        size = sum(call.dram_bytes(bits).values())
        sizes["whole"] += size
        sizes["mixer"] += size if call.role == "mixer" else 0
    return sizes


def _ratios(calls: Sequence[Call], bits: int, moved: dict[str, float]) -> dict[str, float | None]:
    """Baseline bytes over the engine's, unpruned; None where the engine moves nothing."""
    return {part: size / moved[part] if moved[part] else None for part, size in _baseline(calls, bits).items()}


def _time_label(runs: Sequence[PhaseRun]) -> str:
    """How the row's time was found, from the phases that have any; a row with several ways says all."""
    order = ("simulated", "sampled", "modelled")
    found = [label for label in order if any(run.label == label and run.cycles for run in runs)]
    return " + ".join(found) or "host"


def _cycles_by_label(runs: Sequence[PhaseRun]) -> dict[str, float]:
    cycles: Counter[str] = Counter()
    for run in runs:
        cycles[run.label] += run.cycles  # type: ignore[assignment]
    return dict(sorted(cycles.items()))


def _summary(runs: Sequence[PhaseRun]) -> str:
    """Modes and in how many kernels, in the order in which they first come."""
    counted = Counter(run.phase.mode for run in runs)
    return ", ".join(f"{mode} {count}" for mode, count in counted.items())


def _errors(calls: Sequence[Call], arch: Arch) -> dict[str, Any]:
    """Error of every kernel's golden against float64, and the worst."""
    found = [(call.label, measured) for call in calls if (measured := measure(call.kernel, arch)) is not None]
    worst = max(found, key=lambda one: one[1].error, default=None)
    return {
        "worst": worst[1].error if worst else None,
        "worst_kernel": worst[0] if worst else None,
        "bound": BOUND,
        "kernels": [
            {"kernel": label, "error": one.error, "measured_on": one.shape, "why": one.why} for label, one in found
        ],
    }


def _phase(call: Call, run: PhaseRun) -> dict[str, Any]:
    phase: Phase = run.phase
    return {
        "name": phase.name,
        "role": call.role,
        "kernel": call.kernel.called,
        "mode": phase.mode,
        "time": run.label,
        "sample": run.sample,
        "decision": phase.decision,
        "repeats": phase.repeats,
        "stays": list(phase.stays),
        "tiles": phase.tiles,
        "double_buffered": phase.double_buffered,
        "macs": {"qk": phase.qk_macs, "pv": phase.pv_macs, "again": phase.again_macs, "host": phase.host_macs},
        "closed_form_bytes": phase.once_bytes * phase.repeats,
        "lowered_bytes": phase.moved_bytes * phase.repeats,
        "dram_bytes": run.moved_bytes,
        "cycles": run.cycles,
        "limit": run.limit,
        "array_cycles": run.array,
        "memory_cycles": run.memory,
        "streams": [asdict(stream) for stream in phase.streams],
    }
