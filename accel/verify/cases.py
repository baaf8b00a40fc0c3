"""Programs for the whole engine: seeded random ones, and directed ones for its corners."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from accel.arch import Arch
from accel.errors import UserError
from accel.lower.plan import WIDTHS, Plan
from accel.lower.programs import lower_decode, lower_prefill
from accel.program import Lsb, Program
from accel.units.engine import EngineUnit
from accel.units.state import StateUnit
from accel.verify.mode_cases import decay_directed, linear_directed, random_decay, random_linear
from accel.verify.state_cases import random_state, state_directed
from accel.verify.tensors import KINDS, PLANES, scaled, tensors_of
from sim.recorded import JobTensors
from workloads.kernels import Mask, SoftmaxAttention

MOST_KEYS, MOST_LAYERS, MOST_STEPS = 24, 3, 3
MOST_TILES, MOST_TILE_QUERIES = 3, 5
HEADS = [(1, 1), (2, 2), (3, 3), (4, 4), (2, 1), (3, 1), (4, 2), (4, 1)]
HEAD_DIMS = [8, 16, 24, 32, 40, 64, 80, 96, 128]
SCALES = [2.0**-12, 2.0**-9, 2.0**-6, 0.02, 1.0, 100.0]


@dataclass(frozen=True)
class EngineCase:
    """One program with its tensors, one entry per attend job; ``about`` says what was drawn."""

    name: str
    arch: Arch
    program: Program
    tensors: list[JobTensors]
    about: str = ""


def unsupported(case: EngineCase) -> str | None:
    """Why the engine's hardware cannot run this program, although the simulator can; None if it can."""
    try:
        EngineUnit.of(case.arch)
    except UserError as error:
        return str(error)
    return None


def random_case(arch: Arch, seed: int) -> EngineCase:
    """The program of this seed; it may be :func:`unsupported`."""
    rng = np.random.default_rng(seed)
    while True:  # what lowering refuses is drawn again
        try:
            return _draw(arch, rng, seed)
        except UserError:
            continue


def random_cases(arch: Arch, count: int, first_seed: int = 0) -> Iterator[EngineCase]:
    """``count`` random programs that the hardware can run, in order of their seeds."""
    seed = first_seed
    while count:
        case = random_case(arch, seed)
        seed += 1
        if unsupported(case) is None:
            count -= 1
            yield case


def random_mode(arch: Arch, seed: int) -> EngineCase:
    """A program of the modes beside softmax, of this seed."""
    rng = np.random.default_rng(seed)
    draws = random_linear if rng.integers(2) else random_decay
    if np.random.default_rng([seed, 1]).integers(3) == 0 and StateUnit(arch).missing() is None:
        draws = random_state
    program, tensors, about = draws(arch, rng)
    return EngineCase(f"{arch.name}-mode-{seed}", arch, program, tensors, about)


def _heads(arch: Arch, rng: np.random.Generator) -> tuple[int, int, int]:
    """Query heads, K/V heads and head dimension that the machine has."""
    heads, kv_heads = rng.choice([pair for pair in HEADS if pair[0] <= arch.max_heads]).tolist()
    return heads, kv_heads, int(rng.choice([d for d in HEAD_DIMS if d <= arch.max_head_dim]))


def _fetched(rng: np.random.Generator) -> dict[str, Any]:
    """What a plan says about planes and second passes."""
    msb, lsb_bits = PLANES[rng.integers(len(PLANES))]
    return {
        "key_msb_bits": msb,
        "key_lsb_bits": lsb_bits,
        "value_bits": int(rng.choice(WIDTHS)),
        "lsb": Lsb(int(rng.choice(list(Lsb)))) if lsb_bits else Lsb.NEVER,
        "threshold": float(rng.choice([0.0, 0.05, 0.3, 1.0])),
    }


def random_tiles(arch: Arch, seed: int) -> EngineCase:
    """A program of more keys than a tile holds and several rows; they go on from tile to tile, some end before."""
    rng = np.random.default_rng(seed)
    heads, kv_heads, dim = _heads(arch, rng)
    plan = Plan(**_fetched(rng), local_values=float(rng.choice([1.0, 1.0, 0.5, 0.01])))
    tile, queries = arch.tile_keys(dim), int(rng.integers(1, MOST_TILE_QUERIES + 1))
    keys = tile * int(rng.integers(1, MOST_TILES)) + int(rng.integers(1, 1 + min(tile, 2 * MOST_TILE_QUERIES)))
    start = max(0, keys - queries - int(rng.integers(3)))
    causal = bool(rng.integers(2))
    kernel = SoftmaxAttention(
        heads, kv_heads, queries=queries, keys=start + queries if causal else keys, head_dim=dim,
        mask="causal" if causal else "none", cross=not causal, query_start=start if causal else 0,
    )  # fmt: skip
    program = lower_prefill(kernel, plan, arch, 1)
    kind, scale = KINDS[rng.integers(len(KINDS))], float(rng.choice(SCALES))
    program = Program(scaled(program.jobs, scale))
    about = f"{kind}, scale {scale}, tiles of {tile} keys, {kernel} with {plan}"
    return EngineCase(
        f"{arch.name}-tiles-{seed}", arch, program, tensors_of(program.jobs, seed, kind, kernel.keys), about
    )


