"""Programs of the modes beside softmax: directed ones for their corners, and seeded random ones."""

import numpy as np

from accel.arch import Arch
from accel.lower.decay import HeadScale, lower_decay
from accel.lower.linear import LinearLayout, lower_linear
from accel.lower.plan import WIDTHS
from accel.numerics.decay import LARGEST_DECAY, output_scale, weight_scale
from accel.program import Flag, Jobs, Mode, Opcode, Program, jobs_of
from accel.units.modes import MAX_OUTPUT_SHIFT
from accel.verify.tensors import KINDS, stored, tensors_of, words
from sim.recorded import JobTensors
from workloads.kernels import DecayAttention, Gemm

HEAD_DIMS = [8, 16, 24, 32, 40, 64, 80, 96, 128]
OUTPUT_SCALES = [2.0**-4, 2.0**-9, 3.0**-9, 2.0**-16, 2.0**-30]


def decay_program(
    arch: Arch, heads: int, length: int, dim: int, gammas: tuple[float, ...] | None = None, *,
    queries: int | None = None, layers: int = 1, loud: float = 1.0, output: float = 2.0**-9, key_bits: int = 12,
    value_bits: int = 12,
) -> Program:  # fmt: skip
    """Retention whose scores reach ``loud`` times the largest weight with words of 300; each head's scales differ."""
    kernel = DecayAttention(heads, length, dim, dim, gammas)
    score = weight_scale(300.0**2 * dim**0.5 * 4 / loud)
    scales = [HeadScale(score, output_scale(output / (1 + head))) for head in range(heads)]
    return lower_decay(
        kernel, arch, layers=layers, queries=queries, scales=scales, key_bits=key_bits, value_bits=value_bits
    )


def linear_program(
    arch: Arch, M: int, K: int, N: int, *, kind: str = "normal", seed: int = 1, output: float = 2.0**-9,
    weight_bits: int = 12, base: int = 0,
) -> tuple[Program, list[JobTensors]]:  # fmt: skip
    """Y = X W with random words, and the tensors of its jobs."""
    program = lower_linear(Gemm(M, K, N), arch, weight_bits=weight_bits, scale=output_scale(output), base=base)
    layout, rng = LinearLayout(arch, M, K, N, weight_bits), np.random.default_rng(seed)
    none = np.zeros((0, layout.dim), np.int16)
    # Words of a record behind the last element are not zero: no key asks for them.
    x = words(rng, kind, (layout.slices, M, layout.dim))
    w = stored(words(rng, kind, (layout.blocks, K, layout.dim)), weight_bits)
    tensors = []
    for block in range(layout.blocks):
        for s in range(layout.slices):
            rows = slice(s * layout.slice, min(K, (s + 1) * layout.slice))
            tensors.append(JobTensors(x[s], none, none, w[block, rows]))
    return program, tensors


def with_decay(program: Program, decay: int) -> Program:
    """The same program with another decay exponent."""
    jobs = program.jobs.copy()
    jobs["decay"][jobs["opcode"] == Opcode.ATTEND] = decay
    return Program(jobs)


def _behind(program: Program, visible: int) -> Program:
    """The same keys, so far from the queries that the first would see ``visible`` of them if there were more."""
    jobs = program.jobs.copy()
    jobs["first_visible"][jobs["opcode"] == Opcode.ATTEND] = visible
    return Program(jobs)


def joined(*programs: tuple[Program, list[JobTensors]]) -> tuple[Program, list[JobTensors]]:
    """One after the other."""
    jobs: Jobs = np.concatenate([program.jobs for program, _ in programs])
    return Program(jobs), [tensors for _, of in programs for tensors in of]


