"""The address traces of tests/data/dram, made again from their definition (same names, seeds and sizes).

A trace is a list of logical reads (byte address, size). `accesses` cuts them into what one RD command fetches.
"""

import re

import numpy as np

KIB, MIB = 1 << 10, 1 << 20
ADDRESS_MAPS = {"cl64_bg": "co1 ch pc bg co4 ba ro", "cl64_xor": "co1 ch pc bg co4 ba ro xor"}

Reads = tuple[np.ndarray, np.ndarray]


def logical_reads(name: str, channels: int) -> Reads:
    """(byte addresses, sizes in bytes), int64, of a named trace; some depend on the number of channels."""
    family, _, rest = name.partition("_")
    make = {"a": _sequential, "b": _random, "c": _gather, "d": _heads, "e": _keys_and_values, "f": _planes}[family]
    return make(rest, channels)


def accesses(reads: Reads, access_bytes: int) -> np.ndarray:
    """Aligned access addresses in order; one that repeats its predecessor is fetched once."""
    address, size = reads
    first = address // access_bytes
    count = (address + size - 1) // access_bytes - first + 1
    starts = np.cumsum(count) - count
    within = np.arange(count.sum()) - np.repeat(starts, count)
    blocks = np.repeat(first, count) + within
    return blocks[np.diff(blocks, prepend=-1) != 0] * access_bytes


def _uniform(address: np.ndarray, size: int) -> Reads:
    address = np.asarray(address, dtype=np.int64).reshape(-1)
    return address, np.full(address.size, size, dtype=np.int64)


def _kept(total: int, percent: int, seed: list[int]) -> np.ndarray:
    """Increasing indices of a random `percent` of `total` tokens."""
    kept = round(total * percent / 100)
    return np.sort(np.random.default_rng(seed).permutation(total)[:kept]).astype(np.int64)


def _numbers(text: str) -> dict[str, int]:
    """`S64_d25_N1024` -> {"S": 64, "d": 25, "N": 1024}."""
    return {letter: int(digits) for letter, digits in re.findall(r"(?:^|_)([A-Za-z])(\d+)(?=_|$)", text)}


def _sequential(rest: str, channels: int) -> Reads:
    amount = re.fullmatch(r"seq_(\d+)(KiB|MiB)", rest)
    assert amount is not None
    return _uniform(np.arange(0, int(amount[1]) * {"KiB": KIB, "MiB": MIB}[amount[2]], 64), 64)


def _random(rest: str, channels: int) -> Reads:
    """64 B lines anywhere in 256 MiB per channel."""
    lines = 256 * MIB * channels // 64
    return _uniform(np.random.default_rng([1001, channels]).integers(0, lines, size=_numbers(rest)["n"]) * 64, 64)


def _gather(rest: str, channels: int) -> Reads:
    """Kept rows of S bytes out of N in one array."""
    n = _numbers(rest)
    return _uniform(_kept(n["N"], n["d"], [2000, n["S"], n["d"], n["N"]]) * n["S"], n["S"])


def _heads(rest: str, channels: int) -> Reads:
    """H heads of 64 B rows, 1024 tokens, one token mask for all: head-major or token-major, either loop outside."""
    n = _numbers(rest)
    kind = rest[: rest.index("_H")]
    tokens, row = 1024, 64
    token = _kept(tokens, n["d"], [3000, tokens, n["d"]])
    head = np.arange(n["H"], dtype=np.int64)
    stride = n["H"] * row
    per_head = head[:, None]
    address = {
        "hm": lambda: (per_head * tokens + token) * row,
        "hm_1head": lambda: token * row,
        "tm_hloop": lambda: per_head * row + token * stride,
        "tm_hloop_pad": lambda: per_head * row + token * (stride + 64),
        "tm_tloop": lambda: token[:, None] * stride + head * row,
        "tm_1head": lambda: token * stride,
    }[kind]()
    return _uniform(address, row)


def _keys_and_values(rest: str, channels: int) -> Reads:
    """n lines of K and n of V, 64 B each, V in the same banks as K or (`off`) 16 KiB per channel further."""
    kind = rest.split("_")[1]
    key = np.arange(_numbers(rest)["n"], dtype=np.int64) * 64
    value = key + 64 * MIB * channels + (16 * KIB * channels if kind == "off" else 0)
    if kind == "serial":
        return _uniform(np.concatenate([key, value]), 64)
    lines_in_turn = 16 if kind == "chunk1k" else 1
    return _uniform(np.stack([key.reshape(-1, lines_in_turn), value.reshape(-1, lines_in_turn)], axis=1), 64)


def _planes(rest: str, channels: int) -> Reads:
    """64-dimension rows in two bit planes (MSB first, then LSB), or packed into 96 B."""
    n = _numbers(rest)
    token = _kept(n["T"], n["d"], [4000, n["T"], n["d"]])
    lsb_base = 64 * MIB * channels
    kind = rest[: rest.index("_d")]
    if kind == "msb_then_lsb":
        msb, lsb = _uniform(token * 64, 64), _uniform(lsb_base + token * 32, 32)
        return np.concatenate([msb[0], lsb[0]]), np.concatenate([msb[1], lsb[1]])
    if kind == "msb4_then_lsb4":
        return _uniform(np.concatenate([token * 32, lsb_base + token * 32]), 32)
    stride, size = {"msb_only": (64, 64), "packed96": (96, 96), "packed96_msbonly": (96, 64)}[kind]
    return _uniform(token * stride, size)
