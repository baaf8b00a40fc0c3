"""The engine: all units stepped together, cycle by cycle.

Inside a cycle the units run from the sequencer to the writer, and whatever a unit hands on carries the cycle from
which it may be used; space given back in a cycle can be taken in the next.
"""

from dataclasses import dataclass

from numpy.typing import NDArray

from accel.arch import Arch
from sim.crossbar import Crossbar, new_crossbar, return_data, send_addresses
from sim.dram import next_event
from sim.dram import tick as dram_tick
from sim.dram_state import COUNTERS, DramState, new_dram
from sim.fetcher import Fetcher, choose_job, generate_addresses, new_fetcher, pass_arrivals
from sim.normalise import new_normalise, second_pass
from sim.pv import issue as pv_issue
from sim.pv import new_pv, write_outputs
from sim.qk import Qk, new_qk
from sim.qk import issue as qk_issue
from sim.requant import decide
from sim.sequencer import Sequencer, dispatch, new_sequencer
from sim.state import new_state, run_tokens
from sim.timing import timing_kernel
from sim.unroll import machine
from sim.work import Times, Work, new_times

STUCK_CYCLES = 2_000_000  # longer than any wait the datapath can have; more means a defect here


@dataclass(frozen=True)
class Timing:
    """What the timing run found. ``busy`` are cycles in which a unit worked; ``dram`` counts of all channels."""

    cycles: int
    issue_cycles: dict[str, int]
    busy: dict[str, int]
    dram: dict[str, int]
    times: Times


@timing_kernel
def _run(
    m: NDArray, ksets: NDArray, jobs: NDArray, rows: NDArray, ops: NDArray, tokens: NDArray, selected: NDArray,
    pending: NDArray, times: Times, sequencer: Sequencer, f: Fetcher, x: Crossbar, dram: DramState,
    q: Qk, normalise: NDArray, pv: NDArray, state: NDArray, first_v: int, first_q: int,
) -> int:  # fmt: skip
    machine_ = m[0]
    jobs_seen, fetch, qk, out = sequencer.state[0], f.state[0], q.state[0], pv[0]
    time, ready = times.row, times.ready
    t, progress, last_done = 0, 0, -1
    while True:
        tick = t * machine_.ticks // machine_.ticks_per
        if dispatch(sequencer, machine_, ops, times, out.retired, out.reported_rows, t):
            break
        if fetch.active:
            generate_addresses(f, x, dram, machine_, rows, tokens, selected, times, t)
        else:
            choose_job(f, machine_, ksets, jobs, rows, times, jobs_seen.dispatched, out.reported_rows, t)
        if x.busy[0] + x.busy[1] > 0:
            send_addresses(x, dram, t, tick, machine_.window, times.taken)
        for channel in range(x.wake.shape[0]):
            while x.wake[channel] <= tick:
                at = x.wake[channel]
                dram_tick(dram, channel, at)
                x.wake[channel] = next_event(dram, channel, at + 1)
        if x.busy[1] > 0:
            return_data(x, dram, pending, ready, t, tick, machine_.window, machine_.return_cycles, times.given)
        qk_issue(q, f, machine_, ksets, jobs, rows, times, jobs_seen.dispatched, out.finished, t)
        run_tokens(state, f, q, normalise, pv, machine_, jobs, rows, times, jobs_seen.dispatched, t)
        decide(q, f, ksets, jobs, rows, time, t)
        second_pass(normalise, q, machine_, rows, time, t)
        pv_issue(pv, f, normalise, machine_, jobs, rows, times, t)
        write_outputs(pv, x, dram, machine_, jobs, rows, times, t, tick)
        pass_arrivals(f, rows, first_v, first_q, ready, t)
        done = out.write_row + out.issues + qk.busy_cycles + x.busy[2] + jobs_seen.next
        if done != last_done:
            last_done, progress = done, t
        elif t - progress > STUCK_CYCLES:
            return -1
        t += 1
    # Posted writes are done for the engine once accepted; the memory still carries them out.
    written, wanted = 0, rows["w_atoms"].sum()
    tick = t * machine_.ticks // machine_.ticks_per
    while written < wanted:
        written = 0
        tick += 1
        for channel in range(x.wake.shape[0]):
            dram_tick(dram, channel, tick)
            written += dram.channel[channel].wr
    return t + 1


def run_timing(arch: Arch, work: Work, record: bool = False) -> Timing:
    """Simulate the machine on unrolled work. ``record``: also the times of every line and access.

    Raises:
        RuntimeError: nothing moved for ``STUCK_CYCLES``; or something is left behind at the end; a defect of
            the simulator, never of the input.
    """
    n_rows = len(work.rows)
    m = machine(arch)
    spec = arch.memory_spec
    times = new_times(work, record)
    if n_rows:  # tokens of states add nothing to scores, so nothing waits for that
        times.row["important"][work.jobs["state_lines"][work.rows["job"]] > 0] = -1
    f = new_fetcher(arch.fetcher.lanes, n_rows)
    x = new_crossbar(
        arch.fetcher.lanes, arch.fetcher.address_fifo_depth, spec.channels, arch.fetcher.outstanding_per_channel
    )
    dram = new_dram(spec, spec.channels)
    sequencer, q, normalise, pv = new_sequencer(len(work.ops)), new_qk(n_rows), new_normalise(), new_pv()
    first_v, first_q = work.first_value_line, int(work.rows["q_pending"][0]) if n_rows else 0
    cycles = _run(
        m, work.ksets, work.jobs.copy(), work.rows, work.ops, work.tokens, work.selected, work.pending.copy(),
        times, sequencer, f, x, dram, q, normalise, pv, new_state(), first_v, first_q,
    )  # fmt: skip
    held = {
        "k_lines": int(f.state["k_used"][0]),
        "v_lines": int(f.state["v_used"][0]),
        "score_lines": int(q.state["score_used"][0]),
        "granules": int(normalise["granules_used"][0]),
        "addresses": int(x.busy[0]),
        "accesses": int(x.busy[1]),
    }
    if cycles >= 0 and any(held.values()):
        raise RuntimeError(f"the simulated machine {arch.name} is done, but still holds {held}")
    if cycles < 0:
        at = {name: int(s["next_row"][0]) for name, s in (("qk", q.state), ("normalise", normalise), ("pv", pv))}
        raise RuntimeError(f"the simulated machine {arch.name} stands still; next rows {at}, of {n_rows}")
    return Timing(
        cycles,
        {"qk_msb": int(q.state["msb_issues"][0]), "qk_lsb": int(q.state["lsb_issues"][0]), "pv": int(pv["issues"][0])},
        {
            "fetcher": int(f.state["busy_cycles"][0]),
            "qk": int(q.state["busy_cycles"][0]),
            "softmax": int(normalise["busy_cycles"][0]),
            "topk": int(normalise["select_busy_cycles"][0]),
            "pv": int(pv["busy_cycles"][0]),
            "cascade": int(sequencer.state["busy_cycles"][0]),
        },
        {name: int(dram.channel[name].sum()) for name in COUNTERS},
        times,
    )
