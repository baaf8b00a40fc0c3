"""The controller of one DRAM channel, exact to the clock (tCK), command by command.

One channel has a read queue and a posted write queue in front of banks with open rows. Each clock the controller may
put one command on the column bus (RD, WR) and one on the row bus (ACT, PRE, PREA, REF); DDR4 and LPDDR5 have a single
bus for both. An ACT occupies its bus for `act_bus_cycles`. Scheduling is FR-FCFS with open pages:

1. the column command of a request that had its row opened ("activated"), oldest first;
2. refresh: while one is due, only rule 1 and PREA/REF go on, one pseudo channel after the other, all banks at a time;
3. the oldest ready command of the queue being served. A row stays open while a request that came no later than the
   one waiting for another row still wants it, or an activated request has not had its column command. There is no
   age limit: where tRTP >= tCCD_L, younger hits that keep coming put off the PRE each time.

Reads are served first. Writes drain while no read waits, or from the high watermark down to the low one. There is no
read-after-write forwarding and no ordering between queued reads and writes: who needs an order waits for `done_tick`.

The order of decisions follows Ramulator 2.1 (controllers HBM12 and GenericDDR, scheduler FRFCFS-RowHit, AllBank
refresh), so that the two can be compared figure by figure; see tests/data/dram/README.md.

All functions are `@njit` and work on one channel of a `DramState` (records described in `sim/dram_state.py`; what a
command changes is in `sim/dram_commands.py`). Time is an absolute tick number that never goes back. Per tick and
channel: every `push` first, then one `tick`. Ticks before `next_event` can be left out without changing anything; a
`push` may make `next_event` earlier.
"""

from sim.dram_commands import (
    act_ready,
    choose_mode,
    close,
    column_ready,
    issue_act,
    issue_column,
    row_command,
    row_kept,
)
from sim.dram_state import (
    FAR,
    NONE,
    PRE,
    PREA,
    READ,
    REF,
    TICKET_RING,
    WRITE,
    Channel,
    DramState,
    flat_bank,
    lowest_bit,
    map_address,
    new_dram,
)
from sim.timing import timing_kernel

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


@timing_kernel
def can_accept(state: DramState, channel: int) -> bool:
    """Whether the read queue has room."""
    c = state.channel[channel]
    return c.queued[READ] < c.queue_depth


@timing_kernel
def can_accept_write(state: DramState, channel: int) -> bool:
    """Whether the posted write queue has room."""
    c = state.channel[channel]
    return c.queued[WRITE] < c.write_queue_depth


@timing_kernel
def push(state: DramState, channel: int, address: int, is_write: bool, now: int) -> int:
    """Queue one access at tick `now`, before `tick(.., now)`; there has to be room. Returns its ticket.

    The address has to belong to this channel (`map_address`); tickets count 0, 1, 2, ... per channel.
    """
    _, pseudo, group, bank, row, _ = map_address(state, address)
    return enqueue(state, channel, flat_bank(state, pseudo, group, bank), row, WRITE if is_write else READ, now)


@timing_kernel
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
            c.next_column = min(c.next_column, column_ready(c, kind, bank))
    elif c.first_other[kind, bank] == NONE:
        c.first_other[kind, bank] = slot
        if open_row == NONE:
            c.closed_wanted[kind] |= 1 << bank
            c.next_row = min(c.next_row, act_ready(c, bank))
        else:
            c.other_wanted[kind] |= 1 << bank
            c.next_row = min(c.next_row, c.pre_ready[bank])
    c.queued[kind] += 1
    choose_mode(c)
    return ticket


@timing_kernel
def done_tick(state: DramState, channel: int, ticket: int) -> int:
    """Tick in which the last data beat of this access ends, or -1 while its column command has not been issued.

    A ticket can be asked for until `TICKET_RING` younger ones have been given out on its channel.
    """
    return state.channel[channel].done[ticket % TICKET_RING]


@timing_kernel
def next_event(state: DramState, channel: int, now: int) -> int:
    """Earliest tick from `now` on, after those already ticked, in which `tick` can do anything."""
    c = state.channel[channel]
    return max(min(c.next_column, c.next_row, c.next_refresh), now, c.last_tick + 1)


@timing_kernel
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
            issue_column(c, bank, activated, now)
    if now >= c.next_row:
        if now < c.bus_free:
            c.next_row = c.bus_free
        elif c.refresh_left > 0:
            _refresh(c, now)
        else:
            bank = _pick_row(c, now)
            if bank != NONE:
                _issue_row(c, bank, now)


