"""Random jobs, and what the decoder has to make of a job: from the definitions, in plain Python."""

from typing import Any

import numpy as np

from accel.arch import Arch
from accel.errors import UserError
from accel.numerics.attention import values_kept
from accel.numerics.quantise import PLANES, check_planes
from accel.program import JOB, Flag, Fused, Lsb, Mode, Opcode, Side, ValueFetch
from accel.registers import ErrorCode
from accel.units.engine import EngineUnit
from accel.units.fetcher import record_bytes, row_stride_bytes
from accel.units.sequencer import SequencerUnit

Item = dict[str, int]
COUNT_TOP = (1 << 17) - 1
BOTH = Flag.FIRST_TILE | Flag.LAST_TILE


def random_attend(rng: np.random.Generator, arch: Arch, **fixed: int) -> Item:
    """A legal attend job (as far as a job alone can be)."""
    limits = SequencerUnit.of(arch)
    atom = arch.memory_spec.access_bytes
    group = int(rng.choice([1, 1, 2, 3]))
    lsb = int(rng.integers(3))
    msb_bits, lsb_bits = (int(bits) for bits in (PLANES[rng.integers(4)] if lsb or rng.integers(2) else (12, 0)))
    fused, side = (int(x) for x in [(0, 0), (0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (2, 0), (2, 2)][rng.integers(8)])
    item: Item = {
        "opcode": Opcode.ATTEND,
        "flags": int(rng.integers(16)) | Flag.FIRST_TILE | Flag.LAST_TILE,
        "lsb": lsb,
        "value_fetch": int(rng.integers(2)),
        "msb_bits": msb_bits if lsb_bits else int(rng.choice([4, 6, 8, 10, 12])),
        "lsb_bits": lsb_bits,
        "value_bits": int(rng.choice([4, 6, 8, 10, 12])),
        "fused": fused,
        "side": side,
        "layer": int(rng.integers(1 << 16)),
        "group": group,
        "head": int(rng.integers(arch.max_heads // group)),
        "head_dim": 8 * int(rng.integers(1, arch.max_head_dim // 8 + 1)),
        "queries": int(rng.choice([1, 2, 5, 4095, 4096, 5000000])),
        "first_key": int(rng.integers(1 << 10)),
        "first_visible": int(rng.choice([1, 2, arch.max_context // 2, arch.max_context, 1 << 20, (1 << 32) - 1])),
        "keep_values": int(rng.choice([0, 0, 1, 3, arch.max_context, (1 << 32) - 1])),
        "keep_ratio": int(rng.choice([0, 1, 30000, 65535, 65536, 65537, (1 << 32) - 1])),
        "threshold": int(rng.integers(1 << 16)),
        "score_mantissa": int(rng.integers(1 << 16)),
        "score_shift": int(rng.integers(1, 63)),
        "q_stride": atom * int(rng.integers(1 << 10)),
        "output_stride": atom * int(rng.integers(1 << 10)),
        "iteration": int(rng.integers(1 << 32)),
        "mode": Mode.SOFTMAX,
        "decay": int(rng.integers(1 << 24)),
        "output_mantissa": int(rng.integers(1 << 17)),
        "output_shift": int(rng.integers(44)),
    }
    for name in ("q", "k_msb", "k_lsb", "v", "output", "partial"):
        item[f"{name}_address"] = atom * int(rng.integers((1 << 48) // atom))
    item |= fixed
    if item["mode"] != Mode.SOFTMAX:
        item |= {"lsb": Lsb.NEVER, "value_fetch": ValueFetch.RESIDENT, "keep_values": 0, "keep_ratio": 1 << 16}
        item |= {"flags": item["flags"] & ~Flag.ACCUMULATE, "first_visible": int(rng.integers(1, 1 << 16))} | fixed
    if item["mode"] == Mode.DECAY:
        item |= {"flags": item["flags"] | Flag.CAUSAL, "queries": int(rng.integers(1, 1 << 10))} | fixed
        item["first_visible"] = min(item["first_visible"], (1 << 16) + 1 - item["queries"])
        item |= fixed
    if item["mode"] == Mode.LINEAR:
        item |= {"flags": item["flags"] & ~(Flag.CAUSAL | Flag.KEEP_LIST), "fused": Fused.SINGLE} | fixed
    if item["mode"] == Mode.STATE:
        item |= {"flags": BOTH | Flag.RESTART | int(rng.choice([0, Flag.DECAY_WORDS])), "fused": Fused.SINGLE} | fixed
        item |= {"group": 1, "side": Side.ALONE, "first_key": 0, "score_shift": int(rng.integers(1, 16))} | fixed
        item["queries"] = min(item["queries"], (1 << 22) - 1)
        item |= fixed
    most = limits.most_keys(arch.padded_head_dim(item["head_dim"]), item["fused"] != Fused.SINGLE)
    most = min(most, item["head_dim"]) if item["mode"] in (Mode.LINEAR, Mode.STATE) else most
    counts = [8, most // 8 * 8] if item["mode"] == Mode.STATE else [1, 2, most // 2 + 1, most]
    item.setdefault("keys", int(rng.choice(counts)))
    return item


def expected(arch: Arch, item: Item) -> tuple[Item, Item]:
    """Fields of job_layout (but ``version`` and ``sums_*``; ``list`` is the flag alone) and of format_layout."""
    unit, atom = EngineUnit.of(arch), arch.memory_spec.access_bytes
    dim, flags, keys, queries = (item[name] for name in ("head_dim", "flags", "keys", "queries"))
    rows = queries * item["group"]
    # First and last query of the job, and the fewest and most keys between: enough to know whether any row drops some.
    causal = bool(flags & Flag.CAUSAL)
    seen = {min(keys, item["first_visible"] + q) if causal else keys for q in {*range(min(queries, 300)), queries - 1}}
    drops = any(values_kept(n, item["keep_values"], item["keep_ratio"]) != n for n in seen)
    selected = item["value_fetch"] == ValueFetch.SELECTED
    fused = item["fused"] != Fused.SINGLE
    pair = fused or item["side"] != Side.ALONE
    same = (
        "group head keys first_key lsb threshold score_mantissa score_shift q_address q_stride k_msb_address "
        "k_lsb_address v_address output_address output_stride partial_address output_mantissa output_shift"
    )
    job = {name: item[name] for name in same.split()} | {
        "rows": rows,
        "keys": max(seen),
        "causal": int(causal),
        "first_visible": min(item["first_visible"], COUNT_TOP),
        "accumulate": int(bool(flags & Flag.ACCUMULATE)),
        "list": int(bool(flags & Flag.KEEP_LIST)),
        "second": int(item["fused"] == Fused.SECOND),
        "fetches_k": int(item["fused"] != Fused.SECOND and item["mode"] not in (Mode.LINEAR, Mode.STATE)),
        "decay": item["decay"] if item["mode"] in (Mode.DECAY, Mode.STATE) else 0,
        "state": int(item["mode"] == Mode.STATE),
        "records": rows * ((4 if flags & Flag.DECAY_WORDS else 3) if item["mode"] == Mode.STATE else 1),
        "fresh": int(bool(flags & Flag.RESTART)),
        "decay_words": int(bool(flags & Flag.DECAY_WORDS)),
        "side": int(item["side"] == Side.SECOND if not fused else item["fused"] == Fused.SECOND),
        "first_tile": int(bool(flags & Flag.FIRST_TILE)),
        "last_tile": int(bool(flags & Flag.LAST_TILE)),
        "selecting": int(selected or drops),
        "v_selected": int(selected),
        "keep_values": min(item["keep_values"], COUNT_TOP),
        "keep_ratio": min(item["keep_ratio"], 1 << 16),
    }

    def atoms(bits: int, heads: int = 1) -> int:
        return row_stride_bytes(dim, bits, atom, heads) // atom if bits else 0

    form = {
        "head_dim": dim,
        "log2_dim": int(np.log2(arch.padded_head_dim(dim))),
        "plane_units": record_bytes(dim, 4) // 16,
        "query_atoms": atoms(12),
        "key_atoms": atoms(item["msb_bits"], 1 + pair),
        "key_planes": item["msb_bits"] // 4,
        "key_crumbs": int(item["msb_bits"] % 4 == 2),
        "pair": int(pair),
        "fused": int(fused),
        "k_wide": int(unit.wide(dim, fused)),
        "lsb_atoms": atoms(item["lsb_bits"]),
        "lsb_first_crumb": item["msb_bits"] // 2,
        "value_atoms": atoms(item["value_bits"]),
        "value_planes": item["value_bits"] // 4,
        "value_crumbs": int(item["value_bits"] % 4 == 2),
        "v_wide": int(unit.wide(dim)),
        "output_atoms": -(-2 * dim // atom),
        "mode": item["mode"],
    }
    return job, form


def static_errors(arch: Arch, item: Item) -> set[ErrorCode]:
    """All that a job alone does wrong."""
    j: dict[str, Any] = dict.fromkeys(set(JOB.names or ()) - {"reserved", "padding"}, 0) | item
    wrong: set[ErrorCode] = set()

    def refuse(code: ErrorCode, *conditions: bool) -> None:
        if any(conditions):
            wrong.add(code)

    refuse(ErrorCode.OPCODE, j["opcode"] > 4)
    refuse(ErrorCode.KEEP_VALUES, j["opcode"] in (Opcode.PRUNE_TOKENS, Opcode.PRUNE_HEADS) and not j["keep_values"])
    refuse(ErrorCode.TOKENS, j["opcode"] == Opcode.TOKENS and j["keys"] > arch.max_context)
    if j["opcode"] != Opcode.ATTEND:
        return wrong
    atom = arch.memory_spec.access_bytes
    refuse(ErrorCode.CHOICE, j["lsb"] > 2, j["value_fetch"] > 1, j["fused"] > 2, j["side"] > 2)
    good_dim = 8 <= j["head_dim"] <= arch.max_head_dim and j["head_dim"] % 8 == 0
    refuse(ErrorCode.HEAD_DIM, not good_dim)
    if good_dim:
        most = SequencerUnit.of(arch).most_keys(arch.padded_head_dim(j["head_dim"]), j["fused"] != Fused.SINGLE)
        refuse(ErrorCode.KEYS, j["keys"] > most, j["mode"] == Mode.STATE and j["first_key"] + j["keys"] > most)
    refuse(ErrorCode.KEYS, j["keys"] == 0, j["first_key"] + j["keys"] > 65536)
    refuse(ErrorCode.ROWS, not 0 < j["queries"] * j["group"] < 1 << 24)
    refuse(ErrorCode.HEADS, (j["head"] + 1) * j["group"] > arch.max_heads)
    try:
        check_planes(j["msb_bits"], j["lsb_bits"])
    except UserError:
        wrong.add(ErrorCode.PLANES)
    refuse(ErrorCode.LSB, j["lsb"] != Lsb.NEVER and j["lsb_bits"] == 0)
    refuse(ErrorCode.VALUE_BITS, j["value_bits"] not in (4, 6, 8, 10, 12))
    refuse(ErrorCode.THRESHOLD, j["threshold"] > 65535)
    refuse(ErrorCode.SCALE, j["score_shift"] > 62, j["score_shift"] == 0 and j["score_mantissa"] > 0)
    refuse(ErrorCode.VISIBLE, bool(j["flags"] & Flag.CAUSAL) and j["first_visible"] == 0)
    if j["mode"] != Mode.SOFTMAX:
        last_visible = j["first_visible"] + j["queries"] - 1
        causal = bool(j["flags"] & Flag.CAUSAL)
        visible = min(j["keys"], last_visible) if causal else j["keys"]
        dropping = visible > 0 and values_kept(visible, j["keep_values"], j["keep_ratio"]) != visible
        never = [j["mode"] > 3, j["lsb"] != Lsb.NEVER, bool(j["flags"] & Flag.ACCUMULATE), dropping]
        never += [j["value_fetch"] == ValueFetch.SELECTED, j["output_mantissa"] >= 1 << 17, j["output_shift"] > 43]
        if j["mode"] == Mode.DECAY:
            never += [not causal, j["decay"] >= 1 << 24, last_visible > 1 << 16]
        if j["mode"] == Mode.STATE:
            never += [j["flags"] & BOTH != BOTH, j["group"] != 1, j["side"] != Side.ALONE, j["queries"] >= 1 << 22]
            never += [j["keys"] % 8 != 0, j["first_key"] % 8 != 0, j["score_shift"] > 15, j["decay"] >= 1 << 24]
        if j["mode"] in (Mode.LINEAR, Mode.STATE):
            never += [causal, bool(j["flags"] & Flag.KEEP_LIST), j["fused"] != Fused.SINGLE, j["keys"] > j["head_dim"]]
        refuse(ErrorCode.MODE, *never)
    names = ["q_address", "k_msb_address", "v_address", "output_address"] + ["k_lsb_address"] * (j["lsb"] != Lsb.NEVER)
    names += ["partial_address"] * ((j["flags"] & BOTH) != BOTH)
    refuse(ErrorCode.ADDRESS, *(j[name] % atom or j[name] >= 1 << 48 for name in names))
    refuse(ErrorCode.ADDRESS, *(j[name] % atom or j[name] >= 1 << 16 for name in ("q_stride", "output_stride")))
    return wrong
