"""What is kept for each DRAM channel: one NumPy record per channel, and the address map.

`CHANNEL` is the dtype of that record. All fields are int64, sized for the largest memory so that the compiled
controller (`sim/dram.py`) is the same for every one of them. Compiled code takes `state.channel[i]` as a reference
without reference counts, which is what makes a tick cheap.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from accel.errors import UserError
from accel.memory import MAX_BANKS_PER_CHANNEL, XOR_FOLDS, MemorySpec
from sim.timing import timing_kernel

READ, WRITE = 0, 1
NONE = -1
FAR = 1 << 60  # a tick that never comes

MAX_PSEUDO_CHANNELS = 8
MAX_QUEUED = 512  # reads and writes of one channel together
MAX_MAP_FIELDS = 16
TICKET_RING = 2048  # how many tickets back `done_tick` can look, per channel
ADDRESS_BITS = 62

ACT, PRE, PREA, REF, RD, WR = range(6)
COMMAND_NAMES = ("ACT", "PRE", "PREA", "REF", "RD", "WR")
ROW_HIT, ROW_MISS, ROW_CONFLICT = range(3)
CH, PC, BG, BA, ROW, COL = range(6)
_COORDINATES = {"ch": CH, "pc": PC, "bg": BG, "ba": BA, "ro": ROW, "co": COL}


def _fields(*names: str, shape: int | tuple[int, ...] = ()) -> list[tuple[str, type, int | tuple[int, ...]]]:
    return [(name, np.int64, shape) for name in names]


COUNTERS = ("act", "pre", "rd", "wr", "ref", "row_hit", "row_miss", "row_conflict", "data_busy_ticks")

CHANNEL = np.dtype(
    [
        # Geometry and address map (row i: coordinate, lowest bit and bits in the access number, bit in the coordinate).
        *_fields("access_shift", "ch_bits", "pc_bits", "bg_bits", "ba_bits", "hash_shift", "map_fields"),
        *_fields("pseudo_channels", "banks", "queue_depth", "write_queue_depth", "write_high", "write_low"),
        *_fields("shared_bus", "act_bus", "burst", "refresh_interval"),
        *_fields("map", shape=(MAX_MAP_FIELDS, 4)),
        # Least distances in ticks between the starts of two commands; _pc, _bg: in one pseudo channel, one bank group.
        *_fields("act_to_pre", "act_to_act", "act_to_act_pc", "act_to_act_bg", "act_to_fifth_act", "act_to_ref_extra"),
        *_fields("pre_to_act", "prea_to_act", "ref_to_act", "column_to_column_pc", "column_to_column_bg"),
        *_fields("rd_to_pre", "rd_to_wr", "wr_to_pre", "wr_to_rd_pc", "wr_to_rd_bg"),
        *_fields("act_to_column", "column_to_data_end", shape=2),  # [kind]
        # The controller. `next_column`, `next_row`: no such command can go out before; `bus_free`: of ACT's bus.
        *_fields("mode", "tickets", "free_slot", "bus_free", "next_column", "next_row", "last_tick"),
        *_fields("next_refresh", "refresh_left"),  # refresh_left: pseudo channels still to be refreshed
        *_fields("queued", shape=2),  # [kind]
        # One bit per bank: has a queued request for its open row; is closed and has one; is open and has one for
        # another row; was opened for a request that still waits for its column command.
        *_fields("open_wanted", "closed_wanted", "other_wanted", shape=2),  # [kind]
        *_fields("activated"),
        # What went out in the last tick, for observers: command (or NONE), bank of the channel, row.
        *_fields("column_command", "column_bank", "column_row", "row_command", "row_bank", "row_row"),
        # Events since the start; data_busy_ticks sums over the pseudo channels.
        *_fields(*COUNTERS),
        # Banks. `first_use`: ROW_MISS or ROW_CONFLICT until the first column command of a row, then ROW_HIT.
        *_fields("open_row", "first_use", "closed_for_other", shape=MAX_BANKS_PER_CHANNEL),
        *_fields("activated_ticket", "activated_kind", "act_ready", "pre_ready", shape=MAX_BANKS_PER_CHANNEL),
        *_fields("column_ready", shape=(2, MAX_BANKS_PER_CHANNEL)),  # [kind, bank]
        *_fields("group_act_ready", shape=MAX_BANKS_PER_CHANNEL),
        *_fields("group_column_ready", shape=(2, MAX_BANKS_PER_CHANNEL)),  # [kind, bank group of the channel]
        *_fields("pc_act_ready", "oldest_act", shape=MAX_PSEUDO_CHANNELS),
        *_fields("pc_column_ready", shape=(2, MAX_PSEUDO_CHANNELS)),
        *_fields("last_acts", shape=(MAX_PSEUDO_CHANNELS, 4)),
        # Queues, one list of slots per kind and bank, oldest first; NONE ends them.
        *_fields("head", "tail", "first_hit", "first_other", shape=(2, MAX_BANKS_PER_CHANNEL)),
        *_fields("slot_next", "slot_prev", "slot_row", "slot_ticket", "slot_tick", shape=MAX_QUEUED),
        *_fields("done", shape=TICKET_RING),  # [ticket mod TICKET_RING] tick in which its data ends, or NONE
    ]
)


Channel = np.record  # for type hints: one CHANNEL record, handed around by reference in compiled code


class DramState(NamedTuple):
    """All channels of one memory: `channel` is an array of `CHANNEL` records."""

    channel: np.ndarray


def new_dram(spec: MemorySpec, channels: int | None = None) -> DramState:
    """A memory at rest with all banks closed at tick 0; `channels` overrides the spec's. Raises UserError."""
    if channels is not None:
        spec = spec.with_channels(channels)
    slots = spec.queue_depth + spec.write_queue_depth
    if slots > MAX_QUEUED or spec.pseudo_channels > MAX_PSEUDO_CHANNELS:
        raise UserError(
            f"memory '{spec.name}': the controller takes {MAX_QUEUED} queued requests and {MAX_PSEUDO_CHANNELS} pseudo "
            f"channels per channel, not {slots} and {spec.pseudo_channels}"
        )
    channel = np.zeros(spec.channels, dtype=CHANNEL)
    for field, value in _constants(spec).items():
        channel[field] = value
    for field in ("column_command", "row_command", "open_row", "head", "tail", "first_hit", "first_other", "done"):
        channel[field] = NONE
    channel["next_column"] = channel["next_row"] = FAR
    channel["next_refresh"] = spec.REFI - 1  # in the REFI-th tick
    channel["last_tick"] = -1
    channel["last_acts"] = -FAR
    channel["slot_next"] = np.arange(1, MAX_QUEUED + 1)  # all slots are in the list of free ones
    return DramState(channel)


