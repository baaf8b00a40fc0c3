"""The stepped interface of the DRAM model, and what any memory has to satisfy."""

from itertools import pairwise
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from accel.errors import UserError
from accel.memory import MemorySpec, load_memory, memory_names
from sim.dram import (
    can_accept,
    can_accept_write,
    done_tick,
    map_address,
    new_dram,
    next_event,
    push,
    tick,
    tick_all,
)
from sim.dram_replay import replay
from sim.dram_state import COUNTERS, NONE, RD, WR
from tests.sim.dram_patterns import accesses, logical_reads

ALL = pytest.mark.parametrize("name", memory_names())


@ALL
def test_unloaded_latency_is_the_closed_form(name: str) -> None:
    """ACT, RCD, CL and the burst, from the tick of the push; then, with the row open, CL and the burst."""
    spec = load_memory(name).with_channels(1)
    state = new_dram(spec)
    ticket = push(state, 0, 0, False, 0)
    assert done_tick(state, 0, ticket) == -1
    for now in range(100):
        tick(state, 0, now)
    assert done_tick(state, 0, ticket) == spec.closed_read_cycles
    place = map_address(state, 0)
    same_row = next(
        a for a in range(spec.access_bytes, 1 << 16, spec.access_bytes) if map_address(state, a)[:5] == place[:5]
    )
    ticket = push(state, 0, same_row, False, 100)
    tick(state, 0, 100)
    assert done_tick(state, 0, ticket) == 100 + spec.CL + spec.burst_cycles


class Stepped(NamedTuple):
    done: list[int]
    commands: list[tuple[int, ...]]
    counters: list[int]


def _step(spec: MemorySpec, arrivals: list[tuple[int, int, bool]], skip: bool, until: int) -> Stepped:
    """Push (tick, address, is write) in order, once it has come and there is room; tick always or at events only."""
    state = new_dram(spec)
    c = state.channel[0]
    tickets: list[int] = []
    commands: list[tuple[int, ...]] = []
    now = 0
    while now <= until:
        while len(tickets) < len(arrivals) and arrivals[len(tickets)][0] <= now:
            _, address, is_write = arrivals[len(tickets)]
            if not (can_accept_write(state, 0) if is_write else can_accept(state, 0)):
                break
            tickets.append(push(state, 0, address, is_write, now))
        tick(state, 0, now)
        for kind in ("column", "row"):
            if c[f"{kind}_command"] != NONE:
                commands.append((now, *(int(c[f"{kind}_{what}"]) for what in ("command", "bank", "row"))))
        now += 1
        if skip and len(tickets) == len(arrivals):
            now = next_event(state, 0, now)
        elif skip and arrivals[len(tickets)][0] > now:
            now = min(next_event(state, 0, now), arrivals[len(tickets)][0])
    assert tickets == list(range(len(arrivals)))
    return Stepped([done_tick(state, 0, t) for t in tickets], commands, [int(c[name]) for name in COUNTERS])


