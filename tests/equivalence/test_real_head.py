"""A head of a published network on real text through the engine's Verilog: golden's bits, the simulator's cycles."""

import time
from collections.abc import Sequence

import numpy as np
import pytest

from accel.arch import Arch, load_arch
from accel.errors import UserError
from accel.lower.plan import Plan
from accel.network import EngineAttention
from accel.program import Jobs, Lsb, Program
from accel.verify.cases import EngineCase
from accel.verify.compare import compare, predict
from accel.verify.engine import Case, run_engine
from accel.verify.harness import missing_tools
from rtl.verilog import engine_verilog
from sim.recorded import JobTensors
from workloads.kernels import SoftmaxAttention
from workloads.nets import store, text
from workloads.nets.attention import AttentionCall, dense_attend, record
from workloads.nets.minilm import MiniLM

pytestmark = pytest.mark.skipif(missing_tools() is not None, reason=f"RTL: {missing_tools()}")

TOKENS = 64
LAYER, HEAD = 3, 6
PLAN = Plan(key_msb_bits=8, key_lsb_bits=4, value_bits=8, lsb=Lsb.TEST, threshold=0.1, local_values=0.5)


class Recorder(EngineAttention):
    """The machine behind the hook, which keeps the jobs and words that it is given."""

    def __init__(self, arch: Arch, kernel: SoftmaxAttention, plan: Plan) -> None:
        super().__init__(arch, kernel, 1, plan)
        self.jobs: list[Jobs] = []
        self.tensors: list[JobTensors] = []

    def _run(self, jobs: Jobs, tensors: Sequence[JobTensors] = ()) -> list[np.ndarray]:
        self.jobs.append(jobs)
        self.tensors += tensors
        return super()._run(jobs, tensors)


@pytest.fixture(scope="module")
def call() -> AttentionCall:
    """One head's attention call, of the beginning of the text that comes with the package."""
    for needed in ("safetensors", "tokenizers"):
        pytest.importorskip(needed)
    try:
        net = MiniLM(store.locate("minilm"))
    except UserError as missing:
        pytest.skip(str(missing))
    whole = record(net, net.tokenize(text.builtin_text(), TOKENS))[LAYER]
    head = slice(HEAD, HEAD + 1)
    return whole._replace(layer=0, q=whole.q[head], k=whole.k[head], v=whole.v[head])


def test_a_head_of_minilm_on_edge(call: AttentionCall) -> None:
    arch = load_arch("edge")
    tokens, dim = call.q.shape[1:]
    attend = Recorder(arch, SoftmaxAttention(1, 1, tokens, tokens, dim, "none"), PLAN)
    found = attend(*call[:4], causal=False, q_start=0)
    case = EngineCase("a head of MiniLM", arch, Program(np.concatenate(attend.jobs)), attend.tensors)
    prediction = predict(case)
    second = int(prediction.work.rows["lsb"].sum())
    assert 0 < second < tokens, "the text has rows of both kinds"
    # Half of V is left out, so close to float attention means a few percent.
    assert np.abs(found - dense_attend(*call[:4], causal=False, q_start=0)).mean() < 0.1 * np.abs(call.v).mean()
    start = time.perf_counter()
    (run,) = run_engine(arch, engine_verilog(arch, probes=True), [Case(case.program, case.tensors)])
    assert not compare(prediction, run), [str(wrong) for wrong in compare(prediction, run)]
    print(f"{tokens} rows, {second} with a second pass, {run.cycles} cycles; {time.perf_counter() - start:.1f} s")
