"""An independent look at a command log: is every command allowed where it is?

Written from the constraint table of the standards, not from the controller: it keeps every command of the past and
measures distances, while the controller keeps ready times. Commands are rows (tick, channel, command, bank, row).
"""

from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np

from accel.memory import MemorySpec
from sim.dram_state import ACT, PRE, PREA, RD, REF, WR


class Rule(NamedTuple):
    """`later` comes at least `distance(spec)` after the `window`-th last `earlier` in the same `scope`."""

    name: str
    scope: str
    earlier: tuple[int, ...]
    later: tuple[int, ...]
    distance: Callable[[MemorySpec], int]
    window: int = 1


RULES = (
    Rule("RCDRD", "bank", (ACT,), (RD,), lambda s: s.RCDRD),
    Rule("RCDWR", "bank", (ACT,), (WR,), lambda s: s.RCDWR),
    Rule("RAS", "bank", (ACT,), (PRE, PREA), lambda s: s.RAS),
    Rule("RC", "bank", (ACT,), (ACT, REF), lambda s: s.RC),
    Rule("RP", "bank", (PRE,), (ACT, REF), lambda s: s.RP),
    Rule("RPab", "bank", (PREA,), (ACT, REF), lambda s: s.RPab),
    Rule("RTP", "bank", (RD,), (PRE, PREA), lambda s: s.RTP),
    Rule("WR", "bank", (WR,), (PRE, PREA), lambda s: s.CWL + s.burst_cycles + s.WR),
    Rule("RFC", "bank", (REF,), (ACT, REF), lambda s: s.RFC),
    Rule("RRD_L", "group", (ACT,), (ACT,), lambda s: s.RRD_L),
    Rule("CCD_L", "group", (RD,), (RD,), lambda s: s.CCD_L),
    Rule("CCD_L write", "group", (WR,), (WR,), lambda s: s.CCD_L),
    Rule("WTR_L", "group", (WR,), (RD,), lambda s: s.CWL + s.burst_cycles + s.WTR_L),
    Rule("RRD_S", "pseudo", (ACT,), (ACT,), lambda s: s.RRD_S),
    Rule("FAW", "pseudo", (ACT,), (ACT,), lambda s: s.FAW, window=4),
    Rule("CCD_S", "pseudo", (RD,), (RD,), lambda s: s.CCD_S),
    Rule("CCD_S write", "pseudo", (WR,), (WR,), lambda s: s.CCD_S),
    Rule("WTR_S", "pseudo", (WR,), (RD,), lambda s: s.CWL + s.burst_cycles + s.WTR_S),
    Rule("RTW", "pseudo", (RD,), (WR,), lambda s: s.CL + s.burst_cycles + 2 - s.CWL),
)
ROW_COMMANDS = (ACT, PRE, PREA, REF)


def slacks(spec: MemorySpec, commands: np.ndarray) -> dict[str, int]:
    """Least spare ticks seen for each rule that ever applied, and for the command and data buses; negative: broken."""
    spare: dict[str, int] = {}

    def note(name: str, ticks: int) -> None:
        spare[name] = min(ticks, spare.get(name, ticks))

    end = {command: spec.act_bus_cycles - 1 if command == ACT else 0 for command in range(6)}
    past: dict[tuple[int, str, int, int], list[int]] = defaultdict(list)
    bus_free: dict[tuple[int, str], int] = defaultdict(int)
    data_free: dict[tuple[int, int], int] = defaultdict(int)
    for tick, channel, command, bank, _ in _in_order(commands):
        per_pc = spec.banks_per_channel // spec.pseudo_channels
        pseudo, group = bank // per_pc, bank // spec.banks_per_group
        banks = range(pseudo * per_pc, (pseudo + 1) * per_pc) if command in (PREA, REF) else (bank,)
        for rule in RULES:
            if command not in rule.later:
                continue
            places: Iterable[int] = banks if rule.scope == "bank" else (group if rule.scope == "group" else pseudo,)
            for place in places:
                for earlier in rule.earlier:
                    ticks = past[channel, rule.scope, place, earlier]
                    if len(ticks) >= rule.window:
                        gap = tick + end[command] - (ticks[-rule.window] + end[earlier])
                        note(rule.name, gap - rule.distance(spec))
        for one in banks:
            past[channel, "bank", one, command].append(tick)
        past[channel, "group", group, command].append(tick)
        past[channel, "pseudo", pseudo, command].append(tick)

        bus = "row" if command in ROW_COMMANDS and spec.command_buses == 2 else "column or only"
        note("command bus", tick - bus_free[channel, bus])
        bus_free[channel, bus] = tick + 1 + end[command]
        if command in (RD, WR):
            start = tick + (spec.CL if command == RD else spec.CWL)
            note("data bus", start - data_free[channel, pseudo])
            data_free[channel, pseudo] = start + spec.burst_cycles
    return spare


def violations(spec: MemorySpec, commands: np.ndarray) -> list[str]:
    """Everything wrong with the log: rules broken, and commands to banks in the wrong state."""
    wrong = [f"{name} short by {-ticks}" for name, ticks in slacks(spec, commands).items() if ticks < 0]
    per_pc = spec.banks_per_channel // spec.pseudo_channels
    open_row: dict[tuple[int, int], int] = {}
    for tick, channel, command, bank, row in _in_order(commands):
        where = (channel, bank)
        all_banks = [(channel, bank // per_pc * per_pc + i) for i in range(per_pc)]
        if command == ACT:
            if where in open_row:
                wrong.append(f"tick {tick}: ACT of an open bank")
            open_row[where] = row
        elif command == PRE:
            if open_row.pop(where, None) is None:
                wrong.append(f"tick {tick}: PRE of a closed bank")
        elif command == PREA:
            for one in all_banks:
                open_row.pop(one, None)
        elif command == REF:
            if any(one in open_row for one in all_banks):
                wrong.append(f"tick {tick}: REF with an open bank")
        elif open_row.get(where) != row:
            wrong.append(f"tick {tick}: column command to row {row}, open is {open_row.get(where)}")
    return wrong


def _in_order(commands: np.ndarray) -> list[list[int]]:
    """By tick; within a tick and channel as logged."""
    return commands[np.argsort(commands[:, 0], kind="stable")].tolist()
