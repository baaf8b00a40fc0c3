"""Mixers of real networks on the machine's arithmetic: close to float on seeded calls, and what the command refuses."""

import numpy as np
import pytest

from accel import net_quality
from accel.numerics import scan
from tests.accel.cli_case import accel
from workloads.nets import gru, mamba, silero, store
from workloads.nets.silero import LstmCall, LstmWeights

RNG = np.random.default_rng(5)


def normal(*shape: int) -> np.ndarray:
    return RNG.normal(size=shape).astype(np.float32)


def test_a_scan_whose_fast_elements_forget_at_once_is_close_to_float(monkeypatch: pytest.MonkeyPatch) -> None:
    dt = np.exp(normal(60, 6) - 2)
    A = -np.arange(1, 65, dtype=np.float32) * np.ones((6, 1), np.float32)
    call = mamba.ScanCall(0, "forward", normal(60, 6), dt, A, normal(60, 64), normal(60, 64), normal(6), normal(60, 6))
    assert (-A * dt.max(0)[:, None]).max() > 30, "decays beyond 2^-16"
    wanted = mamba.float_scan(call)

    def error() -> float:
        return float(np.linalg.norm(net_quality.machine_scan(call) - wanted) / np.linalg.norm(wanted))

    assert error() < 0.005
    monkeypatch.setattr(scan, "decay_octaves", lambda exponents: np.zeros(len(exponents), np.int64))
    assert error() > 0.02, "octaves are what makes it so"


def test_recurrent_steps_are_close_to_float_from_the_first_on() -> None:
    weights = LstmWeights(normal(32, 12) / 4, normal(32, 8) / 4, normal(32))
    gates = gru.GruWeights(normal(24, 12) / 4, normal(24, 8) / 4, normal(24), normal(24))
    machine = net_quality.Products()
    h, c, g = np.zeros(8, np.float32), np.zeros(8, np.float32), np.zeros(8, np.float32)
    for step in range(20):
        x = normal(12)
        call = LstmCall(0, step, x, h, c, weights)
        wanted, found = silero.float_lstm_step(call), machine.lstm(call)
        np.testing.assert_allclose(found[0], wanted[0], atol=2e-3)
        np.testing.assert_allclose(found[1], wanted[1], atol=4e-3)
        one = gru.GruCall("encoder", step, x, g, gates)
        np.testing.assert_allclose(machine.gru(one), gru.float_gru_step(one), atol=3e-3)
        (h, c), g = wanted, gru.float_gru_step(one)


def test_unknown_networks_and_missing_weights_are_one_line(capsys: pytest.CaptureFixture[str], monkeypatch) -> None:  # type: ignore[no-untyped-def]
    done = accel(capsys, "quality", "mambo")
    assert (done.code, done.out, done.err.count("\n")) == (2, "", 1)
    assert "mamba" in done.err
    monkeypatch.setattr(store, "list_models", list)
    none = accel(capsys, "quality")
    assert none.code == 2
    assert "accel models get" in none.err


def test_silero_decides_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    if not any(stored.folder for stored in store.list_models() if stored.name == "silero"):
        pytest.skip("no weights of silero here")
    done = accel(capsys, "quality", "silero")
    assert done.code == 0, done.err
    assert "agreement" in done.out
