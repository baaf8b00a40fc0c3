"""The controller of one DRAM channel, exact to the clock (tCK), command by command.

One channel has a read queue and a posted write queue in front of banks with open rows. Each clock the controller may
put one command on the column bus (RD, WR) and one on the row bus (ACT, PRE, PREA, REF); DDR4 and LPDDR5 have a single
bus for both. An ACT occupies its bus for `act_bus_cycles`. Scheduling is FR-FCFS with open pages:

1. the column command of a request that had its row opened ("activated"), oldest first;
2. refresh: while one is due, only rule 1 and PREA/REF go on, one pseudo channel after the other, all banks at a time;
3. the oldest ready command of the queue being served. A row stays open while a request that came no later than the
   one waiting for another row still wants it, or an activated request has not had its column command.

Reads are served first. Writes drain while no read waits, or from the high watermark down to the low one. There is no
read-after-write forwarding and no ordering between queued reads and writes: who needs an order waits for `done_tick`.

The order of decisions follows Ramulator 2.1 (controllers HBM12 and GenericDDR, scheduler FRFCFS-RowHit, AllBank
refresh), so that the two can be compared figure by figure; see tests/data/dram/README.md.

All functions are `@njit` and work on one channel of a `DramState` (records described in `sim/dram_state.py`). Time is an absolute tick
number that never goes back. Per tick and channel: every `push` first, then one `tick`. Ticks before `next_event` can be
left out without changing anything; a `push` may make `next_event` earlier.
"""

from numba import njit

from sim.dram_state import (
    ACT,
    FAR,
    NONE,
    PRE,
    PREA,
    RD,
    READ,
    REF,
    ROW_CONFLICT,
    ROW_HIT,
    ROW_MISS,
    TICKET_RING,
    WR,
    WRITE,
    Channel,
    DramState,
    flat_bank,
    map_address,
    new_dram,
)

__all__ = [
    "DramState",
    "can_accept",
    "can_accept_write",
    "done_tick",
    "enqueue",
    "map_address",
    "new_dram",
    "next_event",
    "push",
    "tick",
    "tick_all",
]


@njit(cache=True)
def can_accept(state: DramState, channel: int) -> bool:
    """Whether the read queue has room."""
    c = state.channel[channel]
    return c.queued[READ] < c.queue_depth


@njit(cache=True)
def can_accept_write(state: DramState, channel: int) -> bool:
    """Whether the posted write queue has room."""
    c = state.channel[channel]
    return c.queued[WRITE] < c.write_queue_depth


@njit(cache=True)
def push(state: DramState, channel: int, address: int, is_write: bool, now: int) -> int:
    """Queue one access at tick `now`, before `tick(.., now)`; there has to be room. Returns its ticket.

    The address has to belong to this channel (`map_address`); tickets count 0, 1, 2, ... per channel.
    """
    _, pseudo, group, bank, row, _ = map_address(state, address)
    return enqueue(state, channel, flat_bank(state, pseudo, group, bank), row, WRITE if is_write else READ, now)


@njit(cache=True)
def enqueue(state: DramState, channel: int, bank: int, row: int, kind: int, now: int) -> int:
    """`push` of an access that is already mapped to a bank of the channel and a row. Returns its ticket."""
    c = state.channel[channel]
    ticket = c.tickets
    c.tickets = ticket + 1
    c.done[ticket % TICKET_RING] = NONE

    slot = c.free_slot
    c.free_slot = c.slot_next[slot]
    c.slot_row[slot] = row
    c.slot_ticket[slot] = ticket
    c.slot_tick[slot] = now
    last = c.tail[kind, bank]
    c.slot_next[slot] = NONE
    c.slot_prev[slot] = last
    c.tail[kind, bank] = slot
    if last == NONE:
        c.head[kind, bank] = slot
    else:
        c.slot_next[last] = slot

    open_row = c.open_row[bank]
    if open_row == row:
        if c.first_hit[kind, bank] == NONE:
            c.first_hit[kind, bank] = slot
            c.open_wanted[kind] |= 1 << bank
            c.next_column = min(c.next_column, _column_ready(c, kind, bank))
    elif c.first_other[kind, bank] == NONE:
        c.first_other[kind, bank] = slot
        if open_row == NONE:
            c.closed_wanted[kind] |= 1 << bank
            c.next_row = min(c.next_row, _act_ready(c, bank))
        else:
            c.other_wanted[kind] |= 1 << bank
            c.next_row = min(c.next_row, c.pre_ready[bank])
    c.queued[kind] += 1
    _choose_mode(c)
    return ticket


@njit(cache=True)
def done_tick(state: DramState, channel: int, ticket: int) -> int:
    """Tick in which the last data beat of this access ends, or -1 while its column command has not been issued.

    A ticket can be asked for until `TICKET_RING` younger ones have been given out on its channel.
    """
    return state.channel[channel].done[ticket % TICKET_RING]


