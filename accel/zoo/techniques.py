"""What each technique gives a row: bytes of mixer and whole step, and the error that it causes, both measured.

*as is*: the published rule, on the kernels that the machine runs it on. *modified*: another rule under its own name;
one that is not in `RULES` depends on values of a trained network or saves no bytes here, is not measured, and counts as
1.00x with the reason. *none*: 1.00x.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from accel.arch import Arch
from accel.cost.energy import run_energy
from accel.lower.zoo.decay import lower_decay
from accel.numerics import decay
from accel.zoo import technique_error as effect
from accel.zoo.error import CHANNELS, COLUMNS, LONGEST_KEYS, LONGEST_MEMORY, LONGEST_SUM
from accel.zoo.phase_run import PhaseRun, energy_counts
from accel.zoo.pruned_time import Left, Pruning, left_bytes, pruned_run
from accel.zoo.together import combined_error
from workloads.kernels import ChunkState, DecayAttention, Gemm, Gemv, Scan, SoftmaxAttention, StateUpdate
from workloads.systems import Call, System, Technique

NAMES = ("token_pruning", "head_pruning", "progressive_quantisation")
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
Gains = dict[str, list[Gain | None]]
"""For each technique what it gives each call."""


def measure_techniques(
    system: System, calls: Sequence[Call], runs: Sequence[list[PhaseRun]], arch: Arch
) -> dict[str, dict[str, Any]]:
    """For each of the three techniques what it gives this row, and under ``together`` what all give at once."""
    gains: Gains = {}
    for kind in NAMES:
        technique: Technique = getattr(system.techniques, kind)
        rule = None
        if technique.mode == "as_is":
            rule = AS_IS[kind]
        elif technique.mode == "modified":
            rule = RULES.get(technique.name or "")
        gains[kind] = [rule(call, found, arch) if rule else None for call, found in zip(calls, runs, strict=True)]
    base = _Sums.of(calls, runs, arch)
    entries = {name: _entry(getattr(system.techniques, name), calls, runs, gains[name], base, arch) for name in NAMES}
    return entries | {"together": _together(calls, runs, gains, base, arch)}


class _Sums(NamedTuple):
    """Of a row: bytes of its mixer and of all of it, cycles, energy."""

    mixer: float
    whole: float
    cycles: float
    energy_pJ: float

    @staticmethod
    def of(
        calls: Sequence[Call], runs: Sequence[list[PhaseRun]], arch: Arch, bytes_of: Sequence[float] = ()
    ) -> "_Sums":
        """``bytes_of``: bytes of each call, where they are not its phases'."""
        sizes = bytes_of or [sum(run.moved_bytes for run in found) for found in runs]
        mixer = sum(size for call, size in zip(calls, sizes, strict=True) if call.role == "mixer")
        every = [run for found in runs for run in found]
        cycles = math.ceil(sum(run.cycles for run in every))
        energy = run_energy(arch, energy_counts(every), cycles).energy_pJ["total"]
        return _Sums(mixer, sum(sizes), cycles, energy)

    def gains(self, after: "_Sums") -> dict[str, float | None]:
        """How many times less of each."""
        return {
            "gain_mixer": _over(self.mixer, after.mixer),
            "gain_step": _over(self.whole, after.whole),
            "gain_time": _over(self.cycles, after.cycles),
            "gain_energy": _over(self.energy_pJ, after.energy_pJ),
        }


def _over(before: float, after: float) -> float | None:
    return (before / after if after else 1.0) if before else None


def _after(calls: Sequence[Call], runs: Sequence[list[PhaseRun]], gains: Sequence[Sequence[Gain]], arch: Arch) -> _Sums:
    """The row with techniques on; ``gains``: of each call, those that work on it."""
    found, sizes = [], []
    for one, of_call in zip(gains, runs, strict=True):
        left = _left(one)
        found.append([pruned_run(arch, run, left) for run in of_call] if one else list(of_call))
        sizes.append(sum(left_bytes(run, left) for run in of_call))
    return _Sums.of(calls, found, arch, sizes)


def _left(gains: Sequence[Gain]) -> Left:
    streams: dict[str, float] = {}
    work, pruning = 1.0, Pruning()
    for gain in gains:
        for name, share in gain.saved.items():
            streams[name] = streams.get(name, 1.0) * (1 - share)
        work, pruning = work * gain.left, pruning.and_(gain.pruning)
    return Left(streams, work, pruning)


def _entry(
    technique: Technique, calls: Sequence[Call], runs: Sequence[list[PhaseRun]], gains: Sequence[Gain | None],
    base: _Sums, arch: Arch,
) -> dict[str, Any]:  # fmt: skip
    some = [(call, gain) for call, gain in zip(calls, gains, strict=True) if gain is not None]
    reason = {
        "as_is": "no kernel of this row that it works on",
        "modified": NOT_MEASURED.get(technique.name or "", "depends on the values of a trained network")
        + ": not measured, counted as 1.00x",
        "none": technique.how,
    }[technique.mode]
    after = _after(calls, runs, [[gain] if gain else [] for gain in gains], arch) if some else base
    return {
        "mode": technique.mode,
        "name": technique.name or ("as is" if technique.mode == "as_is" else "none"),
        "how": technique.how,
        "bound": technique.bound,
        "measured": bool(some),
        **base.gains(after),
        "work": max((gain.work for _, gain in some), default=1.0),
        "error": max((gain.error for _, gain in some if gain.error is not None), default=None),
        "said": [f"{call.label}: {gain.said}" for call, gain in some] or [reason],
    }


def _together(
    calls: Sequence[Call], runs: Sequence[list[PhaseRun]], gains: Gains, base: _Sums, arch: Arch
) -> dict[str, Any]:
    """All techniques of the row at once; their errors measured at once where they meet in a kernel."""
    by_call = [
        {kind: gain for kind in NAMES if (gain := gains[kind][at]) is not None} for at in range(len(calls))
    ]  # fmt: skip
    after = _after(calls, runs, [list(found.values()) for found in by_call], arch) if any(by_call) else base
    errors, said = [], []
    for call, found in zip(calls, by_call, strict=True):
        if found:
            error, words = combined_error(call.kernel, {kind: gain.error for kind, gain in found.items()})
            errors += [error] if error is not None else []
            said.append(f"{call.label}: {words}")
    return {
        "mode": "together" if any(by_call) else "none",
        "name": "all of them" if any(by_call) else "none",
        "how": "all techniques of the row that are measured, at once",
        "bound": None,
        "measured": any(by_call),
        **base.gains(after),
        "work": 1.0,
        "error": max(errors, default=None),
        "said": said or ["nothing to put together"],
    }


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
