"""What a DRAM command does: to the times at which the next ones may go, to the queues, and to the counters.

`sim/dram.py` decides which command goes out; here it takes effect. All functions work on one `CHANNEL` record.
"""

from sim.dram_state import ACT, NONE, RD, READ, ROW_CONFLICT, ROW_HIT, ROW_MISS, TICKET_RING, WR, WRITE, Channel
from sim.timing import timing_kernel


@timing_kernel
def column_ready(c: Channel, kind: int, bank: int) -> int:
    """Earliest tick for a RD (or WR) to the open row of a bank."""
    group = bank >> c.ba_bits
    return max(
        c.column_ready[kind, bank], c.group_column_ready[kind, group], c.pc_column_ready[kind, group >> c.bg_bits]
    )


@timing_kernel
def act_ready(c: Channel, bank: int) -> int:
    """Earliest tick for an ACT of a closed bank."""
    group = bank >> c.ba_bits
    return max(c.act_ready[bank], c.group_act_ready[group], c.pc_act_ready[group >> c.bg_bits])


@timing_kernel
def row_kept(c: Channel, kind: int, bank: int) -> bool:
    """Whether a request for the open row came no later than the oldest one for another row of the bank."""
    hit = c.first_hit[kind, bank]
    return hit != NONE and c.slot_tick[hit] <= c.slot_tick[c.first_other[kind, bank]]


@timing_kernel
def choose_mode(c: Channel) -> None:
    """Serve writes while there are no reads, and from the high watermark down to the low one."""
    reads, writes = c.queued[READ], c.queued[WRITE]
    if c.mode == READ:
        mode = WRITE if writes >= c.write_high or (reads == 0 and writes > 0) else READ
    else:
        mode = READ if writes == 0 or (writes < c.write_low and reads > 0) else WRITE
    if mode != c.mode:
        c.mode = mode
        c.next_column = c.next_row = 0  # look at everything again


@timing_kernel
def issue_column(c: Channel, bank: int, activated: bool, now: int) -> None:
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
        dequeue(c, kind, bank, slot)

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
    if c.refresh_left > 0 or ((c.other_wanted[c.mode] >> bank) & 1 and not row_kept(c, c.mode, bank)):
        c.next_row = min(c.next_row, c.pre_ready[bank])  # this access was what kept the row open
    c.column_command, c.column_bank, c.column_row = RD if kind == READ else WR, bank, row


@timing_kernel
def issue_act(c: Channel, bank: int, now: int) -> None:
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
    row_command(c, ACT, bank, row, now, c.act_bus)
    c.next_column = min(c.next_column, column_ready(c, kind, bank))
    dequeue(c, kind, bank, slot)
    sort_waiting(c, bank)


@timing_kernel
def row_command(c: Channel, command: int, bank: int, row: int, now: int, bus_cycles: int) -> None:
    """Put a command on the row bus (or the only bus)."""
    c.bus_free = c.next_row = now + bus_cycles
    c.row_command, c.row_bank, c.row_row = command, bank, row


@timing_kernel
def close(c: Channel, bank: int, act_ready: int, for_other: int) -> None:
    """An open bank is precharged."""
    c.open_row[bank] = NONE
    c.closed_for_other[bank] = for_other
    c.act_ready[bank] = max(c.act_ready[bank], act_ready)
    c.pre += 1
    sort_waiting(c, bank)


@timing_kernel
def sort_waiting(c: Channel, bank: int) -> None:
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


@timing_kernel
def dequeue(c: Channel, kind: int, bank: int, slot: int) -> None:
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
    choose_mode(c)
