"""Matrix states in ``state`` mode: updated in place in both SRAMs while the PV array reads them out.

*Programs.* What `accel.lower.state` executes is handed on as a piece for the simulator: causal states that begin empty,
with a decay known before the run or one per row and token. `missing` says of all others what the engine lacks.

*Where the state is.* A state of several tokens is worked on head by head, block by block, and stays meanwhile; one
that lives from call to call (decoding) stays only if the states of all calls fit together, and is otherwise read and
written by every token, 3 bytes per word each way.

*Blocks.* Values wider than a head of the machine are column blocks with the same q and k; keys wider than a record are
row blocks, whose sums carry on.

*Rate.* That of the engine: a line every other cycle after the token's records, one job at a time. A state with levels
takes a reciprocal per row and token, one per cycle.
"""

from dataclasses import replace

from accel.arch import Arch
from accel.errors import UserError
from accel.lower.state import StateLayout
from accel.lower.state import lower_state as state_program
from accel.lower.zoo.causal import causal_work
from accel.lower.zoo.linear import moving
from accel.lower.zoo.phase import SUM_BYTES, WORD, Phase, Piece, Stream, blocks, line_cycles, streams_of, word_bytes
from accel.units.modes import STATE_BITS
from accel.units.state import RECORDS, RECORDS_WITH_DECAYS, StateUnit
from workloads.kernels import ChunkState, StateUpdate
from workloads.systems import Call


def state_room(arch: Arch) -> int:
    """State words that both SRAMs hold together."""
    return (arch.sram.k_bytes + arch.sram.v_bytes) * 8 // STATE_BITS


def token_lines(arch: Arch, dk: int, dv: int) -> int:
    """Cycles in which a token reads one state out, one line per cycle."""
    rows, columns = blocks(dk, arch.max_head_dim), blocks(dv, arch.max_head_dim)
    return sum(line_cycles(arch, row, column) for row in rows for column in columns)