@njit(cache=True)
def next_event(state: DramState, channel: int, now: int) -> int:
    """Earliest tick from `now` on, after those already ticked, in which `tick` can do anything."""
    c = state.channel[channel]
    return max(min(c.next_column, c.next_row, c.next_refresh), now, c.last_tick + 1)


@njit(cache=True)
def tick(state: DramState, channel: int, now: int) -> None:
    """One clock of one channel: issue what the command buses take."""
    c = state.channel[channel]
    c.last_tick = now
    c.column_command = c.row_command = NONE
    if now >= c.next_refresh:
        c.next_refresh += c.refresh_interval
        c.refresh_left += c.pseudo_channels
        c.next_row = now
    if c.shared_bus:
        if now >= c.bus_free and (now >= c.next_column or now >= c.next_row):
            _tick_shared_bus(c, now)
        return
    if now >= c.next_column:
        bank, activated = _pick_column(c, now)
        if bank != NONE:
            _issue_column(c, bank, activated, now)
    if now >= c.next_row:
        if now < c.bus_free:
            c.next_row = c.bus_free
        elif c.refresh_left > 0:
            _refresh(c, now)
        else:
            bank = _pick_row(c, now)
            if bank != NONE:
                _issue_row(c, bank, now)


@njit(cache=True)
def tick_all(state: DramState, now: int) -> None:
    """One clock of every channel."""
    for channel in range(state.channel.size):
        tick(state, channel, now)


@njit(cache=True)
def _tick_shared_bus(c: Channel, now: int) -> None:
    """One clock with a single command bus: the older of the column and the row candidate goes out."""
    column_bank, activated = _pick_column(c, now)
    if column_bank != NONE and activated:
        _issue_column(c, column_bank, True, now)
        return
    if c.refresh_left > 0:
        _refresh(c, now)
        return
    row_bank = _pick_row(c, now)
    if column_bank != NONE and row_bank != NONE:
        hit_ticket = c.slot_ticket[c.first_hit[c.mode, column_bank]]
        if hit_ticket < c.slot_ticket[c.first_other[c.mode, row_bank]]:
            row_bank = NONE
        else:
            column_bank = NONE
    if column_bank != NONE:
        _issue_column(c, column_bank, False, now)
    elif row_bank != NONE:
        _issue_row(c, row_bank, now)


@njit(cache=True)
def _column_ready(c: Channel, kind: int, bank: int) -> int:
    """Earliest tick for a RD (or WR) to the open row of a bank."""
    group = bank >> c.ba_bits
    return max(
        c.column_ready[kind, bank], c.group_column_ready[kind, group], c.pc_column_ready[kind, group >> c.bg_bits]
    )


@njit(cache=True)
def _act_ready(c: Channel, bank: int) -> int:
    """Earliest tick for an ACT of a closed bank."""
    group = bank >> c.ba_bits
    return max(c.act_ready[bank], c.group_act_ready[group], c.pc_act_ready[group >> c.bg_bits])


@njit(cache=True)
def _choose_mode(c: Channel) -> None:
    """Serve writes while there are no reads, and from the high watermark down to the low one."""
    reads, writes = c.queued[READ], c.queued[WRITE]
    if c.mode == READ:
        mode = WRITE if writes >= c.write_high or (reads == 0 and writes > 0) else READ
    else:
        mode = READ if writes == 0 or (writes < c.write_low and reads > 0) else WRITE
    if mode != c.mode:
        c.mode = mode
        c.next_column = c.next_row = 0  # look at everything again


@njit(cache=True)
def _pick_column(c: Channel, now: int) -> tuple[int, bool]:
    """(bank of the RD or WR to issue, whether for its activated request), or (NONE, False) and a new next_column."""
    best, best_ticket, earliest = NONE, FAR, FAR
    left, bank = c.activated, 0
    while left:
        if left & 1:
            ready = _column_ready(c, c.activated_kind[bank], bank)
            if ready > now:
                earliest = min(earliest, ready)
            elif c.activated_ticket[bank] < best_ticket:
                best, best_ticket = bank, c.activated_ticket[bank]
        left >>= 1
        bank += 1
    if best != NONE:
        return best, True
    if c.refresh_left == 0:
        kind = c.mode
        per_pc = c.banks >> c.pc_bits
        for pseudo in range(c.pseudo_channels):
            bank = pseudo * per_pc
            left = (c.open_wanted[kind] >> bank) & ((1 << per_pc) - 1)
            if left and c.pc_column_ready[kind, pseudo] > now:
                earliest = min(earliest, c.pc_column_ready[kind, pseudo])
                continue
            while left:
                if left & 1:
                    ready = _column_ready(c, kind, bank)
                    if ready > now:
                        earliest = min(earliest, ready)
                    else:
                        ticket = c.slot_ticket[c.first_hit[kind, bank]]
                        if ticket < best_ticket:
                            best, best_ticket = bank, ticket
                left >>= 1
                bank += 1
    if best == NONE:
        c.next_column = earliest
    return best, False


