"""The beginning of a phase, as the simulator runs it: what a timeline draws inside a phase."""

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

from accel.arch import Arch
from accel.lower.decay import lower_decay
from accel.lower.linear import lower_linear
from accel.lower.plan import Plan
from accel.lower.state import lower_state
from accel.lower.zoo import Phase, lower_call
from accel.lower.zoo.phase import Piece
from accel.program import Jobs, Opcode, Program
from accel.zoo.attention_time import LONGEST, FlatScores, program_of, timed
from accel.zoo.program_time import one_head
from sim.engine import Timing
from sim.work import Work
from workloads.kernels import DecayAttention, Gemm, SoftmaxAttention, StateUpdate
from workloads.systems import Configuration

MOST_ROWS, MOST_KEYS = 128, 512
"""Rows and keys of an inner run; a timeline shows how rows follow each other, which further ones repeat."""


class Inner(NamedTuple):
    """``said``: what of the phase it is. ``jobs``: the attend jobs that ``work`` was made of."""

    said: str
    jobs: Jobs
    work: Work
    timing: Timing


def inner_runs(one: Configuration, arch: Arch) -> list[Inner | None]:
    """One per phase of a row, in order; None where nothing is simulated."""
    phases: Sequence[Phase] = [phase for call in one.calls() for phase in lower_call(call, arch)]
    found: dict[Piece, Inner] = {}
    out: list[Inner | None] = []
    for phase in phases:
        if not phase.pieces:
            out.append(None)
            continue
        piece = phase.pieces[0]
        if piece not in found:
            found[piece] = _run(piece, arch)
        out.append(found[piece])
    return out


def _run(piece: Piece, arch: Arch) -> Inner:
    program, said = _beginning(piece, arch)
    _, timing, work = timed(program, arch, FlatScores(), 1)
    jobs = program.jobs
    return Inner(said, jobs[jobs["opcode"] == Opcode.ATTEND], work, timing)


def _beginning(piece: Piece, arch: Arch) -> tuple[Program, str]:
    match kernel := piece.kernel:
        case Gemm():
            small = Gemm(min(kernel.M, MOST_ROWS), min(kernel.K, 2 * piece.longest), min(kernel.N, 2 * piece.width))
            said = " of ".join(f"[{one.M} x {one.K}] x [{one.K} x {one.N}]" for one in (small, kernel))
            return lower_linear(small, arch, width=piece.width, longest=piece.longest), said
        case DecayAttention():
            short = replace(one_head(kernel), length=min(kernel.length, MOST_ROWS))
            return lower_decay(short, arch), f"1 of {kernel.heads} heads, {short.length} of {kernel.length} tokens"
        case StateUpdate():
            gammas = kernel.gammas[:1] if kernel.gammas else None
            first = replace(kernel, heads=1, states=1, gammas=gammas, tokens=min(kernel.tokens, MOST_ROWS))
            return lower_state(first, arch), f"1 of {kernel.heads} heads, {first.tokens} of {kernel.tokens} tokens"
        case SoftmaxAttention():
            keys = min(kernel.keys, MOST_KEYS, LONGEST)
            queries = min(kernel.queries, MOST_ROWS, keys)
            start = keys - queries if kernel.mask == "causal" and kernel.query_start else 0
            run = replace(
                kernel, kv_heads=1, query_heads=kernel.group, batch=1, keys=keys, queries=queries, query_start=start,
            )  # fmt: skip
            said = f"1 of {kernel.kv_heads} heads, {queries} of {kernel.queries} queries, {keys} of {kernel.keys} keys"
            return program_of(run, Plan(), arch), said
