"""``accel speed``: how fast the simulator is here, against what the project asks of it."""

import argparse
import statistics
import time
from collections.abc import Callable

from accel.errors import UserError

HELP = "measure how fast the simulator runs on this computer"
EXAMPLES = ("accel speed", "accel speed --repeats 9")
WORKLOAD, MACHINE = "gpt2-small-wikitext2", "spatten"
REQUIRED_RUN_S = 2.0  # the project's own requirement: a published workload, values and timing, in this time or less
REQUIRED_REQUESTS_PER_S = 3e6  # and the memory model alone at this rate or more, on one core
REQUESTS = 400_000
TOKEN_BYTES = 64  # a gathered K row: 64 values of 8 bit, two accesses of HBM2
KEPT_SHARE = 0.25
BUSY = 0.9  # share of a processor below which the figures say more about other programs


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    parser.add_argument(
        "--repeats", type=int, default=3, metavar="N", help="measurements, of which the median is printed"
    )


def run(args: argparse.Namespace) -> None:
    """Measure and print."""
    if args.repeats < 1:
        raise UserError(f"--repeats {args.repeats}: must be 1 or more")
    import numpy as np

    from accel.arch import load_arch
    from accel.commands._progress import progress_bar
    from accel.lower.trace import lower_trace
    from accel.memory import load_memory
    from accel.session import run_trace
    from reports.page import add, console, show, table
    from sim.dram_replay import replay
    from sim.engine import run_timing
    from sim.unroll import unroll
    from sim.values import Executor
    from workloads.draw import DrawnScores
    from workloads.schedule import load_schedule

    arch, trace = load_arch(MACHINE), load_schedule(WORKLOAD)
    program = lower_trace(trace, arch)

    def values() -> Executor:
        executor = Executor(arch, 1)
        executor.run(program.jobs, DrawnScores(1))
        return executor

    spec = load_memory("hbm2")
    rng = np.random.default_rng(1)
    sequential = np.arange(REQUESTS, dtype=np.int64) * spec.access_bytes
    atoms = TOKEN_BYTES // spec.access_bytes
    tokens = np.flatnonzero(rng.random(int(REQUESTS / atoms / KEPT_SHARE)) < KEPT_SHARE)
    gather = (tokens[:, None] * TOKEN_BYTES + np.arange(atoms) * spec.access_bytes).ravel()

    watch = Stopwatch()
    with progress_bar("accel speed") as tell:
        tell("compiling", 0.0)
        first_s = Stopwatch().median(lambda: run_trace(trace, arch), 1, warm=False)
        work = unroll(arch, values().recorded)
        cycles = run_timing(arch, work).cycles
        tell("measuring", 0.3)
        run_s = watch.median(lambda: run_trace(trace, arch), args.repeats)
        values_s = watch.median(values, args.repeats)
        timing_s = watch.median(lambda: run_timing(arch, work), args.repeats)
        tell("memory model", 0.8)
        rates = {
            "memory, sequential": len(sequential) / watch.median(lambda: replay(spec, sequential), args.repeats),
            "memory, gather 25 %": len(gather) / watch.median(lambda: replay(spec, gather), args.repeats),
        }

    out = console()
    out.print(f"{WORKLOAD} on {MACHINE}, {trace.rows:,} rows, {cycles:,} cycles, one seed")
    made = table(f"median of {args.repeats}", "measured", "required", "")
    made.columns[-1].justify = "left"
    add(
        made,
        "whole run",
        f"{run_s:.2f} s",
        f"<= {REQUIRED_RUN_S:.0f} s",
        _verdict(REQUIRED_RUN_S / run_s),
    )
    add(made, "  values", f"{values_s:.2f} s", "", "")
    add(made, "  timing", f"{timing_s:.2f} s", "", f"{cycles / timing_s / 1e3:,.0f} k cycles/s")
    add(made, "first run", f"{first_s:.2f} s", "", "with compiling what is not cached")
    for name, rate in rates.items():
        required = f">= {REQUIRED_REQUESTS_PER_S / 1e6:.0f} M/s"
        add(made, name, f"{rate / 1e6:.2f} M/s", required, _verdict(rate / REQUIRED_REQUESTS_PER_S))
    show(out, made)
    if watch.share < BUSY:
        print(f"This computer was busy: the simulator had a processor only {100 * watch.share:.0f} % of the time.")


def _verdict(times: float) -> str:
    return f"met, {times:.1f} times as fast" if times >= 1 else f"NOT MET, {times:.2f} of it"


class Stopwatch:
    """Median seconds of repeated work, and how much of all measured time the processor really worked on it."""

    def __init__(self) -> None:
        self.wall_s = self.processor_s = 0.0

    def median(self, work: Callable[[], object], repeats: int, warm: bool = True) -> float:
        """Seconds of ``work``; once before without looking at the clock, as the first call may compile."""
        if warm:
            work()
        taken = []
        for _ in range(repeats):
            wall, processor = time.perf_counter(), time.process_time()
            work()
            taken.append(time.perf_counter() - wall)
            self.processor_s += time.process_time() - processor
        self.wall_s += sum(taken)
        return statistics.median(taken)

    @property
    def share(self) -> float:
        """Below 1 where other programs had the processor; the simulator itself is single-threaded and never waits."""
        return self.processor_s / self.wall_s