def _constants(spec: MemorySpec) -> dict[str, object]:
    """The fields that never change. JEDEC counts from the end of a command, and an ACT may take several clocks."""
    late = spec.act_bus_cycles - 1
    rows, hash_shift = _address_rows(spec)
    return {
        "access_shift": spec.access_bytes.bit_length() - 1,
        "ch_bits": spec.channels.bit_length() - 1,
        "pc_bits": spec.pseudo_channels.bit_length() - 1,
        "bg_bits": spec.bank_groups.bit_length() - 1,
        "ba_bits": spec.banks_per_group.bit_length() - 1,
        "hash_shift": hash_shift,
        "map_fields": len(rows),
        "map": np.array(rows + [(0, 0, 0, 0)] * (MAX_MAP_FIELDS - len(rows))),
        "pseudo_channels": spec.pseudo_channels,
        "banks": spec.banks_per_channel,
        "queue_depth": spec.queue_depth,
        "write_queue_depth": spec.write_queue_depth,
        "write_high": spec.write_high_watermark,
        "write_low": spec.write_low_watermark,
        "shared_bus": int(spec.command_buses == 1),
        "act_bus": spec.act_bus_cycles,
        "burst": spec.burst_cycles,
        "refresh_interval": spec.REFI,
        "act_to_pre": spec.RAS + late,
        "act_to_act": spec.RC,
        "act_to_act_pc": spec.RRD_S,
        "act_to_act_bg": spec.RRD_L,
        "act_to_fifth_act": spec.FAW,
        "act_to_ref_extra": late,  # a REF has to wait this much longer than an ACT, which ends later itself
        "pre_to_act": spec.RP - late,
        "prea_to_act": spec.RPab - late,
        "ref_to_act": spec.RFC - late,
        "column_to_column_pc": spec.CCD_S,
        "column_to_column_bg": spec.CCD_L,
        "rd_to_pre": spec.RTP,
        "rd_to_wr": spec.CL + spec.burst_cycles + 2 - spec.CWL,  # two idle clocks to turn the data bus around
        "wr_to_pre": spec.CWL + spec.burst_cycles + spec.WR,
        "wr_to_rd_pc": spec.CWL + spec.burst_cycles + spec.WTR_S,
        "wr_to_rd_bg": spec.CWL + spec.burst_cycles + spec.WTR_L,
        "act_to_column": (spec.RCDRD + late, spec.RCDWR + late),
        "column_to_data_end": (spec.CL + spec.burst_cycles, spec.CWL + spec.burst_cycles),
    }


