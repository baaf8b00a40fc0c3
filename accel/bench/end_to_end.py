"""Projections and feed-forward layers of a network on the engine's own arrays: weights stream, one token at a time."""

from typing import Any, NamedTuple

import numpy as np

from accel import row_store
from accel.arch import Arch
from accel.cost.energy import run_energy
from accel.lower.linear import lower_linear
from accel.program import Program
from sim.counts import counts
from sim.engine import run_timing
from sim.unroll import unroll
from sim.values import Executor, JobTensors
from workloads.kernels import Gemm

FORMAT = 1
WEIGHT_BITS = (8, 12)


class Network(NamedTuple):
    """Sizes that decide its weights: per layer Q, K, V and output projections, two matrices of four times hidden."""

    layers: int
    hidden: int
    tokens: int

    @property
    def products(self) -> tuple[Gemm, ...]:
        """One layer, one token."""
        d = self.hidden
        return Gemm(1, d, 3 * d), Gemm(1, d, d), Gemm(1, d, 4 * d), Gemm(1, 4 * d, d)

    @property
    def weights(self) -> int:
        """Of one layer."""
        return sum(one.weight_numbers for one in self.products)

    @property
    def operations(self) -> int:
        """Multiply and add of all layers and tokens."""
        return 2 * self.layers * self.tokens * self.weights


GPT2_MEDIUM = Network(24, 1024, 32)


def key_of(network: Network, bits: int, arch: Arch, seed: int, code: str) -> str:
    """Short hash of all that decides the numbers."""
    return row_store.key_of(["fc", FORMAT, list(network), bits, arch.model_dump(mode="json"), seed, code])


def measure_fc(network: Network, bits: int, arch: Arch, seed: int) -> dict[str, Any]:
    """Time, bytes and energy of all FC layers for all tokens.

    One layer of one token is simulated, each product as a program of its own; all layers and tokens are alike. Time
    does not depend on the numbers, so they are zeros.

    Raises:
        UserError: a product that the machine cannot do.
    """
    cycles, moved, jobs, energy = 0, 0, 0, 0.0
    for kernel in network.products:
        program = lower_linear(kernel, arch, weight_bits=bits)
        executor = Executor(arch, seed)
        executor.run(program.jobs, tensors=_zeros(program))
        work = unroll(arch, executor.recorded)
        timing = run_timing(arch, work)
        counted = counts(arch, work, executor.recorded, timing)
        cycles += timing.cycles
        jobs += len(program.jobs)
        moved += sum(counted["dram_read_bytes"].values()) + counted["dram_write_bytes"]
        energy += run_energy(arch, counted, timing.cycles).energy_pJ["total"]
    times = network.layers * network.tokens
    return {
        "format": FORMAT,
        "weight_bits": bits,
        "cycles": cycles * times,
        "latency_s": cycles * times / (arch.clock_MHz * 1e6),
        "jobs": jobs * times,
        "job_bytes": network.weights * bits // 8 // jobs,
        "dram_bytes": moved * times,
        "bandwidth_share": moved / (cycles * arch.peak_read_bytes_per_cycle),
        "operations": network.operations,
        "energy_pJ": energy * times,
    }


def _zeros(program: Program) -> list[JobTensors]:
    found = []
    for job in program.jobs:
        dim = int(job["head_dim"])
        none = np.zeros((0, dim), np.int16)
        found.append(
            JobTensors(
                np.zeros((int(job["queries"]), dim), np.int16), none, none, np.zeros((int(job["keys"]), dim), np.int16)
            )
        )
    return found
