"""Rules of pruning for single kernels: what each leaves out and the error that it causes, both measured.

*as is*: the published rule, on the kernels that the machine runs it on. *modified*: another rule under its own name;
one that is not in `RULES` depends on values of a trained network or saves no bytes here, is not measured, and counts as
1.00x with the reason of `NOT_MEASURED`.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

from accel.arch import Arch
from accel.lower.zoo.decay import lower_decay
from accel.numerics import decay
from accel.zoo import technique_error as effect
from accel.zoo.error import CHANNELS, COLUMNS, LONGEST_KEYS, LONGEST_MEMORY, LONGEST_SUM
from accel.zoo.phase_run import PhaseRun
from accel.zoo.pruned_time import Pruning
from workloads.kernels import ChunkState, DecayAttention, Gemm, Gemv, Scan, SoftmaxAttention, StateUpdate
from workloads.systems import Call

LONGEST_VOCABULARY = 4096
CELL_OUTPUTS = 8
"""Fewer outputs than this are a read-out."""


class Gain(NamedTuple):
    """Of one call. ``saved``: share of each stream's bytes that is not moved; ``left``: of the array work, what is done
    still; ``pruning``: what attention's jobs are told; error of the output, words. ``work``: operations of the call
    with all over those that are left, for rules that save no bytes.
    """

    saved: Mapping[str, float]
    error: float | None
    said: str
    work: float = 1.0
    left: float = 1.0
    pruning: Pruning = Pruning()


Rule = Callable[[Call, list[PhaseRun], Arch], Gain | None]


def _shares(share: float, *names: str) -> dict[str, float]:
    return dict.fromkeys(names, share)


def _attention(call: Call) -> SoftmaxAttention | None:
    kernel = call.kernel
    return kernel if isinstance(kernel, SoftmaxAttention) and call.role == "mixer" and kernel.dv else None


# ---- as published ----------------------------------------------------------------------------------------------------
def _tokens(call: Call, runs: list[PhaseRun], arch: Arch) -> Gain | None:
    kernel = _attention(call)
    if kernel is None or kernel.keys < 2:
        return None
    found = effect.token_pruning(min(kernel.keys, LONGEST_KEYS), kernel.head_dim, min(kernel.dv, COLUMNS))
    streams = ["k", "v"]
    if kernel.queries > 1 and kernel.queries == kernel.keys and not kernel.cross:
        streams += ["q", "output"]  # a pruned token takes its query with it
    kept = 1 - found.share
    return Gain(_shares(found.share, *streams), found.error, found.said, left=kept, pruning=Pruning(tokens=kept))


def _heads(call: Call, runs: list[PhaseRun], arch: Arch) -> Gain | None:
    kernel, names = call.kernel, ("q", "k", "v", "output", "state", "alpha", "sums", "scores", "probabilities")
    if call.role != "mixer":
        return None
    if (attention := _attention(call)) is not None:
        if attention.query_heads == 1:
            return None
        if attention.group > 1:
            return Gain({}, None, f"{attention.group} query heads share a K/V head and are one job: none is dropped")
        found = effect.softmax_heads(
            attention.query_heads, attention.keys, attention.head_dim, min(attention.dv, COLUMNS)
        )
        kept = 1 - found.share
        return Gain(_shares(found.share, *names), found.error, found.said, left=kept, pruning=Pruning(heads=kept))
    if not isinstance(kernel, (DecayAttention, ChunkState, StateUpdate)):
        return None
    heads = kernel.heads if isinstance(kernel, DecayAttention) else kernel.states
    if heads == 1 or (isinstance(kernel, StateUpdate) and kernel.decay == "gradient"):
        return None
    constant = isinstance(kernel, DecayAttention) or kernel.decay == "constant"
    gammas = kernel.decays if constant else ()
    found = effect.state_heads(gammas, heads, kernel.key_dim, min(kernel.value_dim, COLUMNS))
    return Gain(_shares(found.share, *names), found.error, found.said, left=1 - found.share)


def _planes(call: Call, runs: list[PhaseRun], arch: Arch) -> Gain | None:
    kernel = _attention(call)
    if kernel is None:
        return None
    found = effect.progressive_keys(min(kernel.keys, LONGEST_KEYS), kernel.head_dim, min(kernel.dv, COLUMNS))
    pruning = Pruning(again=1 - found.share * 12 / effect.LSB_BITS)
    return Gain(_shares(found.share, "k"), found.error, found.said, pruning=pruning)


AS_IS: dict[str, Rule] = {"token_pruning": _tokens, "head_pruning": _heads, "progressive_quantisation": _planes}


# ---- modified, under their own names ---------------------------------------------------------------------------------
def _window(call: Call, runs: list[PhaseRun], arch: Arch) -> Gain | None:
    kernel = call.kernel
    if not isinstance(kernel, DecayAttention):
        return None
    L = kernel.length
    windows = tuple(
        min(L, decay.decay_window(int(decay.encode_decay(gamma)), effect.EPSILON) or L) for gamma in kernel.decays
    )
    cut = lower_decay(call, arch, windows)[0]
    pairs = sum(width * (width + 1) // 2 + (L - width) * width for width in windows)
    error = max(
        effect.decay_window_error(gamma, min(L, LONGEST_MEMORY), kernel.key_dim, min(kernel.value_dim, COLUMNS))
        for gamma in (min(kernel.decays), max(kernel.decays))
    )
    whole = runs[0].phase
    after = {stream.name: stream.moved for stream in cut.streams}
    saved = {
        stream.name: max(0.0, 1 - after.get(stream.name, 0) / stream.moved) for stream in whole.streams if stream.moved
    }
    work = whole.array_cycles / cut.array_cycles
    said = (
        f"decays below {effect.EPSILON} left out: {kernel.heads * kernel.pairs / pairs:.2f}x fewer pairs, "
        f"{work:.2f}x fewer array cycles; fastest and slowest head"
    )
    return Gain(saved, error, said, work, left=1 / work)


def _weights(activation: str, roles: tuple[str, ...]) -> Rule:
    def rule(call: Call, runs: list[PhaseRun], arch: Arch) -> Gain | None:
        kernel = call.kernel
        if call.role not in roles or not isinstance(kernel, (Gemv, Gemm)):
            return None
        found = effect.msb_first_weights(
            min(kernel.K, LONGEST_SUM),
            min(kernel.N, LONGEST_SUM),
            activation,  # type: ignore[arg-type]
        )
        return Gain(_shares(found.share, "weights"), found.error, found.said)

    return rule


def _vocabulary(call: Call, runs: list[PhaseRun], arch: Arch) -> Gain | None:
    kernel = call.kernel
    if call.role != "vocabulary" or not isinstance(kernel, (Gemv, Gemm)):
        return None
    found = effect.vocabulary(min(kernel.K, LONGEST_SUM), min(kernel.N, LONGEST_VOCABULARY))
    return Gain(_shares(found.share, "weights"), found.error, found.said)


def _relu(call: Call, runs: list[PhaseRun], arch: Arch) -> Gain | None:
    kernel = call.kernel
    # The cell's own outputs come back behind the ReLU, beside other inputs; a read-out is not a cell.
    if call.role != "recurrent_gemv" or not isinstance(kernel, Gemv) or kernel.N < CELL_OUTPUTS or kernel.N > kernel.K:
        return None
    found = effect.relu_columns(kernel.K, kernel.N)
    return Gain(_shares(found.share, "weights"), found.error, found.said, left=1 - found.share)


def _delta(call: Call, runs: list[PhaseRun], arch: Arch) -> Gain | None:
    kernel = call.kernel
    if call.role != "recurrent_gemv" or not isinstance(kernel, Gemv) or kernel.K != kernel.N:
        return None
    found = effect.delta_columns(kernel.K, min(kernel.steps, LONGEST_MEMORY))
    return Gain(_shares(found.share, "weights"), found.error, found.said, left=1 - found.share)


def _state_rows(normalised: bool) -> Rule:
    def rule(call: Call, runs: list[PhaseRun], arch: Arch) -> Gain | None:
        kernel = call.kernel
        if not isinstance(kernel, StateUpdate):
            return None
        found = effect.state_rows(64, kernel.key_dim, min(kernel.value_dim, COLUMNS), normalised)
        said = f"{found.said}; no bytes, since the update needs every row"
        return Gain({}, found.error, said, 1 / (1 - found.share))

    return rule


def _short_values(call: Call, runs: list[PhaseRun], arch: Arch) -> Gain | None:
    kernel = call.kernel
    if isinstance(kernel, StateUpdate) and kernel.decay == "additive":
        found = effect.short_values_state(128, kernel.key_dim, min(kernel.value_dim, COLUMNS))
    elif isinstance(kernel, Scan) and kernel.form == "wkv":
        found = effect.short_values_wkv(128, min(kernel.channels, CHANNELS))
    else:
        return None
    return Gain(_shares(found.share, "v"), found.error, found.said)


RULES: dict[str, Rule] = {
    "decay window": _window,
    "MSB-first weight rows": _weights("sigmoid", ("recurrent_gemv",)),
    "dead-ReLU row test": _weights("relu", ("recurrent_gemv",)),
    "vocabulary attention": _vocabulary,
    "ReLU-zero column skip": _relu,
    "delta column skip": _delta,
    "state-row top-k": _state_rows(normalised=False),
    "MSB-only values": _short_values,
}
NOT_MEASURED = {
    "planes of a spilled state": "the engine's update writes every state word in full, so both planes move",
    "planes for reading the memory": "the memory is updated in full in the same step, so both planes move",
    "LSB by output bound": "on random tensors the bound never passes",
    "quantised weight heads": "plain quantisation, already counted",
    "time-softmax importance": "a decoded token is added to the state before it can be ranked; saves no bytes",
    "dt-gated update skip": "the state is read for the output all the same; saves no bytes",
    "small-weight scan skip": "every pixel is read to know its weight; saves no bytes",
}