@ALL
@settings(max_examples=12)
@given(
    seed=st.integers(0, 2**32),
    gap=st.sampled_from([0, 1, 5, 60, 600]),
    writes=st.sampled_from([0.0, 0.3, 0.9]),
    region_bits=st.integers(11, 28),
)
def test_leaving_out_ticks_changes_nothing(name: str, seed: int, gap: int, writes: float, region_bits: int) -> None:
    """Same commands at the same ticks, same done ticks, same counters, whether every tick is made or only events."""
    spec = load_memory(name).with_channels(1)
    rng = np.random.default_rng(seed)
    count = 120
    at = np.cumsum(rng.integers(0, gap + 1, count)).tolist()
    address = (rng.integers(0, 1 << region_bits, count) // spec.access_bytes * spec.access_bytes).tolist()
    is_write = (rng.random(count) < writes).tolist()
    arrivals = list(zip(at, address, is_write, strict=True))
    until = at[-1] + 2 * spec.REFI + 8000
    every = _step(spec, arrivals, skip=False, until=until)
    assert _step(spec, arrivals, skip=True, until=until) == every
    assert min(every.done) > 0


@ALL
@pytest.mark.parametrize("writes", [0.0, 0.4])
def test_replay_leaving_out_ticks_changes_nothing(name: str, writes: float) -> None:
    """The same at full load, over several refreshes."""
    spec = load_memory(name).with_channels(2)
    rng = np.random.default_rng(3)
    addresses = np.concatenate([np.arange(0, 1 << 19, 64), rng.integers(0, 1 << 28, 6000) // 64 * 64])
    is_write = rng.random(addresses.size) < writes
    runs = [replay(spec, addresses, is_write=is_write, skip_idle=skip, log_capacity=1 << 17) for skip in (True, False)]
    assert runs[0].ref > 0
    assert np.array_equal(runs[0].commands, runs[1].commands)
    assert runs[0][:-2] == runs[1][:-2]


def test_idle_memory_is_refreshed() -> None:
    """One REF per pseudo channel and interval, found by events alone, without any request."""
    spec = load_memory("hbm2").with_channels(1)
    state = new_dram(spec)
    now = ticks = 0
    while now < 10 * spec.REFI + spec.RFC:
        tick(state, 0, now)
        now = next_event(state, 0, now)
        ticks += 1
    assert state.channel[0]["ref"] == 10 * spec.pseudo_channels
    assert ticks < 100


def test_never_above_peak_and_streams_come_close() -> None:
    """All memories: a stream takes at least bytes / peak, and with refresh at most 15 % more."""
    for name in memory_names():
        spec = load_memory(name)
        trace = np.arange(0, (1 << 20) * spec.channels, spec.access_bytes)
        seconds = replay(spec, trace).cycles * spec.tCK_ps * 1e-12
        share = trace.size * spec.access_bytes / seconds / (spec.peak_bytes_per_channel_per_s * spec.channels)
        assert 0.85 < share <= 1.0, name


@pytest.mark.parametrize("pattern", ["a_seq_64KiB", "c_S64_d25_N16384", "d_tm_hloop_H12_d25", "e_kv_same_n8192"])
def test_more_channels_are_not_slower(pattern: str) -> None:
    """Within 1 % for queueing luck, on the same trace."""
    trace = accesses(logical_reads(pattern, 1), 32)
    cycles = [replay(load_memory("hbm2").with_channels(n), trace).cycles for n in (1, 2, 4, 8, 16, 32)]
    assert all(more <= fewer * 1.01 for fewer, more in pairwise(cycles)), cycles
    assert cycles[-1] < cycles[0] / 4


def test_writes_are_posted_and_reads_go_first() -> None:
    """Few writes wait while reads keep coming; they drain when no read is queued."""
    spec = load_memory("hbm2").with_channels(1)
    state = new_dram(spec)
    row = spec.row_bytes * 2
    push(state, 0, 0, False, 0)
    written = push(state, 0, row * 64, True, 0)
    for i in range(1, 41):
        push(state, 0, i * 64, False, 0)
    issued = []
    for now in range(400):
        tick(state, 0, now)
        issued.append(int(state.channel[0]["column_command"]))
    assert issued.index(WR) > len(issued) - 1 - issued[::-1].index(RD)
    assert done_tick(state, 0, written) == issued.index(WR) + spec.CWL + spec.burst_cycles


def test_full_write_queue_drains_although_reads_wait() -> None:
    """From the high watermark down to the low one."""
    spec = load_memory("hbm2").with_channels(1)
    state = new_dram(spec)
    for i in range(spec.write_high_watermark):
        assert can_accept_write(state, 0)
        push(state, 0, (1 << 24) + i * 32, True, 0)
    for now in range(300):
        if can_accept(state, 0):
            push(state, 0, now * 32, False, now)
        tick(state, 0, now)
        if state.channel[0]["rd"]:
            break
    assert state.channel[0]["queued"][1] == spec.write_low_watermark - 1


def test_queue_depth_is_what_it_accepts() -> None:
    """Before the first tick exactly `queue_depth` reads and `write_queue_depth` writes fit."""
    spec = load_memory("hbm2").with_channels(1)
    state = new_dram(spec)
    counts = [0, 0]
    for kind, accepts in enumerate((can_accept, can_accept_write)):
        while accepts(state, 0):
            push(state, 0, counts[kind] * 32, bool(kind), 0)
            counts[kind] += 1
    assert counts == [spec.queue_depth, spec.write_queue_depth]


def test_tick_all_is_a_tick_of_each_channel() -> None:
    spec = load_memory("hbm2").with_channels(4)
    one, other = new_dram(spec), new_dram(spec)
    for state in (one, other):
        for address in range(0, 1024, 32):
            push(state, map_address(state, address)[0], address, False, 0)
    for now in range(60):
        tick_all(one, now)
        for channel in range(4):
            tick(other, channel, now)
    assert one.channel.tobytes() == other.channel.tobytes()
    assert one.channel["rd"].sum() == 32


@ALL
@settings(max_examples=40)
@given(bits=st.integers(0, 6), seed=st.integers(0, 2**32), base=st.integers(0, 1 << 34))
def test_address_map_is_one_to_one(name: str, bits: int, seed: int, base: int) -> None:
    """Different accesses lie in different places, bytes of one access in the same; all fields within the geometry."""
    spec = load_memory(name).with_channels(1 << bits)
    state = new_dram(spec)
    access = np.unique(np.concatenate([base + np.arange(64), base ^ (1 << np.arange(30))]))
    places = [map_address(state, int(a) * spec.access_bytes) for a in access]
    assert len(set(places)) == access.size
    offset = int(np.random.default_rng(seed).integers(spec.access_bytes))
    assert map_address(state, int(access[0]) * spec.access_bytes + offset) == places[0]
    limits = (
        spec.channels,
        spec.pseudo_channels,
        spec.bank_groups,
        spec.banks_per_group,
        1 << 62,
        spec.columns_per_row,
    )
    assert all(0 <= field < limit for place in places for field, limit in zip(place, limits, strict=True))


@pytest.mark.parametrize("channels", [1, 2, 4, 8, 16, 32])
def test_lines_and_power_of_two_strides_spread_over_channels(channels: int) -> None:
    """The reason for the hash: a stride that would sit in one channel without it uses all of them."""
    state = new_dram(load_memory("hbm2"), channels)
    for stride in (64, 1024, 4096, 65536):
        used = np.bincount([map_address(state, i * stride)[0] for i in range(64 * channels)], minlength=channels)
        assert used.min() > 0, stride


def test_new_dram_takes_the_number_of_channels() -> None:
    assert new_dram(load_memory("hbm2"), 8).channel.size == 8


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda spec: new_dram(spec, 3), "power of two"),
        (lambda spec: new_dram(spec.model_copy(update={"queue_depth": 1000})), "takes 512 queued requests"),
        (lambda spec: replay(spec, np.array([-32])), "non-negative"),
        (lambda spec: replay(spec, np.array([0]), offers_per_tick=0), "at least 1"),
        (lambda spec: replay(spec, np.array([0, 32]), is_write=np.array([True])), "is_write has shape"),
    ],
)
def test_bad_input_is_one_line(call: object, words: str) -> None:
    with pytest.raises(UserError, match=words) as caught:
        call(load_memory("hbm2"))  # type: ignore[operator]
    assert "\n" not in str(caught.value)


def test_empty_trace() -> None:
    result = replay(load_memory("hbm2"), np.array([], dtype=np.int64))
    assert (result.cycles, result.act, result.rd) == (0, 0, 0)
