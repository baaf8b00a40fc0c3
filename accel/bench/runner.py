"""Runs what is not on disk yet, in a pool of processes; a row is on disk before it is handed on."""

import contextlib
import multiprocessing
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

from accel import row_store
from accel.bench.row import FORMAT, Asked, key_of, measure, row_of
from accel.errors import UserError
from accel.runs import write_whole

Measured = dict[str, Any]
Tell = Callable[[str, float], None]
_CODE = ("accel/arch.py", "accel/bench/row.py", "accel/cost", "accel/lower", "accel/memory.py", "accel/numerics",
         "accel/presets", "accel/program.py", "accel/session.py", "accel/units", "sim", "workloads/benchmarks/rows.py",
         "workloads/cascade.py", "workloads/catalog.py", "workloads/draw.py", "workloads/kernels",
         "workloads/row_trace.py", "workloads/schedule.py", "workloads/schedule_model.py",
         "workloads/score_distribution.yaml", "workloads/score_parameters.py",
         "workloads/zoo/gpt2-medium-wikitext2.yaml", "workloads/zoo/gpt2-small-wikitext2.yaml")  # fmt: skip


def code_digest() -> str:
    """Hash of the sources that a row's numbers come from."""
    return row_store.code_digest(_CODE)


def row_path(folder: Path, asked: Asked) -> Path:
    """Where the numbers are kept."""
    return folder / "rows" / f"{asked.benchmark.family}-{asked.arch.name}-{key_of(asked, code_digest())}.json"


def run_rows(every: Sequence[Asked], folder: Path, processes: int, tell: Tell) -> tuple[list[dict[str, Any]], int]:
    """Rows in the order asked for, and how many had to be run.

    Raises:
        UserError: a benchmark that the machine cannot run, or a process that was killed.
    """
    paths = [row_path(folder, asked) for asked in every]
    found: dict[Path, Measured] = {}
    missing: dict[Path, Asked] = {}
    for asked, path in zip(every, paths, strict=True):
        if path in found or path in missing:
            continue
        stored = row_store.stored_row(path, FORMAT)
        if stored is None:
            missing[path] = asked
        else:
            found[path] = stored

    def take(path: Path, measured: Measured) -> None:
        write_whole(path, row_store.json_text(measured))
        found[path] = measured
        done = len(missing) - sum(path not in found for path in missing)
        tell(f"{done} of {len(missing)} runs, {missing[path].benchmark.name}", done / len(missing))

    # Longest first, so that the pool ends together.
    todo = sorted(missing.items(), key=lambda item: -_size(item[1]))
    if processes > 1 and len(todo) > 1:
        _run_pool(todo, processes, take)
    else:
        for path, asked in todo:
            take(path, measure(asked))
    return [row_of(asked, found[path]) for asked, path in zip(every, paths, strict=True)], len(missing)


def _size(asked: Asked) -> int:
    given = asked.benchmark.inputs
    queries = given.generated.value or given.length.value
    return given.layers.value * given.heads.value * queries * given.length.value


def _run_pool(todo: Sequence[tuple[Path, Asked]], processes: int, take: Callable[[Path, Measured], None]) -> None:
    # Fresh processes: a copy of this one could inherit the locks of the thread that draws the progress bar.
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(min(processes, len(todo)), context)
    try:
        with _interrupts_held():
            futures: dict[Future[Measured], Path] = {pool.submit(measure, asked): path for path, asked in todo}
        for future in as_completed(futures):
            take(futures[future], future.result())
    except BrokenProcessPool:
        raise UserError(
            "a process of the pool was killed; run the command again, it goes on where it stopped"
        ) from None
    except BaseException:
        # Nothing that runs is waited for: only whole rows are ever written, and by this process.
        pool.shutdown(wait=False, cancel_futures=True)
        for child in multiprocessing.active_children():
            child.terminate()
        raise
    pool.shutdown()


@contextlib.contextmanager
def _interrupts_held() -> Iterator[None]:
    """An interrupt at the keyboard goes to all processes: those started in here never see it, this one does later."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