def token_cycles(arch: Arch, dk: int, dv: int, decay: str) -> int:
    """Cycles of one token in one state: its records, then line by line."""
    records = RECORDS if decay in ("constant", "additive") else RECORDS_WITH_DECAYS
    rows, columns = blocks(dk, arch.max_head_dim), blocks(dv, arch.max_head_dim)
    unit = StateUnit(arch)
    return sum(
        records + -(-row // arch.values_per_line(column)) * unit.line_cycles(column)
        for row in rows
        for column in columns
    )


def missing(call: Call, arch: Arch) -> str | None:
    """Why the engine has no program for a recurrent form; None if it has."""
    kernel = call.kernel
    assert isinstance(kernel, StateUpdate)
    reasons = []
    try:
        state_program(kernel, arch)
    except UserError as refusal:
        reasons.append(str(refusal))
    if "state" not in call.on_chip:
        reasons.append("states begin empty, no job loads or stores one")
    elif kernel.tokens == 1:
        reasons.append("jobs of other modes between two tokens end a state")
    return "; ".join(reasons) or None


def _program_streams(call: Call, arch: Arch) -> tuple[Stream, ...]:
    """What a program moves: whole records of every token and block, and whole output rows."""
    kernel = call.kernel
    assert isinstance(kernel, StateUpdate)
    layout = StateLayout(arch, kernel)
    rows = kernel.heads * layout.blocks * kernel.tokens
    known = {stream.name: stream for stream in streams_of(call)}
    names = ["q", "k", "v", *(["alpha"] if layout.decay_words else [])]
    found = [moving(known.get(name, Stream(name, "activation")), rows * layout.record_stride) for name in names]
    out, size = known.get("output"), rows * layout.output_stride
    return (*found, moving(out, size) if out else Stream("output", "activation", write_again=size))


def _kept(streams: tuple[Stream, ...], moves: int) -> tuple[Stream, ...]:
    """The state moves in and out once instead of ``moves`` times."""
    found = []
    for stream in streams:
        if stream.kind == "state" and moves > 1:
            read, write = stream.read // moves, stream.write // moves
            stream = replace(stream, read=read, write=write, kept=stream.once - read - write)
        found.append(stream)
    return tuple(found)


def lower_state(call: Call, arch: Arch) -> tuple[Phase, ...]:
    """The recurrent form, token by token; a memory that learns by gradient steps goes to ``_gradient``."""
    kernel = call.kernel
    assert isinstance(kernel, StateUpdate)
    if kernel.decay == "gradient":
        return _gradient(call, arch)
    T, dk, dv = kernel.tokens, kernel.key_dim, kernel.value_dim
    nk, nv = len(blocks(dk, arch.max_head_dim)), len(blocks(dv, arch.max_head_dim))
    words, room = kernel.state_numbers, state_room(arch)
    said, again = [], {}
    spilled = "state" in call.on_chip and T == 1 and call.times * words > room
    if spilled:
        again["state"] = (word_bytes(words, STATE_BITS), word_bytes(words, STATE_BITS))
        said.append("state spilled: in and out with every token")
    elif T == 1 and "state" not in call.on_chip:
        said.append(f"{words * 3 / 1e3:,.0f} kB of state in and out with every token")
    else:
        said.append("state stays, head by head")
    if nk * nv > 1:
        said.append(f"{nk} x {nv} blocks of {arch.max_head_dim}")
    if T > 1:
        if nv > 1:
            again |= {
                "q": ((nv - 1) * word_bytes(kernel.heads * T * dk), 0),
                "k": ((nv - 1) * word_bytes(kernel.states * T * dk), 0),
            }
        if nk > 1:
            sums = (nk - 1) * kernel.heads * T * dv * SUM_BYTES
            again["sums"] = (sums, sums)
    if kernel.causal:
        cycles, reciprocals, limit = _causal_cycles(kernel, arch)
    else:
        update, read = token_cycles(arch, dk, dv, kernel.decay), token_lines(arch, dk, dv)
        cycles = T * (kernel.states * update + kernel.heads * read) + kernel.states * dk
        reciprocals, limit = kernel.states * dk, "all tokens in, then read by all"
    if limit:
        said.append(limit)
    if reason := missing(call, arch):
        said.append(f"no program: {reason}")
        streams = _kept(streams_of(call, again), T if kernel.causal else 1)
    else:
        streams = _program_streams(call, arch)
    factors = 2 * T * kernel.states * (dk if kernel.decay == "channel" else 1)
    return (
        Phase(
            call.label, "state", call.times, ", ".join(said), streams, ("state",), nk * nv, False,
            qk_macs=T * kernel.states * dk * dv, pv_macs=T * kernel.heads * dk * dv,
            exponentials=kernel.exponentials or factors,
            normalisations=T * (kernel.states + kernel.heads) * dk + reciprocals,
            output_values=T * kernel.heads * dv, array_cycles=cycles, pieces=() if reason else (Piece(kernel, 1),),
        ),
    )  # fmt: skip


def _causal_cycles(kernel: StateUpdate, arch: Arch) -> tuple[int, int, str]:
    """Cycles, reciprocals, and what holds the arrays up."""
    T, dk, dv = kernel.tokens, kernel.key_dim, kernel.value_dim
    per_token, said, reciprocals = token_cycles(arch, dk, dv, kernel.decay), "", 0
    if kernel.decay == "additive":
        reciprocals = T * kernel.states * dk
        said = "a reciprocal per row and token sets the pace" if dk > per_token else ""
        per_token = max(per_token, dk)
    # Further heads of a state only read it.
    cycles = T * (kernel.states * per_token + (kernel.heads - kernel.states) * token_lines(arch, dk, dv))
    return cycles, reciprocals, said


def _gradient(call: Call, arch: Arch) -> tuple[Phase, ...]:
    """Titans' memory: forward pass, error and read-out as products; its momentum has no path in the engine."""
    kernel = call.kernel
    assert isinstance(kernel, StateUpdate)
    T, hidden, dv = kernel.tokens, kernel.hidden, kernel.value_dim
    area = kernel.state_numbers // (2 * kernel.states)
    layers = [(kernel.key_dim, hidden), (hidden, dv)] if hidden else [(kernel.key_dim, dv)]
    passes = sum(line_cycles(arch, k, block) for k, n in layers for block in blocks(n, arch.max_head_dim))
    back = sum(line_cycles(arch, dv, block) for block in blocks(hidden, arch.max_head_dim)) if hidden else 0
    cycles = T * (kernel.states * (passes + back) + kernel.heads * passes)
    outer = T * kernel.states * area
    whole = streams_of(call)
    memory = word_bytes(T * kernel.states * area, WORD)
    ahead = tuple(stream for stream in whole if stream.kind != "state")
    return (
        Phase(
            f"{call.label}: forward, error, read", "linear", call.times,
            "the learned matrices as weights of a product, upper halves",
            (*ahead, Stream("memory", "state", read_again=memory)), ("x",), 1, True, pv_macs=kernel.macs - outer,
            output_values=T * (kernel.states * (2 * hidden + dv) + kernel.heads * (hidden + dv)), array_cycles=cycles,
        ),
        Phase(
            f"{call.label}: gradient and momentum", "host", call.times,
            "on the host: the momentum is a second state, whose addition into the memory has no path in the engine",
            tuple(stream for stream in whole if stream.kind == "state"), host_macs=outer,
        ),
    )  # fmt: skip


def lower_chunk(call: Call, arch: Arch) -> tuple[Phase, ...]:
    """The chunkwise form: decay attention inside a chunk, read-out of the state before it, then the chunk's updates."""
    kernel = call.kernel
    assert isinstance(kernel, ChunkState)
    T, dk, dv = kernel.tokens, kernel.key_dim, kernel.value_dim
    nk, nv = len(blocks(dk, arch.max_head_dim)), len(blocks(dv, arch.max_head_dim))
    dim = min(max(dk, dv), arch.max_head_dim)
    whole, rest = divmod(T, kernel.chunk)
    inside = causal_work(arch, kernel.chunk, dim)
    tail = causal_work(arch, rest, dim) if rest else None
    lines = whole * inside.lines + (tail.lines if tail else 0)
    handed_on = whole * inside.handed_on + (tail.handed_on if tail else 0)
    # A token that updates a state has the engine to itself.
    update, read = kernel.states * token_cycles(arch, dk, dv, kernel.decay), kernel.heads * token_lines(arch, dk, dv)
    cycles = kernel.heads * nk * nv * lines + T * (update + read)
    queries, keys = kernel.heads * T * dk, kernel.states * T * dk
    sums = kernel.heads * dv * SUM_BYTES * (nk * (handed_on + T) + (nk - 1) * T)
    block = min(dk, arch.max_head_dim) * min(dv, arch.max_head_dim)
    fits = block <= state_room(arch)
    again = {
        "q": ((2 * nv - 1) * word_bytes(queries), 0),
        "k": ((2 * nv - 1) * word_bytes(keys), 0),
        "v": ((2 * nk - 1) * word_bytes(kernel.states * T * dv), 0),
        "sums": (sums, sums),
    }
    said = f"{kernel.chunks} chunks of {kernel.chunk}; q, k, v fetched for the chunk and for the state, sums between"
    if nk * nv > 1:
        said += f"; {nk} x {nv} blocks of {arch.max_head_dim}"
    if fits:
        said += "; state stays"
    else:
        moved = kernel.chunks * word_bytes(kernel.state_numbers, STATE_BITS)
        again["state"] = (moved, moved) if "state" in call.on_chip else (0, 0)
        said += "; state in and out with every chunk"
    said += "; no program: no row reads a state beside its keys, and decay jobs end states"
    pairs = kernel.heads * kernel.pairs
    return (
        Phase(
            call.label, "state", call.times, said, _kept(streams_of(call, again), kernel.chunks if fits else 1),
            ("state",), nk * nv * kernel.chunks, True, qk_macs=pairs * dk + kernel.states * T * dk * dv,
            pv_macs=pairs * dv + kernel.heads * T * dk * dv,
            again_macs=(nv - 1) * pairs * dk + (nk - 1) * pairs * dv,
            exponentials=nk * nv * pairs, normalisations=nk * nv * pairs + (kernel.states + kernel.heads) * T * dk,
            output_values=kernel.heads * T * dv, array_cycles=cycles,
        ),
    )  # fmt: skip
