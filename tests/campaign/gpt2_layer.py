"""One layer of GPT-2's shape on a whole machine: all twelve heads of a generated token, golden = simulator = Verilog.

    python -m tests.campaign.gpt2_layer --arch spatten

The program generates two tokens: the first attends to all --keys tokens, then the cascade keeps --kept of them, and
the second attends to those. K has planes of 8 + 4 bits and a second pass where the row is flat, half of V is pruned
row by row. Words are random, of a spread at which some rows are flat. Exit code 0 if nothing differs.

Speeds are cycles per second of the same program: of Verilator with its bench, from the start to the interrupt; of the
simulator's timing alone, and with values and unrolling.
"""

import argparse
import sys
import time
from pathlib import Path

from accel.arch import Arch, archs, load_arch
from accel.lower.plan import Plan
from accel.lower.programs import lower_decode
from accel.program import Lsb, Program
from accel.verify.cases import EngineCase
from accel.verify.compare import predict
from accel.verify.engine import Case, run_engine
from accel.verify.harness import build, missing_tools
from accel.verify.tensors import scaled, tensors_of
from rtl.verilog import engine_verilog
from tests.campaign.measure import judge, simulator_speed
from tests.campaign.summary import write_summary
from workloads.kernels import SoftmaxAttention

HEADS, HEAD_DIM = 12, 64  # GPT-2 small (124M): n_head = 12, n_embd = 768
SCALE = 0.0135  # log2 units per product of words, in score steps: scores of random words then spread over two octaves
THRESHOLD = 0.1


def layer(arch: Arch, keys: int, kept: int, seed: int) -> EngineCase:
    """Two generated tokens, the second among ``kept`` of its ``keys`` + 1."""
    kernel = SoftmaxAttention(HEADS, HEADS, queries=1, keys=keys, head_dim=HEAD_DIM, query_start=keys - 1)
    plan = Plan(
        key_msb_bits=8, key_lsb_bits=4, value_bits=12, lsb=Lsb.TEST, threshold=THRESHOLD, local_values=0.5,
        token_counts=(kept,),
    )  # fmt: skip
    program = Program(scaled(lower_decode(kernel, plan, arch, layers=1, steps=2).jobs, SCALE))
    return EngineCase("gpt2-layer", arch, program, tensors_of(program.jobs, seed, "normal", keys + 1))


def main() -> int:
    """Exit code 1 if anything differs."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.campaign.gpt2_layer",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--arch", default="spatten", choices=archs())
    parser.add_argument("--keys", type=int, default=192)
    parser.add_argument("--kept", type=int, default=128)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--verilog", type=Path, help="the engine's Verilog, if it was written before")
    parser.add_argument("-o", "--out", type=Path, help="JSON summary (default build/campaign/gpt2-layer-ARCH.json)")
    args = parser.parse_args()
    if why := missing_tools():
        print(why, file=sys.stderr)
        return 2
    arch = load_arch(args.arch)
    case = layer(arch, args.keys, args.kept, args.seed)
    prediction = predict(case)
    second = int(prediction.work.rows["lsb"].sum())
    print(f"{arch.name}: {len(prediction.work.rows)} rows ({second} with a second pass) of {args.keys} and {args.kept} "
          f"keys, {prediction.timing.cycles:,} cycles", flush=True)  # fmt: skip
    start = time.perf_counter()
    text = args.verilog.read_text() if args.verilog else engine_verilog(arch)
    written = time.perf_counter()
    build(text, "engine")
    built = time.perf_counter()
    print(f"Verilog of {text.count(chr(10)):,} lines in {written - start:.0f} s, Verilator build in "
          f"{built - written:.0f} s", flush=True)  # fmt: skip
    (run,) = run_engine(arch, text, [Case(case.program, case.tensors)])
    command = f"python -m tests.campaign.gpt2_layer --arch {arch.name} --keys {args.keys} --kept {args.kept} " \
              f"--seed {args.seed}"  # fmt: skip
    verdict = judge(prediction, run, command)
    speed, per_s = simulator_speed(case), run.cycles / run.seconds
    timing, values = speed.faster(per_s)
    for line in verdict.mismatches:
        print(line)
    print(
        f"{arch.name}: {verdict.rows} rows, {verdict.cycles:,} cycles: {verdict.differing_bits} differing bits, "
        f"{verdict.differing_cycles} differing cycles, {len(verdict.mismatches)} mismatches\n"
        f"Verilator {per_s:,.0f} cycles/s ({run.seconds:.1f} s); "
        f"simulator {speed.cycles / speed.timing_s:,.0f} cycles/s timing only: {timing:,.0f}x; "
        f"{speed.cycles / speed.values_s:,.0f} with values: {values:,.0f}x"
    )
    path = write_summary(
        f"gpt2-layer-{arch.name}",
        {
            "command": command, "verdict": verdict.as_dict(), "second_passes": second,
            "verilog_lines": text.count("\n"), "verilog_s": round(written - start, 1),
            "build_s": round(built - written, 1), "verilator_cycles_per_s": round(per_s),
            "simulator_timing_only_cycles_per_s": round(speed.cycles / speed.timing_s),
            "simulator_with_values_cycles_per_s": round(speed.cycles / speed.values_s),
            "ratio_timing_only": round(timing, 1), "ratio_with_values": round(values, 1),
        },
        args.out,
    )  # fmt: skip
    print(f"summary: {path}")
    return int(bool(verdict.mismatches or verdict.differing_bits))


if __name__ == "__main__":
    sys.exit(main())
