"""One layer of a mixer at growing length: softmax attention and retention in its three forms, traffic and time.

Attention, parallel decay and the recurrent form go through the cycle simulator, the latter by `accel.zoo.program_time`
with two stretches of tokens when there are many. A prefill of t tiles of keys is t triangles, t (t - 1) / 2
squares of keys that are all seen, and 2 t - 1 fetches of a tile: a quadratic polynomial in t, which three tiles and
fewer determine and longer prefills are taken from (a test holds four tiles against it). The engine has no chunkwise
form, which is modelled as in the zoo.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from accel.arch import Arch
from accel.lower.zoo import ENGINE_BITS, lower_call
from accel.session import code_version
from accel.zoo.phase_run import run_phase
from workloads.kernels import ChunkState, DecayAttention, Kernel, SoftmaxAttention, StateUpdate, geometric_gammas
from workloads.systems import Call

FORMAT = 1
LENGTHS = tuple(1 << bit for bit in range(6, 17))
FORMS = ("softmax attention", "parallel decay", "chunkwise", "recurrent")
QUADRATIC = FORMS[:2]
KNOWN = 3
"""Tiles of the longest prefill that is simulated."""
HEADS, DIM, CHUNK = 16, 64, 512
"""A layer of GPT-2 Medium's shape; the chunk is RetNet's."""


class Point(NamedTuple):
    """One form at one length: bytes over the memory bus, cycles, and how they were found."""

    dram_bytes: float
    cycles: float
    label: str
    closed_form_bytes: int


def kernel_of(form: str, n: int) -> Kernel:
    """A prefill of n tokens."""
    gammas = geometric_gammas(HEADS, 1 / 32, 1 / 512)
    match form:
        case "softmax attention":
            return SoftmaxAttention(HEADS, HEADS, n, n, DIM)
        case "parallel decay":
            return DecayAttention(HEADS, n, DIM, DIM, gammas)
        case "chunkwise":
            return ChunkState(HEADS, HEADS, DIM, DIM, n, chunk=min(CHUNK, n), decay="constant", gammas=gammas)
        case _:
            return StateUpdate(HEADS, HEADS, DIM, DIM, n, decay="constant", gammas=gammas)


def measure(form: str, n: int, arch: Arch) -> Point:
    """One point, as the zoo finds it."""
    call = Call(form, "mixer", 1, kernel_of(form, n), frozenset({"state"}))
    (phase,) = lower_call(call, arch)
    run = run_phase(arch, phase)
    return Point(run.moved_bytes, run.cycles, run.label, phase.once_bytes)


def point(form: str, n: int, arch: Arch) -> Point:
    """The same for any length; many tiles are put together."""
    tile = arch.tile_keys(DIM)
    tiles = n // tile
    if form not in QUADRATIC or tiles <= KNOWN or n % tile:
        return measure(form, n, arch)
    known = [measure(form, count * tile, arch) for count in range(1, KNOWN + 1)]

    def grown(values: Sequence[float]) -> float:
        one, two, three = values
        slope, bend = two - one, three - 2 * two + one
        return one + (tiles - 1) * slope + (tiles - 1) * (tiles - 2) / 2 * bend

    found = grown([at.dram_bytes for at in known]), grown([at.cycles for at in known])
    return Point(*found, "sampled", kernel_bytes(form, n))


def kernel_bytes(form: str, n: int) -> int:
    """The closed form: each tensor once."""
    return sum(Call(form, "mixer", 1, kernel_of(form, n), frozenset({"state"})).dram_bytes(ENGINE_BITS).values())


def crossover_report(
    arch: Arch, command: str, lengths: Sequence[int] = LENGTHS, tell: Callable[[str, float], None] | None = None
) -> dict[str, Any]:
    """All forms at all lengths, and where the recurrent and chunkwise forms begin to be better than attention."""
    rows: list[dict[str, Any]] = []
    for form in FORMS:
        for n in lengths:
            if tell:
                tell(f"{form}, {n:,} tokens", len(rows) / (len(FORMS) * len(lengths)))
            at = point(form, n, arch)
            rows.append(
                {
                    "form": form, "tokens": n, "dram_bytes": at.dram_bytes, "cycles": at.cycles,
                    "latency_s": at.cycles / (arch.clock_MHz * 1e6), "time": at.label,
                    "closed_form_bytes": at.closed_form_bytes,
                }
            )  # fmt: skip
    return {
        "format": FORMAT,
        "kind": "crossover",
        "command": command,
        "code_version": code_version(),
        "arch": arch.model_dump(mode="json"),
        "seed": None,
        "shape": {"heads": HEADS, "key_dim": DIM, "value_dim": DIM, "chunk": CHUNK, "work": "prefill of one layer"},
        "rows": rows,
        "crossings": [
            {"form": form, "against": other, "what": what, "tokens": crossing(rows, form, other, what)}
            for form in ("chunkwise", "recurrent") for other in QUADRATIC for what in ("dram_bytes", "cycles")
        ],
    }  # fmt: skip


def crossing(rows: Sequence[dict[str, Any]], form: str, other: str, what: str) -> float | None:
    """Length from which on ``form`` needs less than ``other``, between two lengths in proportion on logarithmic axes;
    None if it does not at the longest one; the shortest one if it always does.
    """
    by = {(row["form"], row["tokens"]): row[what] for row in rows}
    lengths = sorted({row["tokens"] for row in rows})
    ratio = [math.log(by[form, n] / by[other, n]) for n in lengths]
    if ratio[-1] >= 0:
        return None
    for at in range(len(lengths) - 1, 0, -1):
        if ratio[at - 1] >= 0:
            part = ratio[at - 1] / (ratio[at - 1] - ratio[at])
            return float(lengths[at - 1] * (lengths[at] / lengths[at - 1]) ** part)
    return float(lengths[0])