def _draw(arch: Arch, rng: np.random.Generator, seed: int) -> EngineCase:
    heads, kv_heads, dim = _heads(arch, rng)
    layers, n = int(rng.integers(1, MOST_LAYERS + 1)), int(rng.integers(1, MOST_KEYS + 1))
    decode = bool(rng.integers(2))
    plan = Plan(
        **_fetched(rng),
        local_values=float(rng.choice([1.0, 0.5, 0.2, 0.01])),
        tokens=float(rng.choice([1.0, 0.6, 0.3])),
        heads=float(rng.choice([1.0, 0.5])) if heads == kv_heads else 1.0,
        halve_every=int(rng.integers(3)) if decode else 0,
    )
    if decode:
        kernel = SoftmaxAttention(heads, kv_heads, queries=1, keys=n, head_dim=dim, query_start=n - 1)
        steps = int(rng.integers(1, MOST_STEPS + 1))
        program = lower_decode(kernel, plan, arch, layers, steps, prefill=n > 1 and bool(rng.integers(2)))
        n += steps - 1
    else:
        masks: list[tuple[Mask, bool]] = [("causal", False), ("none", False), ("none", True)]
        mask, cross = masks[rng.integers(3)]
        queries = int(rng.integers(1, MOST_KEYS + 1)) if cross else n
        kernel = SoftmaxAttention(
            heads, kv_heads, queries=queries, keys=n, head_dim=dim, mask=mask, cross=cross,
            batch=int(rng.choice([1, 1, 2])),
        )  # fmt: skip
        program = lower_prefill(kernel, plan, arch, layers)
    kind, scale = KINDS[rng.integers(len(KINDS))], float(rng.choice(SCALES))
    program = Program(scaled(program.jobs, scale))
    about = f"{kind}, scale {scale}, {layers} layers, {'decode' if decode else 'prefill'} of {kernel} with {plan}"
    tensors = tensors_of(program.jobs, int(rng.integers(1 << 31)), kind, n)
    return EngineCase(f"{arch.name}-{seed}", arch, program, tensors, about)


def _directed(
    name: str, arch: Arch, kernel: SoftmaxAttention, plan: Plan, *, layers: int = 1, steps: int = 0,
    prefill: bool = False, kind: str = "normal", scale: float = 2.0**-9,
) -> EngineCase:  # fmt: skip
    """A decode of ``steps``, or a prefill."""
    if steps:
        program = lower_decode(kernel, plan, arch, layers, steps, prefill=prefill)
    else:
        program = lower_prefill(kernel, plan, arch, layers)
    program = Program(scaled(program.jobs, scale))
    return EngineCase(name, arch, program, tensors_of(program.jobs, 1, kind, kernel.keys + max(0, steps - 1)), name)


