"""Golden machine and executor, side by side."""

import numpy as np

from accel.verify.golden import GoldenMachine
from sim.values import Executor

__all__ = ["GoldenMachine", "assert_same"]


def assert_same(golden: GoldenMachine, executor: Executor, wanted: list[np.ndarray], found: list[np.ndarray]) -> None:
    """Everything that values leave behind is equal, bit for bit."""
    record = executor.recorded
    assert len(found) == len(wanted)
    for i, (a, b) in enumerate(zip(wanted, found, strict=True)):
        np.testing.assert_array_equal(b, a, err_msg=f"output of attend job {i}")
    assert np.concatenate(record.lsb).tolist() == golden.lsb, "second passes"
    assert np.concatenate(record.kept).tolist() == [len(k) for k in golden.kept], "V rows kept"
    assert [int(t) for part in record.selected for t in part] == golden.selected, "V rows fetched"
    assert executor.keep.tolist() == golden.keep, "keep list"
    assert executor.live_heads.tolist() == golden.heads or not golden.heads, "live heads"
    assert {i: int(s) for i, s in enumerate(executor.token_scores) if s} == {
        i: s for i, s in golden.scores.items() if s
    }
    assert {i: int(s) for i, s in enumerate(executor.head_scores) if s} == {
        i: s for i, s in golden.head_scores.items() if s
    }