@njit(cache=True)
def _pick_row(c: Channel, now: int) -> int:
    """Bank to activate (if closed) or to precharge (if open), or NONE and a new next_row."""
    kind = c.mode
    best, best_ticket, earliest = NONE, FAR, FAR
    left, bank = c.closed_wanted[kind] | (c.other_wanted[kind] & ~c.activated), 0
    while left:
        if left & 1:
            other = c.first_other[kind, bank]
            ticket = c.slot_ticket[other]
            if ticket < best_ticket:
                if c.open_row[bank] == NONE:
                    ready = _act_ready(c, bank)
                else:
                    hit = c.first_hit[kind, bank]
                    keep_open = hit != NONE and c.slot_tick[hit] <= c.slot_tick[other]
                    ready = FAR if keep_open else c.pre_ready[bank]
                if ready <= now:
                    best, best_ticket = bank, ticket
                else:
                    earliest = min(earliest, ready)
        left >>= 1
        bank += 1
    if best == NONE:
        c.next_row = earliest
    return best


@njit(cache=True)
def _issue_column(c: Channel, bank: int, activated: bool, now: int) -> None:
    """RD or WR to an open bank, for its activated request or for the oldest queued one that wants the open row."""
    group = bank >> c.ba_bits
    pseudo = group >> c.bg_bits
    row = c.open_row[bank]
    if activated:
        kind = c.activated_kind[bank]
        ticket = c.activated_ticket[bank]
        c.activated &= ~(1 << bank)
    else:
        kind = c.mode
        slot = c.first_hit[kind, bank]
        ticket = c.slot_ticket[slot]
        following = c.slot_next[slot]
        while following != NONE and c.slot_row[following] != row:
            following = c.slot_next[following]
        c.first_hit[kind, bank] = following
        if following == NONE:
            c.open_wanted[kind] &= ~(1 << bank)
        _dequeue(c, kind, bank, slot)

    if c.first_use[bank] == ROW_HIT:
        c.row_hit += 1
    elif c.first_use[bank] == ROW_MISS:
        c.row_miss += 1
    else:
        c.row_conflict += 1
    c.first_use[bank] = ROW_HIT
    c.data_busy_ticks += c.burst
    c.pc_column_ready[kind, pseudo] = now + c.column_to_column_pc
    c.group_column_ready[kind, group] = now + c.column_to_column_bg
    if kind == READ:
        c.rd += 1
        c.pre_ready[bank] = max(c.pre_ready[bank], now + c.rd_to_pre)
        c.pc_column_ready[WRITE, pseudo] = max(c.pc_column_ready[WRITE, pseudo], now + c.rd_to_wr)
    else:
        c.wr += 1
        c.pre_ready[bank] = max(c.pre_ready[bank], now + c.wr_to_pre)
        c.pc_column_ready[READ, pseudo] = max(c.pc_column_ready[READ, pseudo], now + c.wr_to_rd_pc)
        c.group_column_ready[READ, group] = max(c.group_column_ready[READ, group], now + c.wr_to_rd_bg)
    c.done[ticket % TICKET_RING] = now + c.column_to_data_end[kind]
    c.next_column = min(c.next_column, now + 1)
    if c.refresh_left > 0 or ((c.other_wanted[READ] | c.other_wanted[WRITE]) >> bank) & 1:
        c.next_row = min(c.next_row, c.pre_ready[bank])  # this may have been what kept the row open
    c.column_command, c.column_bank, c.column_row = RD if kind == READ else WR, bank, row


@njit(cache=True)
def _dequeue(c: Channel, kind: int, bank: int, slot: int) -> None:
    """Take a request out of its bank's queue and give the slot back."""
    before, after = c.slot_prev[slot], c.slot_next[slot]
    if before == NONE:
        c.head[kind, bank] = after
    else:
        c.slot_next[before] = after
    if after == NONE:
        c.tail[kind, bank] = before
    else:
        c.slot_prev[after] = before
    c.slot_next[slot] = c.free_slot
    c.free_slot = slot
    c.queued[kind] -= 1
    _choose_mode(c)


@njit(cache=True)
def _issue_row(c: Channel, bank: int, now: int) -> None:
    """ACT of a closed bank for its oldest request, or PRE of an open one."""
    if c.open_row[bank] == NONE:
        _issue_act(c, bank, now)
    else:
        _row_command(c, PRE, bank, c.open_row[bank], now, 1)
        _close(c, bank, now + c.pre_to_act, 1)


