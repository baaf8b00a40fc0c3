"""Counters of a run, from the unrolled work and the timing. Names and units are those of ``docs/counters.md``."""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accel.arch import Arch
from accel.program import Mode
from accel.units.importance import TOKEN_SCORE_BITS
from accel.units.softmax import EXPONENT_BITS, MAXIMUM_BITS
from sim.engine import Timing
from sim.unroll import accesses
from sim.values import Recorded
from sim.work import OP_STATE, Work

ADDRESS_BYTES = 8  # one entry of an address FIFO; the paper's Table I
BASELINES = {"fp32": 4, "fp16": 2, "int8": 1}


def _sum(values: NDArray) -> int:
    return int(np.sum(values, dtype=np.int64))


def counts(arch: Arch, work: Work, recorded: Recorded, timing: Timing) -> dict[str, Any]:
    """All counters. Bytes are what crosses the memory bus (whole accesses) except in ``dram_useful_bytes``."""
    atom = arch.memory_spec.access_bytes
    rows, jobs, ksets = work.rows, work.jobs, work.ksets
    job = jobs[rows["job"]]
    dims = job["head_dim"]
    source = np.concatenate(recorded.jobs)
    of_row = source[rows["job"]]
    second = rows["lsb"] == 1
    chosen = job["v_resident"] == 0
    resident = (jobs["v_resident"] == 1) & (jobs["state_lines"] == 0)
    written = rows["silent"] == 0
    # Words of states that tokens go through, and rows of them: each word is updated, read out, and lies in both SRAMs.
    tokens = written & (job["state_lines"] > 0)
    state_rows = _sum(of_row["keys"][tokens].astype(np.int64))
    state_words = _sum((of_row["keys"].astype(np.int64) * dims)[tokens])
    read = {
        "q": _sum(rows["q_atoms"] + rows["p_atoms"]) * atom,
        "k_msb": _sum(ksets["keys"] * accesses(ksets["mask"])) * atom,
        "k_lsb": _sum((rows["keys"] * job["lsb_atoms"])[second]) * atom,
        "v": (_sum((rows["kept"] * job["v_atoms"])[chosen]) + _sum((jobs["keys"] * jobs["v_atoms"])[resident])) * atom,
        "weights": 0,
    }
    has_k, softmax = jobs["kset"] >= 0, source["mode"] == Mode.SOFTMAX
    of_k, row_has_k = jobs[has_k], has_k[rows["job"]]
    k_heads = np.bincount(of_k["kset"], weights=(of_k["keys"] * of_k["head_dim"] * source["msb_bits"][has_k]))
    useful = {
        "q": _sum(dims) * arch.value_bits // 8,
        "k_msb": _sum(k_heads) // 8,
        "k_lsb": _sum((rows["keys"] * dims * of_row["lsb_bits"])[second]) // 8,
        "v": (
            _sum((rows["kept"] * dims * of_row["value_bits"])[chosen])
            + _sum((jobs["keys"] * jobs["head_dim"] * source["value_bits"])[resident])
        )
        // 8,
        "weights": 0,
    }
    passes = rows["keys"] * (1 + rows["lsb"])
    exponents = _sum(passes)
    word = arch.value_bits
    reads = timing.dram["rd"]
    return {
        "rows": _sum(written),
        "lsb_refetch_rows": _sum(second),
        "keys": _sum(rows["keys"]),
        "values_used": _sum(rows["kept"]),
        "dram_read_bytes": read,
        "dram_useful_bytes": useful,
        "dram_write_bytes": _sum(rows["w_atoms"]) * atom,
        "dram_commands": {name: timing.dram[name] for name in ("act", "pre", "rd", "wr", "ref")},
        "dram_row_hits": timing.dram["row_hit"],
        "macs": {"qk": _sum(passes * dims) + state_words, "pv": _sum(rows["kept"] * dims) + state_words},
        "issue_cycles": timing.issue_cycles,
        "sram_read_bytes": {
            "k": (_sum((passes * dims)[row_has_k]) + state_words) * word // 8,
            "v": (_sum(rows["kept"] * dims) + state_words) * word // 8,
            "score": (_sum(rows["keys"]) * EXPONENT_BITS + _sum(rows["lines"]) * MAXIMUM_BITS) // 8,
        },
        "sram_write_bytes": {
            "k": (_sum(of_k["keys"] * of_k["head_dim"]) + _sum((rows["keys"] * dims)[second]) + state_words)
            * word
            // 8,
            "v": (_sum((rows["kept"] * dims)[chosen]) + _sum((jobs["keys"] * jobs["head_dim"])[resident]) + state_words)
            * word
            // 8,
            "score": (exponents * EXPONENT_BITS + _sum(rows["lines"] * (1 + rows["lsb"])) * MAXIMUM_BITS) // 8,
        },
        # In modes without a softmax a key takes one power of two as well, and one product with it; no row a reciprocal.
        # A row of a state takes two, for the words of k and of q.
        "softmax": {
            "exponentials": exponents + 2 * state_rows,
            "reciprocals": _sum(softmax[rows["job"]]),
            "normalisations": _sum(rows["keys"]) + 2 * state_rows,
        },
        "topk": {
            "selections": _sum(rows["select"] > 0),
            **recorded.topk_events,
            "cascade_prunes": _sum(work.ops["kind"] == OP_STATE),
        },
        "importance_updates": recorded.importance_updates,
        "importance_bits": TOKEN_SCORE_BITS,
        "crossbar_bytes": {"address": reads * ADDRESS_BYTES, "data": reads * atom},
        "output_values": _sum(dims[written]),
    }


def baseline_bytes(work: Work, dense: tuple[int, int] | None = None) -> dict[str, int]:
    """Traffic of dense attention at each precision: Q, K and V once where the engine reads them once, and the output.

    ``dense``: (numbers in K and V, numbers in Q) of the unpruned network; by default what this work would read if
    nothing were pruned within its rows.
    """
    kv, q = (
        dense
        if dense
        else (2 * _sum(work.jobs["keys"] * work.jobs["head_dim"]), _sum(work.jobs["head_dim"][work.rows["job"]]))
    )
    return {name: (kv + 2 * q) * size for name, size in BASELINES.items()}


def bound(arch: Arch, counted: dict[str, Any], timing: Timing) -> dict[str, Any]:
    """Cycles each part would need alone; ``limit`` is the largest, ``fraction`` how much of the run it explains.

    ``dram`` moves all bytes at peak bandwidth; the others are the cycles in which the unit was busy. ``writer`` hands
    one access per cycle to the memory.
    """
    moved = sum(counted["dram_read_bytes"].values()) + counted["dram_write_bytes"]
    alone = {
        "dram": math.ceil(moved / arch.peak_read_bytes_per_cycle),
        "qk": timing.busy["qk"],
        "softmax": timing.busy["softmax"],
        "topk": timing.busy["topk"] + timing.busy["cascade"],
        "pv": timing.busy["pv"],
        "writer": timing.dram["wr"],
    }
    limit = max(alone, key=lambda name: alone[name])
    return {**alone, "limit": limit, "fraction": alone[limit] / timing.cycles}