def decay_directed(arch: Arch) -> list[tuple[str, Program, list[JobTensors]]]:
    """(name, program, tensors) of the corners of ``decay``."""
    wide, dim = arch.max_head_dim, 16
    tile = arch.tile_keys(wide)
    near = min(24, arch.tile_keys(dim))

    def case(name: str, program: Program, length: int, kind: str = "normal") -> tuple[str, Program, list[JobTensors]]:
        return f"decay, {name}", program, tensors_of(program.jobs, 1, kind, length)

    one = decay_program(arch, 1, 20, dim)
    return [
        case("one key", decay_program(arch, 1, 1, dim), 1),
        case("fast and slow", decay_program(arch, 2, near, dim, (0.3, 1 - 2.0**-12)), near),
        case("none", with_decay(one, 0), 20),
        case("largest", with_decay(one, LARGEST_DECAY), 20),
        case("far behind", _behind(decay_program(arch, 1, 20, dim, (1 - 2.0**-16,), queries=3), 65534), 20),
        case("weights saturate", decay_program(arch, 2, 12, dim, (0.999, 0.5), loud=64.0), 12, "saturating"),
        case("outputs saturate", decay_program(arch, 1, 9, dim, (0.9,), loud=16.0, output=2.0**-4), 9, "peaked"),
        case("least output scale", decay_program(arch, 1, 9, dim, (0.9,), output=2.0**-44), 9),
        case("two layers", decay_program(arch, 2, 9, 24, (0.95, 0.8), layers=2, key_bits=6, value_bits=8), 9),
        case("narrowest", decay_program(arch, 1, near, 8, (0.97,)), near),
        case("widest", decay_program(arch, 1, 7, wide, (0.97,)), 7),
        case("one step", decay_program(arch, 2, 20, dim, (0.9, 0.99), queries=1), 20),
        case("tiles of one row", decay_program(arch, 1, 2 * tile + 3, wide, (0.99,), queries=1), 2 * tile + 3),
        case("tiles of several rows", decay_program(arch, 1, tile + 7, wide, (0.98,), queries=3), tile + 7),
        case("tiles that are some rows' last", decay_program(arch, 1, 2 * tile + 1, wide, (0.98,), queries=5),
             2 * tile + 1),
    ]  # fmt: skip


def random_decay(arch: Arch, rng: np.random.Generator) -> tuple[Program, list[JobTensors], str]:
    """A program, its tensors, and what was drawn."""
    dim = int(rng.choice([d for d in HEAD_DIMS if d <= arch.max_head_dim]))
    heads = int(rng.integers(1, min(4, arch.max_heads) + 1))
    tile = arch.tile_keys(dim)
    length = int(rng.integers(1, 24)) if rng.integers(3) else tile + int(rng.integers(1, 9))
    queries = int(rng.integers(1, min(length, 6 if length > tile else length) + 1))
    gammas = tuple(float(2.0 ** -(2.0 ** rng.uniform(-12, 3))) for _ in range(heads))
    loud, kind = float(2.0 ** rng.integers(-4, 6)), str(rng.choice(KINDS))
    program = decay_program(
        arch, heads, length, dim, gammas, queries=queries, layers=int(rng.integers(1, 3)), loud=loud,
        output=float(rng.choice(OUTPUT_SCALES)), key_bits=int(rng.choice(WIDTHS)), value_bits=int(rng.choice(WIDTHS)),
    )  # fmt: skip
    about = f"decay, {kind}, {heads} heads of {dim}, {queries} queries of {length} keys, gammas {gammas}"
    return program, tensors_of(program.jobs, int(rng.integers(1 << 31)), kind, length), about