@njit(cache=True)
def _issue_act(c: Channel, bank: int, now: int) -> None:
    """Open the row of the bank's oldest request in the queue being served; the request leaves the queue for it."""
    kind = c.mode
    group = bank >> c.ba_bits
    pseudo = group >> c.bg_bits
    slot = c.first_other[kind, bank]
    row = c.slot_row[slot]
    c.activated |= 1 << bank
    c.activated_ticket[bank] = c.slot_ticket[slot]
    c.activated_kind[bank] = kind
    c.open_row[bank] = row
    c.first_use[bank] = ROW_CONFLICT if c.closed_for_other[bank] else ROW_MISS

    c.column_ready[READ, bank] = now + c.act_to_column[READ]
    c.column_ready[WRITE, bank] = now + c.act_to_column[WRITE]
    c.pre_ready[bank] = now + c.act_to_pre
    c.act_ready[bank] = now + c.act_to_act
    c.group_act_ready[group] = now + c.act_to_act_bg
    c.last_acts[pseudo, c.oldest_act[pseudo]] = now
    c.oldest_act[pseudo] = (c.oldest_act[pseudo] + 1) % 4
    window_end = c.last_acts[pseudo, c.oldest_act[pseudo]] + c.act_to_fifth_act
    c.pc_act_ready[pseudo] = max(now + c.act_to_act_pc, window_end)

    c.act += 1
    _row_command(c, ACT, bank, row, now, c.act_bus)
    c.next_column = min(c.next_column, _column_ready(c, kind, bank))
    _dequeue(c, kind, bank, slot)
    _sort_waiting(c, bank)


@njit(cache=True)
def _row_command(c: Channel, command: int, bank: int, row: int, now: int, bus_cycles: int) -> None:
    """Put a command on the row bus (or the only bus)."""
    c.bus_free = c.next_row = now + bus_cycles
    c.row_command, c.row_bank, c.row_row = command, bank, row


@njit(cache=True)
def _close(c: Channel, bank: int, act_ready: int, for_other: int) -> None:
    """An open bank is precharged."""
    c.open_row[bank] = NONE
    c.closed_for_other[bank] = for_other
    c.act_ready[bank] = max(c.act_ready[bank], act_ready)
    c.pre += 1
    _sort_waiting(c, bank)


@njit(cache=True)
def _sort_waiting(c: Channel, bank: int) -> None:
    """After a bank opened or closed: which waiting request is the oldest for the open row, which for another one."""
    row = c.open_row[bank]
    bit = 1 << bank
    for kind in range(2):
        hit = other = NONE
        slot = c.head[kind, bank]
        while slot != NONE and (other == NONE or (hit == NONE and row != NONE)):
            if c.slot_row[slot] != row:
                if other == NONE:
                    other = slot
            elif hit == NONE:
                hit = slot
            slot = c.slot_next[slot]
        c.first_hit[kind, bank] = hit
        c.first_other[kind, bank] = other
        c.open_wanted[kind] = c.open_wanted[kind] | bit if hit != NONE else c.open_wanted[kind] & ~bit
        c.closed_wanted[kind] &= ~bit
        c.other_wanted[kind] &= ~bit
        if other != NONE:
            if row == NONE:
                c.closed_wanted[kind] |= bit
            else:
                c.other_wanted[kind] |= bit


@njit(cache=True)
def _refresh(c: Channel, now: int) -> None:
    """Next step of a due refresh: close all banks of the pseudo channel, then REF it, then on to the next one."""
    per_pc = c.banks >> c.pc_bits
    first = (-c.refresh_left % c.pseudo_channels) * per_pc
    if (c.activated >> first) & ((1 << per_pc) - 1):
        c.next_row = FAR  # the column command of the activated request wakes us
        return
    any_open = False
    prea_ready = ref_ready = now
    for bank in range(first, first + per_pc):
        ref_ready = max(ref_ready, c.act_ready[bank] + c.act_to_ref_extra)
        if c.open_row[bank] != NONE:
            any_open = True
            prea_ready = max(prea_ready, c.pre_ready[bank])
    if any_open:
        if prea_ready > now:
            c.next_row = prea_ready
            return
        _row_command(c, PREA, first, NONE, now, 1)
        for bank in range(first, first + per_pc):
            if c.open_row[bank] != NONE:
                _close(c, bank, now + c.prea_to_act, 0)
    elif ref_ready > now:
        c.next_row = ref_ready
    else:
        _row_command(c, REF, first, NONE, now, 1)
        for bank in range(first, first + per_pc):
            c.act_ready[bank] = now + c.ref_to_act
            c.closed_for_other[bank] = 0
        c.ref += 1
        c.refresh_left -= 1
        if c.refresh_left == 0:
            c.next_column = now + 1
