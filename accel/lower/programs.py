"""Whole programs of softmax attention: a prefill or an encoder over its layers, and decode steps."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from accel.arch import Arch
from accel.errors import UserError
from accel.lower.attention import Lowering
from accel.lower.plan import Plan
from accel.program import JOB, Jobs, Program, jobs_of
from workloads.kernels import SoftmaxAttention


def lower_prefill(kernel: SoftmaxAttention, plan: Plan, arch: Arch, layers: int) -> Program:
    """All queries through all layers, sequence after sequence; also an encoder, a cross attention or a later chunk.

    Raises:
        UserError: anything that :class:`~accel.lower.attention.Lowering` or :meth:`Program.check` refuses.
    """
    low = Lowering(arch, plan, kernel, layers)
    jobs = [part for sequence in range(kernel.batch) for part in _prefill(low, sequence)]
    return _program(jobs, arch)


def lower_decode(
    kernel: SoftmaxAttention, plan: Plan, arch: Arch, layers: int, steps: int, *, prefill: bool = False
) -> Program:
    """``steps`` single queries, the first with ``kernel.keys`` keys (its own is the last), each further one more.

    With ``prefill`` the prompt (all but the first step's own token) goes before them, with all its tokens; its rows
    then decide what the first step prunes. Without it nothing is known of the tokens at first, so the first step
    keeps all.

    Raises:
        UserError: ``kernel`` is not one decode step, or anything that Lowering or Program.check refuses.
    """
    if kernel.queries != 1 or kernel.mask != "causal" or kernel.query_start != kernel.keys - 1:
        raise UserError(
            f"decode: a step has queries = 1, a causal mask and query_start = keys - 1, not "
            f"{kernel.queries}, {kernel.mask}, {kernel.query_start}"
        )
    if steps < 1:
        raise UserError(f"decode: steps = {steps}: must be 1 or more")
    if prefill and kernel.keys < 2:
        raise UserError("decode: keys = 1 leaves no prompt to prefill; give 2 or more keys")
    most, prompt = kernel.keys + steps - 1, kernel.keys - 1
    largest = replace(kernel, keys=most, query_start=most - 1)
    if prefill:
        largest = replace(largest, queries=prompt, query_start=0)
    low = Lowering(arch, plan, largest, layers)
    jobs: list[Jobs] = []
    for sequence in range(kernel.batch):
        if prefill:
            jobs.append(jobs_of(low.tokens(prompt, restart=True)))
            jobs += [low.attend(layer, prompt, prompt, 0, sequence=sequence) for layer in range(layers)]
        for step in range(steps):
            keys = kernel.keys + step
            jobs.append(jobs_of(low.tokens(keys, restart=step == 0 and not prefill)))
            for layer in range(layers):
                pruned = prefill or step > 0
                if pruned:
                    jobs.append(jobs_of(low.prunes(layer, keys, decode=True)))
                seen = plan.tokens_kept(layer, layers, keys) if pruned else keys
                jobs.append(
                    low.attend(
                        layer,
                        1,
                        seen,
                        seen - 1,
                        listed=seen < keys,
                        sequence=sequence,
                        iteration=step,
                        halve=layer == 0 and plan.halves(step),
                    )
                )
    return _program(jobs, arch)


def _prefill(low: Lowering, sequence: int) -> list[Jobs]:
    kernel = low.kernel
    low.check_prefill(kernel.keys)
    jobs = [jobs_of(low.tokens(kernel.keys, restart=True))]
    for layer in range(low.layers):
        keys = low.plan.tokens_kept(layer, low.layers, kernel.keys)
        queries = kernel.queries if kernel.cross or keys == kernel.keys else keys
        jobs.append(jobs_of(low.prunes(layer, kernel.keys)))
        jobs.append(low.attend(layer, queries, keys, kernel.query_start, listed=keys < kernel.keys, sequence=sequence))
    return jobs


def _program(jobs: Sequence[Jobs], arch: Arch) -> Program:
    program = Program(np.concatenate([np.zeros(0, JOB), *jobs]))
    program.check(arch)
    return program
