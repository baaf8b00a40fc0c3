"""Kernels to phases: counts are the closed forms', nothing of a kernel is lost, refusals say why."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from accel.arch import load_arch
from accel.errors import UserError
from accel.lower.plan import Plan
from accel.lower.programs import lower_prefill
from accel.lower.zoo import ENGINE_BITS, lower_call
from workloads.kernels import Gemm, Kernel, SoftmaxAttention, StateUpdate
from workloads.systems import Call, load_zoo

FULL, SMALL = load_arch("spatten"), load_arch("spatten-1-8")


def call_of(kernel: Kernel, times: int = 1, on_chip: frozenset[str] = frozenset()) -> Call:
    return Call("kernel", "mixer", times, kernel, on_chip)


@pytest.mark.parametrize("arch", [FULL, SMALL], ids=lambda arch: arch.name)
def test_macs_and_bytes_of_every_kernel_are_its_closed_form(arch) -> None:  # type: ignore[no-untyped-def]
    for system in load_zoo():
        for one in system.configurations:
            for call in one.calls():
                phases = lower_call(call, arch)
                name = f"{one.name}: {call.label}"
                assert sum(phase.macs * phase.repeats for phase in phases) == call.times * call.kernel.macs, name
                once = sum(phase.once_bytes * phase.repeats for phase in phases)
                assert once == sum(call.dram_bytes(ENGINE_BITS).values()), name


def test_every_phase_says_what_was_decided_and_has_time_unless_the_host_has_it() -> None:
    for system in load_zoo():
        for call in system.configurations[0].calls():
            for phase in lower_call(call, FULL):
                assert phase.decision
                assert phase.mode in ("host", "refused") or phase.array_cycles > 0 or phase.pieces, phase.name


@given(st.integers(1, 600), st.integers(1, 5000), st.integers(1, 700))
def test_a_product_never_takes_fewer_cycles_than_its_multiplications(M: int, K: int, N: int) -> None:
    (phase,) = lower_call(call_of(Gemm(M=M, K=K, N=N)), SMALL)
    assert phase.array_cycles * SMALL.pv.multipliers >= M * K * N


def test_a_state_without_room_is_spilled_and_counted() -> None:
    kernel = StateUpdate(heads=8, states=8, key_dim=64, value_dim=64, tokens=1, decay="constant")
    stays = frozenset({"state"})
    (fits,) = lower_call(call_of(kernel, 1, stays), FULL)
    (spilled,) = lower_call(call_of(kernel, 24, stays), FULL)
    state = {stream.name: stream for stream in spilled.streams}["state"]
    assert "state" not in {stream.name for stream in fits.streams if stream.moved}
    assert state.read_again == state.write_again == 8 * 64 * 64 * 3
    assert "spilled" in spilled.decision


def test_a_window_is_refused_with_the_reason() -> None:
    kernel = SoftmaxAttention(1, 1, 4, 32, 64, query_start=28, window=8)
    (phase,) = lower_call(call_of(kernel), FULL)
    assert phase.mode == "refused"
    assert "window = 8" in phase.decision


@pytest.mark.parametrize(
    "form",
    [{"value_dim": 32}, {"window": 8}, {"iterations": 2}, {"shared_kv": True}, {"blocks": 2, "block_keys": 8}],
    ids=lambda form: next(iter(form)),
)
def test_a_program_of_attention_refuses_forms_it_does_not_have(form: dict[str, int]) -> None:
    queries = 1 if "blocks" in form else 4
    kernel = SoftmaxAttention(1, 1, queries, 32, 64, query_start=28, **form)  # type: ignore[arg-type]
    with pytest.raises(UserError, match=f"attention: {next(iter(form))} = ") as refusal:
        lower_prefill(kernel, Plan(), FULL, 1)
    assert "\n" not in str(refusal.value)
