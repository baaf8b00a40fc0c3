"""Programs of mode ``state``: directed ones for its corners, and seeded random ones."""

import numpy as np

from accel.arch import Arch
from accel.lower.plan import Plan
from accel.lower.programs import lower_prefill
from accel.lower.state import StateLayout, StateScale, lower_state
from accel.numerics.decay import LARGEST_DECAY, encode_decay, encode_decay_words, output_scale
from accel.program import Flag, Lsb, Mode, Opcode, Program, jobs_of
from accel.units.modes import MAX_STATE_SHIFT
from accel.units.state import StateUnit
from accel.verify.mode_cases import decay_program, joined
from accel.verify.tensors import KINDS, scaled, tensors_of, words
from sim.recorded import JobTensors
from workloads.kernels import SoftmaxAttention, StateUpdate
from workloads.kernels.recurrence import Decay

Case = tuple[Program, list[JobTensors]]
OUTPUT_SCALES = [2.0**-4, 2.0**-5, 3.0**-4, 2.0**-9]


def state_program(
    arch: Arch, heads: int, key_dim: int, value_dim: int, tokens: int, *, decay: Decay = "constant",
    gammas: tuple[float, ...] | None = None, kind: str = "normal", seed: int = 1, shift: int = 4, layers: int = 1,
    tokens_per_job: int | None = None, output: float = 2.0**-5, base: int = 0,
) -> Case:  # fmt: skip
    """Random tokens through states, and the tensors of the jobs."""
    kernel = StateUpdate(heads, heads, key_dim, value_dim, tokens, decay=decay, gammas=gammas)
    scales = [StateScale(shift, output_scale(output / (1 + head))) for head in range(heads)]
    program = lower_state(kernel, arch, layers=layers, scales=scales, tokens_per_job=tokens_per_job, base=base)
    layout, rng = StateLayout(arch, kernel, layers, base), np.random.default_rng(seed)
    shape = (layers * heads * layout.blocks, tokens, layout.dim)
    # Words of a record behind the last row of a state are not zero: nobody asks for them.
    q, k, v = (words(rng, kind, shape) for _ in range(3))
    exponents = encode_decay(
        2.0 ** -(2.0 ** rng.uniform(-13, 4, (*shape[:2], layout.dim if decay == "channel" else 1)))
    )
    decays = np.broadcast_to(encode_decay_words(exponents), shape).astype(np.int16)
    done = dict.fromkeys(range(len(q)), 0)
    tensors = []
    for number, job in enumerate(program.jobs):
        of_layer = heads * layout.blocks
        step = tokens_per_job or tokens
        place = number // (of_layer * -(-tokens // step)) * of_layer + number % of_layer
        part = slice(done[place], done[place] + int(job["queries"]))
        done[place] = part.stop
        tensors.append(
            JobTensors(q[place, part], k[place, part], k[place, part], v[place, part],
                       decays[place, part] if layout.decay_words else None)
        )  # fmt: skip
    return program, tensors


def _changed(case: Case, **fields: int) -> Case:
    jobs = case[0].jobs.copy()
    for name, value in fields.items():
        jobs[name] = value
    return Program(jobs), case[1]


