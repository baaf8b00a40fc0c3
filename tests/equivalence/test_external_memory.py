"""The engine on memories that are not the simulator's: the same outputs, whenever data come.

One is from outside (cocotbext-axi, all channels pausing at random), one answers in the next cycle, which is the
quickest that AXI allows.
"""

import importlib.util
from pathlib import Path

import pytest

from accel.arch import Arch, load_arch
from accel.verify.cases import EngineCase, directed_cases, random_cases
from accel.verify.compare import compare, predict
from accel.verify.engine import Case, run_engine
from accel.verify.harness import missing_tools
from rtl.verilog import engine_verilog

pytestmark = pytest.mark.skipif(missing_tools() is not None, reason=f"RTL: {missing_tools()}")

DIRECTED = [
    "lsb on some rows", "keys that no query sees", "one value kept", "two tokens left", "tiles of one row, selected",
    "pairs of heads", "heads of a later step are new", "four queries per key head",
]  # fmt: skip
RANDOM = 6
MAX_CYCLES = 200_000


def cases(arch: Arch) -> list[EngineCase]:
    """Directed programs in which each kind of access waits for another one, and a few at random."""
    by_name = {case.name: case for case in directed_cases(arch)}
    return [*(by_name[name] for name in DIRECTED), *random_cases(arch, RANDOM)]


def assert_same_outputs(bench: str, seed: int) -> None:
    """Outputs, second passes and numbers of accesses are golden's and the simulator's on this bench's memory."""
    arch = load_arch("tiny")
    of = cases(arch)
    runs = run_engine(
        arch, engine_verilog(arch, probes=True), [Case(case.program, case.tensors) for case in of], "random", seed,
        max_cycles=MAX_CYCLES, bench=bench, bench_dir=Path(__file__).parent,
    )  # fmt: skip
    for case, found in zip(of, runs, strict=True):
        wrong = compare(predict(case, record=False), found, "random")
        assert not wrong, f"{wrong[0]}; {case.about}"


@pytest.mark.skipif(not importlib.util.find_spec("cocotbext"), reason="pip install 'accel-codesign[verify]'")
@pytest.mark.parametrize("seed", [1, 2])
def test_a_memory_and_a_register_master_from_outside(seed: int) -> None:
    assert_same_outputs("external_memory", seed)


def test_the_quickest_memory_that_axi_allows() -> None:
    assert_same_outputs("immediate_memory", 1)