def directed_cases(arch: Arch) -> list[EngineCase]:
    """The corners, one by one; all of them are supported."""
    dim, wide = 16, arch.max_head_dim
    tile = arch.tile_keys(wide)
    most, columns = min(arch.max_context, tile), min(64, arch.tile_keys(8))

    def prefill(heads: int, n: int, head_dim: int = dim, mask: Mask = "causal", kv_heads: int = 0) -> SoftmaxAttention:
        return SoftmaxAttention(heads, kv_heads or heads, queries=n, keys=n, head_dim=head_dim, mask=mask)

    def across(heads: int, queries: int, keys: int, head_dim: int = wide) -> SoftmaxAttention:
        return SoftmaxAttention(heads, heads, queries=queries, keys=keys, head_dim=head_dim, mask="none", cross=True)

    def step(heads: int, n: int, head_dim: int = dim) -> SoftmaxAttention:
        return SoftmaxAttention(heads, heads, queries=1, keys=n, head_dim=head_dim, query_start=n - 1)

    planes: dict[str, Any] = {"key_msb_bits": 6, "key_lsb_bits": 4}
    cases = [
        _directed("one key", arch, step(1, 1), Plan(), steps=1),
        _directed("one key, both planes", arch, step(2, 1), Plan(**planes, lsb=Lsb.ALWAYS), steps=1),
        _directed("lsb on all rows", arch, prefill(2, 9), Plan(**planes, lsb=Lsb.ALWAYS), layers=2),
        _directed("lsb on no row", arch, prefill(2, 9), Plan(**planes, lsb=Lsb.TEST, threshold=0.0), layers=2),
        _directed("lsb on some rows", arch, prefill(2, 12), Plan(**planes, lsb=Lsb.TEST, threshold=0.3), scale=2.0**-8),
        _directed("planes 10+4", arch, prefill(2, 7), Plan(key_msb_bits=10, key_lsb_bits=4, lsb=Lsb.ALWAYS)),
        _directed("one value kept", arch, step(2, 20), Plan(local_values=0.01), steps=2),
        _directed("all weights equal", arch, step(2, 20), Plan(local_values=0.3), steps=2, kind="equal"),
        _directed("values of each column", arch, prefill(2, 20, 8), Plan(**planes, local_values=0.3), layers=2),
        _directed("values of each column, all weights equal", arch, prefill(1, 20, 8), Plan(local_values=0.3),
                  kind="equal"),
        _directed("values of each column, weight ring full", arch,
                  SoftmaxAttention(1, 1, queries=8, keys=columns, head_dim=8, mask="none", cross=True),
                  Plan(local_values=0.9)),
        _directed("one token left", arch, prefill(2, 12), Plan(token_counts=(12, 1, 1)), layers=3),
        _directed("two tokens left", arch, prefill(2, 12), Plan(token_counts=(12, 2)), layers=2),
        _directed("all tokens but one left", arch, prefill(2, 12), Plan(token_counts=(12, 11)), layers=2),
        _directed("one token left, decode", arch, step(2, 12), Plan(token_counts=(1, 1)), layers=2, steps=3,
                  prefill=True),
        _directed("equal importance", arch, prefill(1, 12), Plan(token_counts=(12, 5)), layers=2, kind="equal"),
        _directed("importance fades", arch, step(1, 10), Plan(tokens=0.5, halve_every=1), layers=2, steps=4,
                  prefill=True),
        _directed("saturated", arch, prefill(1, 6), Plan(), kind="saturating", scale=100.0),
        _directed("scale 0", arch, prefill(1, 6), Plan(), scale=2.0**-60),
        _directed("widest head", arch, prefill(1, 5, wide), Plan(**planes, lsb=Lsb.TEST, threshold=0.5)),
        _directed("head not a power of two", arch, prefill(2, 5, 24), Plan(**planes, lsb=Lsb.ALWAYS)),
        _directed("narrowest", arch, prefill(1, 5, 8), Plan(key_msb_bits=4, value_bits=4)),
        _directed("tiles of several rows", arch, across(1, 3, tile + 7), Plan(**planes, lsb=Lsb.TEST, threshold=0.5)),
        _directed("tiles of several rows, selected", arch, across(2, 2, 2 * tile + 1, 24), Plan(local_values=0.1)),
        _directed("tiles that are some rows' last", arch,
                  SoftmaxAttention(1, 1, queries=5, keys=2 * tile + 1, head_dim=wide, query_start=2 * tile - 4),
                  Plan()),
        _directed("tiles that rise by much", arch, across(1, 4, tile + 3), Plan(), scale=0.02),
        _directed("context as long as it can be", arch, step(1, most, wide), Plan(), steps=1),
        _directed("context as long as it can be, selected", arch, step(1, most, wide),
                  Plan(**planes, lsb=Lsb.ALWAYS, local_values=0.5), steps=1),
        _directed("tiles of one row", arch, step(1, tile + 7, wide), Plan(**planes, lsb=Lsb.TEST, threshold=0.5),
                  steps=2),
        _directed("tiles of one row, selected", arch, step(2, 2 * tile + 1, wide), Plan(local_values=0.5), steps=1),
        _directed("keys that no query sees", arch, SoftmaxAttention(2, 2, queries=3, keys=20, head_dim=dim),
                  Plan(**planes, lsb=Lsb.ALWAYS), layers=2),
        _directed("two sequences", arch, SoftmaxAttention(1, 1, queries=3, keys=3, head_dim=dim, batch=2),
                  Plan(token_counts=(3, 2)), layers=2),
    ]  # fmt: skip
    if arch.max_heads >= 4:
        cases += [
            _directed("one head left", arch, prefill(4, 6), Plan(head_counts=(4, 1, 1)), layers=3),
            _directed("heads of a later step are new", arch, step(4, 6), Plan(head_counts=(4, 2)), layers=2, steps=2,
                      prefill=True),
            _directed("pairs of heads", arch, prefill(4, 6, 16), Plan(**planes, lsb=Lsb.TEST, threshold=0.5)),
            _directed("odd number of heads in pairs", arch, prefill(3, 6, 16), Plan(key_msb_bits=6)),
            _directed("tiles of four queries per key head", arch,
                      SoftmaxAttention(4, 1, queries=1, keys=tile + 2, head_dim=24, query_start=tile + 1), Plan(),
                      steps=2),
            _directed("four queries per key head", arch, prefill(4, 5, kv_heads=1), Plan(**planes, lsb=Lsb.ALWAYS)),
        ]  # fmt: skip
    for name, program, tensors in (*decay_directed(arch), *linear_directed(arch), *state_directed(arch)):
        cases.append(EngineCase(name, arch, program, tensors, name))
    return cases