@timing_kernel
def tick_all(state: DramState, now: int) -> None:
    """One clock of every channel."""
    for channel in range(state.channel.size):
        tick(state, channel, now)


@timing_kernel
def _tick_shared_bus(c: Channel, now: int) -> None:
    """One clock with a single command bus: the older of the column and the row candidate goes out."""
    column_bank, activated = _pick_column(c, now)
    if column_bank != NONE and activated:
        issue_column(c, column_bank, activated, now)
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
        issue_column(c, column_bank, activated, now)
    elif row_bank != NONE:
        _issue_row(c, row_bank, now)


@timing_kernel
def _pick_column(c: Channel, now: int) -> tuple[int, bool]:
    """(bank of the RD or WR to issue, whether for its activated request), or (NONE, False) and a new next_column."""
    best, best_ticket, earliest = NONE, FAR, FAR
    left = c.activated
    while left:
        bank = lowest_bit(left)
        left &= left - 1
        ready = column_ready(c, c.activated_kind[bank], bank)
        if ready > now:
            earliest = min(earliest, ready)
        elif c.activated_ticket[bank] < best_ticket:
            best, best_ticket = bank, c.activated_ticket[bank]
    if best != NONE:
        return best, True
    if c.refresh_left == 0:
        kind = c.mode
        per_pc = c.banks >> c.pc_bits
        for pseudo in range(c.pseudo_channels):
            left = c.open_wanted[kind] & (((1 << per_pc) - 1) << (pseudo * per_pc))
            if left and c.pc_column_ready[kind, pseudo] > now:
                earliest = min(earliest, c.pc_column_ready[kind, pseudo])
                continue
            while left:
                bank = lowest_bit(left)
                left &= left - 1
                ready = column_ready(c, kind, bank)
                if ready > now:
                    earliest = min(earliest, ready)
                else:
                    ticket = c.slot_ticket[c.first_hit[kind, bank]]
                    if ticket < best_ticket:
                        best, best_ticket = bank, ticket
    if best == NONE:
        c.next_column = earliest
    return best, False


@timing_kernel
def _pick_row(c: Channel, now: int) -> int:
    """Bank to activate (if closed) or to precharge (if open), or NONE and a new next_row."""
    kind = c.mode
    best, best_ticket, earliest = NONE, FAR, FAR
    per_pc = c.banks >> c.pc_bits
    closed = c.closed_wanted[kind]
    for pseudo in range(c.pseudo_channels):
        left = closed & (((1 << per_pc) - 1) << (pseudo * per_pc))
        if left and c.pc_act_ready[pseudo] > now:
            earliest = min(earliest, c.pc_act_ready[pseudo])
            continue
        while left:
            bank = lowest_bit(left)
            left &= left - 1
            ready = max(c.act_ready[bank], c.group_act_ready[bank >> c.ba_bits])
            if ready > now:
                earliest = min(earliest, ready)
            else:
                ticket = c.slot_ticket[c.first_other[kind, bank]]
                if ticket < best_ticket:
                    best, best_ticket = bank, ticket
    left = c.other_wanted[kind] & ~c.activated
    while left:
        bank = lowest_bit(left)
        left &= left - 1
        ready = c.pre_ready[bank]
        if ready > now:
            earliest = min(earliest, ready)
        else:
            ticket = c.slot_ticket[c.first_other[kind, bank]]
            if ticket < best_ticket and not row_kept(c, kind, bank):
                best, best_ticket = bank, ticket
    if best == NONE:
        c.next_row = earliest
    return best


@timing_kernel
def _issue_row(c: Channel, bank: int, now: int) -> None:
    """ACT of a closed bank for its oldest request, or PRE of an open one."""
    if c.open_row[bank] == NONE:
        issue_act(c, bank, now)
    else:
        row_command(c, PRE, bank, c.open_row[bank], now, 1)
        close(c, bank, now + c.pre_to_act, 1)


@timing_kernel
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
        row_command(c, PREA, first, NONE, now, 1)
        for bank in range(first, first + per_pc):
            if c.open_row[bank] != NONE:
                close(c, bank, now + c.prea_to_act, 0)
    elif ref_ready > now:
        c.next_row = ref_ready
    else:
        row_command(c, REF, first, NONE, now, 1)
        for bank in range(first, first + per_pc):
            c.act_ready[bank] = now + c.ref_to_act
            c.closed_for_other[bank] = 0
        c.ref += 1
        c.refresh_left -= 1
        if c.refresh_left == 0:
            c.next_column = now + 1
