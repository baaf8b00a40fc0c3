"""Rows of the comparison: machine x setting x workload, all in one form."""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from accel.arch import Arch
from accel.errors import UserError
from accel.rivals.energy import by_power, rival_energy_pJ
from accel.rivals.engine import default_plan, run_engine
from accel.rivals.workloads import SEEDED, Workload
from sim.rivals import Measured, measure, rival_class, rival_names, select_all
from sim.rivals.base import Config, Rival

ENGINE = "spatten"
OWN, MULTIPLIERS, BANDWIDTH = "own", "iso-multipliers", "iso-bandwidth"
SETTINGS = (OWN, MULTIPLIERS, BANDWIDTH)
Row = dict[str, Any]
Progress = Callable[[str, float], None]
Make = Callable[[str, Workload, Arch, int], list[Row]]


def machine_names() -> list[str]:
    """All rivals, and our engine last."""
    return [*rival_names(), ENGINE]


def check_machine(name: str) -> None:
    """Refuse an unknown machine.

    Raises:
        UserError: with the names there are.
    """
    if name != ENGINE:
        try:
            rival_class(name)
        except UserError as error:
            raise UserError(f"{error}, {ENGINE}") from None


def configured(rival: type[Rival], variant: str, setting: str, arch: Arch) -> Config:
    """A rival's configuration in a setting.

    ``own``: as published. ``iso-multipliers``: multipliers and clock of ``arch``, own memory. ``iso-bandwidth``: those
    and the memory of ``arch``.
    """
    own = rival.VARIANTS[variant]
    if setting == OWN:
        return own
    same: dict[str, Any] = {
        "multipliers": arch.qk.multipliers + arch.pv.multipliers,
        "clock_MHz": arch.clock_MHz,
        **rival.ISO,
    }
    if setting == BANDWIDTH:
        same |= {"memory": arch.memory.unit, "channels": arch.memory.channels, "bandwidth_GBps": None}
    return dataclasses.replace(own, **same)


def rival_row(rival: Rival, variant: str, setting: str, work: Workload, measured: Measured, arch: Arch) -> Row:
    """One row; keys as in docs/rivals.md."""
    config = rival.config
    power_W = getattr(config, "power_W", 0.0)
    energy = (
        by_power(power_W, measured.latency_s)
        if power_W
        else rival_energy_pJ(config, measured, work.tokens, work.head_dim, arch.technology_nm)
    )
    notes = [
        f"beside its multipliers: {number:g} products of {bits} bits per cycle" for number, bits in rival.helpers()
    ]
    notes += [rival.NOTE] if rival.NOTE else []
    if not config.channels:
        notes.append("tensors are on chip in its publication: traffic counted, not timed")
    if power_W:
        notes.append(f"energy = {power_W:g} W x time")
    return {
        "machine": variant,
        "setting": setting,
        "workload": work.name,
        "queries": measured.queries,
        "keys": work.tokens,
        "head_dim": work.head_dim,
        "multipliers": config.multipliers,
        "equivalent_multipliers": rival.equivalent_multipliers(),
        "clock_MHz": config.clock_MHz,
        "cycles": measured.cycles,
        "latency_s": measured.latency_s,
        "gops_dense_equivalent": measured.gops_dense_equivalent,
        "dram_bytes": measured.dram_bytes,
        "energy_pJ": energy["total"],
        "energy_parts_pJ": dict(energy),
        "kept_keys_share": measured.kept_keys_share,
        "kept_values_share": measured.kept_values_share,
        "output_error": measured.output_error,
        "bound": measured.bound,
        "stage_cycles": dict(measured.stage_cycles) | {"dram": measured.dram_cycles},
        "notes": "; ".join(notes),
    }


def engine_rows(work: Workload, arch: Arch, seed: int) -> list[Row]:
    """Our engine: one run, which is all three settings, since they are made equal to it."""
    works = work.works()
    plan = default_plan(work)
    done = run_engine(arch, work, plan, seed)
    latency_s = done.cycles / (arch.clock_MHz * 1e6)
    pairs = sum(one.pairs for one in works)
    notes = [f"{plan.key_msb_bits}{f'+{plan.key_lsb_bits}' if plan.key_lsb_bits else ''} bit keys, "
             f"{plan.value_bits} bit values, values {plan.local_values:g}, tokens {plan.tokens:g}"]  # fmt: skip
    if done.computed_queries_share < 1:
        notes.append(f"{100 * done.computed_queries_share:.0f} % of the queries are computed, the others are pruned")
    row = {
        "machine": ENGINE,
        "setting": OWN,
        "workload": work.name,
        "queries": sum(len(one.q) for one in works),
        "keys": work.tokens,
        "head_dim": work.head_dim,
        "multipliers": arch.qk.multipliers + arch.pv.multipliers,
        "equivalent_multipliers": float(arch.qk.multipliers + arch.pv.multipliers),
        "clock_MHz": arch.clock_MHz,
        "cycles": done.cycles,
        "latency_s": latency_s,
        "gops_dense_equivalent": sum(one.dense_operations for one in works) / latency_s / 1e9,
        "dram_bytes": done.dram_bytes,
        "energy_pJ": done.energy_pJ,
        "energy_parts_pJ": {"total": done.energy_pJ},
        "kept_keys_share": done.counts["keys"] / pairs,
        "kept_values_share": done.counts["values_used"] / pairs,
        "output_error": done.output_error,
        "bound": done.bound,
        "stage_cycles": {},
        "notes": "; ".join(notes),
    }
    return [row | {"setting": setting} for setting in SETTINGS]


def rival_rows(name: str, work: Workload, arch: Arch) -> Iterator[Row]:
    """Every variant as published, and the default one in the two equal settings. Selections are made once each.

    A row of an equal setting carries the machine's name instead of the variant's.
    """
    rival = rival_class(name)
    works = work.works()
    # What a variant is for shows on the seeded tensors; on networks the curves say more.
    shown = list(rival.VARIANTS.items()) if work.name in SEEDED else list(rival.VARIANTS.items())[:1]
    for at, (variant, own) in enumerate(shown):
        selections = select_all(rival(own), works)
        for setting in SETTINGS if at == 0 else (OWN,):
            machine = rival(configured(rival, variant, setting, arch))
            yield rival_row(
                machine, variant if setting == OWN else name, setting, work, measure(machine, works, selections), arch
            )


def machine_rows(name: str, work: Workload, arch: Arch, seed: int) -> list[Row]:
    """All rows of one machine on one workload."""
    return engine_rows(work, arch, seed) if name == ENGINE else list(rival_rows(name, work, arch))


def rows(
    names: Sequence[str], works: Sequence[Workload], arch: Arch, seed: int, tell: Progress, make: Make = machine_rows
) -> list[Row]:
    """All rows, workload by workload; ``make`` as :func:`machine_rows`, or what takes its rows from elsewhere."""
    found: list[Row] = []
    for at, work in enumerate(works):
        for place, name in enumerate(names):
            tell(f"{name} on {work.name}", (at + place / len(names)) / len(works))
            found += make(name, work, arch, seed)
    return found