def _address_rows(spec: MemorySpec) -> tuple[list[tuple[int, int, int, int]], int]:
    """(rows of the `map` field, `hash_shift`); the row number takes all address bits that are left."""
    rows = []
    low = 0
    hash_shift = NONE
    filled = dict.fromkeys(_COORDINATES, 0)
    for field, field_bits in spec.address_fields():
        bits = ADDRESS_BITS - low if field == "ro" else field_bits
        rows.append((_COORDINATES[field], low, bits, filled[field]))
        filled[field] += bits
        low += bits
        if field in ("ch", "pc") and spec.address_hashed:
            hash_shift = low
    if len(rows) > MAX_MAP_FIELDS:
        raise UserError(f"memory '{spec.name}': address_map has {len(rows)} fields, at most {MAX_MAP_FIELDS}")
    return rows, hash_shift


def _lowest_bit(typing_context: Any, word: Any) -> Any:
    def count_trailing_zeros(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.cttz(arguments[0], ir.Constant(ir.IntType(1), 1))

    return types.int64(types.int64), count_trailing_zeros


# Number of the lowest bit set in a non-zero int64, in one machine instruction (compiled code only).
lowest_bit: Callable[[int], int] = intrinsic(_lowest_bit)  # type: ignore[assignment]


@timing_kernel
def map_address(state: DramState, address: int) -> tuple[int, int, int, int, int, int]:
    """(channel, pseudo channel, bank group, bank in the group, row, column) of a byte address >= 0."""
    c = state.channel[0]  # the map is the same in all of them
    access = address >> c.access_shift
    channel = pseudo = group = bank = row = column = 0
    for i in range(c.map_fields):
        part = ((access >> c.map[i, 1]) & ((1 << c.map[i, 2]) - 1)) << c.map[i, 3]
        which = c.map[i, 0]
        if which == CH:
            channel |= part
        elif which == PC:
            pseudo |= part
        elif which == BG:
            group |= part
        elif which == BA:
            bank |= part
        elif which == ROW:
            row |= part
        else:
            column |= part
    if c.hash_shift != NONE:
        upper = access >> c.hash_shift
        fold = 0
        for _ in range(XOR_FOLDS):
            fold ^= upper
            upper >>= c.ch_bits + c.pc_bits
        channel ^= fold & ((1 << c.ch_bits) - 1)
        pseudo ^= (fold >> c.ch_bits) & ((1 << c.pc_bits) - 1)
        bank ^= row & ((1 << c.ba_bits) - 1)
        group ^= (row >> c.ba_bits) & ((1 << c.bg_bits) - 1)
    return channel, pseudo, group, bank, row, column


@timing_kernel
def flat_bank(state: DramState, pseudo: int, group: int, bank: int) -> int:
    """Number of a bank within its channel, as commands and queues name it."""
    c = state.channel[0]
    return (((pseudo << c.bg_bits) | group) << c.ba_bits) | bank
