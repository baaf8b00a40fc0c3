"""Recurrent states of the zoo: the bytes said are those that the program moves, samples stand for the whole, and what
the engine cannot execute says so.
"""

import pytest

from accel.arch import load_arch
from accel.lower.zoo import lower_call
from accel.lower.zoo.phase import Phase
from accel.zoo import program_time
from accel.zoo.crossover import measure
from accel.zoo.phase_run import run_phase
from workloads.kernels import ChunkState, Kernel, StateUpdate
from workloads.systems import Call

FULL, TINY = load_arch("spatten"), load_arch("tiny")
ON_CHIP = frozenset({"state"})


def phase_of(kernel: Kernel, arch, on_chip: frozenset[str] = ON_CHIP) -> Phase:  # type: ignore[no-untyped-def]
    (phase,) = lower_call(Call("kernel", "mixer", 1, kernel, on_chip), arch)
    return phase


@pytest.mark.parametrize(
    "kernel",
    [
        StateUpdate(2, 2, 32, 32, 9, decay="constant", gammas=(0.9, 0.97)),
        StateUpdate(1, 1, 8, 80, 12, decay="constant"),
        StateUpdate(3, 3, 24, 32, 7, decay="head"),
        StateUpdate(2, 2, 20, 40, 10, decay="channel"),
    ],
    ids=str,
)
@pytest.mark.parametrize("arch", [FULL, TINY], ids=lambda arch: arch.name)
def test_states_move_what_their_closed_form_says(arch, kernel: StateUpdate) -> None:  # type: ignore[no-untyped-def]
    phase = phase_of(kernel, arch)
    run = run_phase(arch, phase)
    assert run.label == "simulated"
    assert run.moved_bytes == phase.moved_bytes
    counted = program_time.simulate_state(arch, kernel).counts
    assert sum(counted["dram_read_bytes"].values()) == sum(one.read + one.read_again for one in phase.streams)
    assert phase.array_cycles <= run.cycles


def test_a_sample_of_heads_and_tokens_stands_for_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = StateUpdate(8, 8, 64, 64, 1300, decay="channel")
    short = run_phase(FULL, phase_of(kernel, FULL))
    assert short.label == "sampled"
    assert short.sample == "512 of 1,300 tokens"
    monkeypatch.setattr(program_time, "STATE_CYCLES", 20_000)
    program_time.simulate_state.cache_clear()
    fewer = run_phase(FULL, phase_of(kernel, FULL))
    assert fewer.sample == "1 of 8 heads, 512 of 1,300 tokens"
    monkeypatch.setattr(program_time, "STATE_CYCLES", 10**9)
    monkeypatch.setattr(program_time, "FEW_TOKENS", 1300)
    program_time.simulate_state.cache_clear()
    whole = run_phase(FULL, phase_of(kernel, FULL))
    program_time.simulate_state.cache_clear()
    assert whole.label == "simulated"
    for sample, error in ((short, 0.005), (fewer, 0.02)):
        assert sample.moved_bytes == whole.moved_bytes
        assert sample.counts["macs"] == whole.counts["macs"]
        assert sample.cycles == pytest.approx(whole.cycles, rel=error)


@pytest.mark.parametrize(
    ("kernel", "on_chip", "why"),
    [
        (StateUpdate(4, 2, 64, 64, 9, decay="head"), ON_CHIP, "heads = 4 of 2 states: a state is read by one head"),
        (StateUpdate(2, 2, 64, 64, 9, decay="additive"), ON_CHIP, "decay = additive: mode state has constant decays"),
        (StateUpdate(2, 2, 256, 64, 9, decay="constant"), ON_CHIP, "key_dim = 256: machine spatten has max_head_dim"),
        (StateUpdate(2, 2, 64, 64, 1, decay="constant"), ON_CHIP, "jobs of other modes between two tokens end a state"),
        (StateUpdate(2, 2, 64, 64, 1, decay="constant"), frozenset(), "states begin empty, no job loads or stores one"),
        (ChunkState(2, 2, 64, 64, 64, chunk=16), ON_CHIP, "no row reads a state beside its keys"),
    ],
)  # fmt: skip
def test_what_the_engine_cannot_execute_is_modelled_and_says_why(kernel, on_chip, why: str) -> None:  # type: ignore[no-untyped-def]
    phase = phase_of(kernel, FULL, on_chip)
    assert run_phase(FULL, phase).label == "modelled"
    assert f"no program: {why}" in phase.decision


def test_a_machine_without_the_mode_is_modelled_and_says_why() -> None:
    lame = load_arch("tiny", {"qk.multipliers": 2 * TINY.pv.multipliers})
    phase = phase_of(StateUpdate(2, 2, 32, 32, 9, decay="constant"), lame)
    assert run_phase(lame, phase).label == "modelled"
    assert "no mode state: qk.multipliers" in phase.decision


def test_the_crossover_simulates_the_recurrent_form() -> None:
    labels = {form: measure(form, 64, FULL).label for form in ("recurrent", "chunkwise")}
    assert labels == {"recurrent": "simulated", "chunkwise": "modelled"}
    assert measure("recurrent", 1024, FULL).label == "sampled"
