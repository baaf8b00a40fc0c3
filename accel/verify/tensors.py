"""Seeded tensors of attend jobs, in kinds that bring out corners: ties, saturation, one key that takes all."""

import numpy as np

from accel.numerics.quantise import WORD_BITS, encode_scale
from accel.program import Jobs, Opcode
from sim.recorded import JobTensors

PLANES = [(12, 0), (10, 0), (8, 0), (6, 0), (4, 0), (4, 4), (6, 4), (8, 4), (10, 4)]
KINDS = ["normal", "flat", "equal", "saturating", "peaked", "few values"]


def words(rng: np.random.Generator, kind: str, shape: tuple[int, ...]) -> np.ndarray:
    """12-bit words of one character."""
    if kind == "equal":
        return np.full(shape, rng.integers(-2048, 2048), np.int16)
    if kind == "saturating":
        return rng.choice(np.array([-2048, 2047], np.int16), shape)
    if kind == "few values":
        return rng.integers(-1, 2, shape).astype(np.int16)
    spread = {"normal": 300, "flat": 3, "peaked": 2000}[kind]
    return np.clip(np.rint(rng.normal(0, spread, shape)), -2048, 2047).astype(np.int16)


def stored(values: np.ndarray, bits: int) -> np.ndarray:
    """The words of ``bits`` that memory can hold."""
    lost = max(0, WORD_BITS - bits)
    return (values >> lost) << lost


def tensors_of(jobs: Jobs, seed: int, kind: str, tokens: int) -> list[JobTensors]:
    """Random tensors; every layer and head has its own K and V, every query row the same words in all of its tiles."""
    rng = np.random.default_rng(seed)
    kv: dict[tuple[int, int], tuple[np.ndarray, ...]] = {}
    rows: dict[tuple[int, int, int], np.ndarray] = {}
    out = []
    for job in jobs[jobs["opcode"] == Opcode.ATTEND]:
        name, dim = (int(job["layer"]), int(job["head"])), int(job["head_dim"])
        if name not in kv:
            msb_bits, lsb_bits = int(job["msb_bits"]), int(job["lsb_bits"])
            full = stored(words(rng, kind, (tokens, dim)), msb_bits + lsb_bits)
            v = stored(words(rng, kind, (tokens, dim)), int(job["value_bits"]))
            kv[name] = (stored(full, msb_bits), full, v)
        q = []
        for r in range(int(job["queries"] * job["group"])):
            row = (*name, int(job["q_address"]) + r * int(job["q_stride"]))
            q.append(rows.setdefault(row, words(rng, kind, (dim,))))
        out.append(JobTensors(np.array(q), *kv[name]))
    return out


def scaled(jobs: Jobs, real: float) -> Jobs:
    """The same jobs with a score scale."""
    jobs["score_mantissa"], jobs["score_shift"] = encode_scale(real, 16)
    return jobs