def linear_directed(arch: Arch) -> list[tuple[str, Program, list[JobTensors]]]:
    """(name, program, tensors) of the corners of ``linear``."""
    wide, narrow = arch.max_head_dim, 16
    part = LinearLayout(arch, 1, wide, wide).slice  # elements of x in a job of widest rows
    above = 1 << 32  # no other tensor is there
    attention = decay_program(arch, 2, 9, narrow, (0.9, 0.99))
    retention = (attention, tensors_of(attention.jobs, 1, "normal", 9))
    heads = Program(attention.jobs.copy())
    heads.jobs["mode"][1:] = Mode.SOFTMAX
    softmax = (heads, retention[1])
    least = (1 << 17) - 1, MAX_OUTPUT_SHIFT
    cases = {
        "one element": linear_program(arch, 1, 1, narrow),
        "one output block, one slice": linear_program(arch, 1, narrow, narrow),
        "several rows": linear_program(arch, 5, narrow, narrow),
        "part of a slice": linear_program(arch, 3, 11, 24),
        "narrowest": linear_program(arch, 4, 8, 8),
        "widest": linear_program(arch, 2, part, wide),
        "chained, one row": linear_program(arch, 1, 2 * part + 3, wide),
        "chained, several rows": linear_program(arch, 3, 2 * part + 1, wide),
        "chained, more rows than query slots": linear_program(arch, 2 * arch.fetcher.query_slots + 1, 24, narrow),
        "several blocks": linear_program(arch, 2, part + 5, 2 * wide + 8, weight_bits=8),
        "weights of 4 bits": linear_program(arch, 2, 30, narrow, weight_bits=4),
        "outputs saturate": linear_program(arch, 2, 30, narrow, kind="saturating", output=0.1),
        "several scales": joined(
            linear_program(arch, 2, 20, narrow, output=2.0**-7),
            linear_program(arch, 1, 9, narrow, output=3.0**-8, base=above),
            linear_program(arch, 3, 16, narrow, output=2.0**-12, seed=2, base=2 * above),
        ),
        "least scale": joined(
            *(
                _scaled(*linear_program(arch, 1, 9, narrow, base=above * i), *scale)
                for i, scale in enumerate([least, (1, 0)])
            )
        ),
        "between attention and retention": joined(
            softmax, linear_program(arch, 2, 20, narrow, base=above), retention,
            linear_program(arch, 1, 9, narrow, base=2 * above),
        ),
        "beside few live tokens": joined(
            (_tokens(4), []), linear_program(arch, 1, 16, narrow), (_pruned_heads(), []),
            _of_head(*linear_program(arch, 2, 9, narrow, base=above), arch.max_heads - 1),
        ),
    }  # fmt: skip
    return [(f"linear, {name}", program, tensors) for name, (program, tensors) in cases.items()]


def _scaled(program: Program, tensors: list[JobTensors], mantissa: int, shift: int) -> tuple[Program, list[JobTensors]]:
    jobs = program.jobs.copy()
    jobs["output_mantissa"], jobs["output_shift"] = mantissa, shift
    return Program(jobs), tensors


def _of_head(program: Program, tensors: list[JobTensors], head: int) -> tuple[Program, list[JobTensors]]:
    jobs = program.jobs.copy()
    jobs["head"] = head
    return Program(jobs), tensors


def _tokens(live: int) -> Program:
    return Program(jobs_of([{"opcode": Opcode.TOKENS, "flags": Flag.RESTART, "keys": live}]))


def _pruned_heads() -> Program:
    """Leaves one head, the first as all scores are 0; jobs of ``linear`` are of no head, whatever they say."""
    return Program(jobs_of([{"opcode": Opcode.PRUNE_HEADS, "flags": Flag.RESTART, "keep_values": 1}]))


def random_linear(arch: Arch, rng: np.random.Generator) -> tuple[Program, list[JobTensors], str]:
    """A program, its tensors, and what was drawn."""
    M, K, N = (int(rng.integers(1, most)) for most in (7, 150, 80))
    kind, bits = str(rng.choice(KINDS)), int(rng.choice(WIDTHS))
    output = float(rng.choice(OUTPUT_SCALES))
    program, tensors = linear_program(
        arch, M, K, N, kind=kind, seed=int(rng.integers(1 << 31)), output=output, weight_bits=bits
    )
    return program, tensors, f"linear, {kind}, {M} x {K} times {K} x {N}, {bits}-bit weights"