def state_directed(arch: Arch) -> list[tuple[str, Program, list[JobTensors]]]:
    """(name, program, tensors) of the corners of ``state``; none for a machine that has no such mode."""
    unit = StateUnit(arch)
    if unit.missing():
        return []
    wide, most = arch.max_head_dim, min(4, unit.rows(16) // 16)
    full = unit.rows(wide) // wide  # states of the widest kind
    cases = {
        "one token": state_program(arch, 1, 8, 8, 1),
        "one line": state_program(arch, 1, 8, 8, 9, gammas=(0.9,)),
        "slow": state_program(arch, 1, 16, 16, 20, gammas=(1 - 2.0**-12,)),
        "no decay": state_program(arch, 1, 16, 16, 12),
        "largest decay": _changed(state_program(arch, 1, 16, 16, 6), decay=LARGEST_DECAY),
        "widest": state_program(arch, 1, wide, wide, 5, gammas=(0.97,)),
        "narrow keys": state_program(arch, 1, 8, wide, 9, gammas=(0.8,)),
        "narrow values": state_program(arch, 1, 24, 8, 7, gammas=(0.6,)),
        "several heads": state_program(arch, 3, 16, 16, 6, gammas=(0.5, 0.97, 1.0)),
        "taking turns": state_program(arch, most, 16, 16, 5, tokens_per_job=2),
        "as many as fit": state_program(arch, full, wide, wide, 3, tokens_per_job=1, gammas=(0.99,) * full),
        "two layers": state_program(arch, 2, 8, 16, 4, layers=2, tokens_per_job=3),
        "blocks of columns": state_program(arch, 1, 8, 2 * wide + 8, 4, gammas=(0.9,)),
        "state saturates": state_program(arch, 1, 8, 8, 12, kind="saturating", shift=0),
        "largest shift": state_program(arch, 1, 16, 16, 8, kind="saturating", shift=MAX_STATE_SHIFT),
        "outputs saturate": state_program(arch, 1, 16, 16, 8, kind="peaked", shift=3, output=2.0**-4),
        "decays of a head": state_program(arch, 2, 16, 16, 9, decay="head"),
        "decays of channels": state_program(arch, 2, 16, 16, 9, decay="channel", tokens_per_job=4),
        "decays of channels, widest": state_program(arch, 1, wide, wide, 6, decay="channel"),
    }  # fmt: skip
    attention = decay_program(arch, 2, 9, 16, (0.9, 0.99))
    as_softmax = Program(attention.jobs.copy())
    as_softmax.jobs["mode"][1:] = Mode.SOFTMAX
    retention, softmax = ((program, tensors_of(program.jobs, 1, "normal", 9)) for program in (attention, as_softmax))
    once = state_program(arch, 2, 16, 16, 4, base=1 << 32)
    cases |= {
        "between attention and retention": joined(softmax, once, retention, once, softmax),
        "between tiles": _between(arch, once),
        "widest, after both planes": joined(
            _attention(arch, Plan(key_msb_bits=10, key_lsb_bits=4, lsb=Lsb.ALWAYS)),
            state_program(arch, 1, wide, wide, 4, base=1 << 32),
        ),
        "begun again": joined(once, (new_tokens(), []), (restarted(once[0]), once[1])),
    }
    return [(f"state, {name}", program, tensors) for name, (program, tensors) in cases.items()]


def random_state(arch: Arch, rng: np.random.Generator) -> tuple[Program, list[JobTensors], str]:
    """A program, its tensors, and what was drawn."""
    wide, heads = arch.max_head_dim, int(rng.integers(1, 4))
    key_dim, value_dim = int(rng.integers(1, wide + 1)), int(rng.integers(1, wide + 9))
    tokens = int(rng.integers(1, 12))
    decay: Decay = ("constant", "constant", "head", "channel")[rng.integers(4)]
    gammas = tuple(float(2.0 ** -(2.0 ** rng.uniform(-13, 3))) for _ in range(heads)) if decay == "constant" else None
    dim = min(wide, -(-max(key_dim, value_dim) // 8) * 8)
    fits = heads * -(-value_dim // dim) * -(-key_dim // 8) * 8 <= StateUnit.of(arch).rows(dim)
    per_job = int(rng.integers(1, tokens + 1)) if fits else None
    kind, shift = str(rng.choice(KINDS)), int(rng.integers(0, 8))
    program, tensors = state_program(
        arch, heads, key_dim, value_dim, tokens, decay=decay, gammas=gammas, kind=kind, shift=shift,
        seed=int(rng.integers(1 << 31)), tokens_per_job=per_job, output=float(rng.choice(OUTPUT_SCALES)),
    )  # fmt: skip
    return program, tensors, f"state, {kind}, {heads} of {key_dim} x {value_dim}, {tokens} tokens, decay {decay}"


def _attention(arch: Arch, plan: Plan) -> Case:
    """Two heads, as they leave the reads of K."""
    kernel = SoftmaxAttention(2, 2, queries=5, keys=5, head_dim=16, mask="causal")
    jobs = scaled(lower_prefill(kernel, plan, arch, 1).jobs, 2.0**-9)
    return Program(jobs), tensors_of(jobs, 1, "normal", 5)


def _between(arch: Arch, states: Case) -> Case:
    """Tiles of several rows, whose sums lie in memory meanwhile."""
    wide, tile = arch.max_head_dim, arch.tile_keys(arch.max_head_dim)
    tiles = decay_program(arch, 1, tile + 7, wide, (0.98,), queries=3)
    tensors = tensors_of(tiles.jobs, 1, "normal", tile + 7)
    return joined((Program(tiles.jobs[:2]), tensors[:1]), states, (Program(tiles.jobs[2:]), tensors[1:]))


def new_tokens() -> Program:
    """New tokens, which end no state."""
    return Program(jobs_of([{"opcode": Opcode.TOKENS, "flags": Flag.RESTART, "keys": 5}]))


def restarted(program: Program) -> Program:
    """The same jobs, all from an empty state on."""
    jobs = program.jobs.copy()
    jobs["flags"] |= np.uint8(Flag.RESTART)
    return Program(jobs)
