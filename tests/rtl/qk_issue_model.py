"""The rules of docs/hardware.md for the QK array's control, stated anew from jobs as dictionaries, cycle by cycle."""

import random
from collections import deque
from typing import Any

from accel.arch import Arch
from accel.numerics.attention import values_kept
from accel.units.engine import EngineUnit


class Plan:
    """Jobs of one format, and of each row what its passes must say."""

    def __init__(
        self, rng: random.Random, unit: EngineUnit, dim: int, fused: bool, jobs: int, first: dict[str, int],
        keyless: bool = False,
    ) -> None:  # fmt: skip
        """``first``: running numbers to begin with: row, number (of K lines), score. ``keyless``: of mode LINEAR."""
        arch = unit.arch
        padded = Arch.padded_head_dim(dim)
        per_line, ring = arch.keys_per_line(padded), unit.k_ring_lines(padded, fused)
        self.jobs: list[dict[str, int]] = []
        self.rows: list[dict[str, Any]] = []
        line, number, score, row_number = 0, first["number"], first["score"], first["row"]
        most = min(ring, unit.score_words) * per_line
        most = min(most, dim) if keyless else most
        self.keyless = keyless
        for j in range(jobs):
            second = fused and j % 2 == 1
            keys = self.jobs[-1]["keys"] if second else rng.randint(1, min(most, rng.choice([3, most])))
            group = rng.choice([1, 1, 2, 3])
            queries = rng.randint(1, 4)
            single = rng.random() < 0.3
            job = {
                "rows": 1 if single else group * queries,
                "group": 1 if single else group,
                "keys": keys,
                "first_key": rng.randrange(1 << 10),
                "causal": rng.randrange(2),
                "first_visible": rng.randint(1, keys),
                "accumulate": rng.randrange(2),
                "list": rng.randrange(2),
                "version": rng.randrange(2),
                "second": second,
                "side": rng.randrange(2),
                "first_tile": 0 if single and rng.random() < 0.7 else 1,
                "lsb": rng.randrange(3),
                "threshold": rng.randrange(1 << 16),
                "selecting": rng.randrange(2),
                "v_selected": rng.randrange(2),
                "keep_values": rng.choice([0, 0, rng.randint(1, keys), keys]),
                "keep_ratio": rng.choice([0, 1 << 16, rng.randrange(1 << 16)]),
                "score_mantissa": rng.randrange(1 << 16),
                "score_shift": rng.randrange(1, 63),
                "k_lsb_address": rng.randrange(1 << 48),
            }
            job["decay"] = job["k_lsb_address"] & (1 << 24) - 1
            self.jobs.append(job)
            k_lines = -(-keys // per_line)
            if second:
                line, number = (line - k_lines) % ring, number - k_lines
            for i in range(job["rows"]):
                visible = min(keys, job["first_visible"] + i // job["group"]) if job["causal"] else keys
                lines = -(-visible // per_line)
                sent = {name: job[name] for name in (
                    "lsb", "threshold", "k_lsb_address", "first_key", "list", "version", "selecting", "v_selected",
                    "accumulate", "first_tile")}  # fmt: skip
                sent |= {
                    "second": 0,
                    "row": row_number % arch.rows_in_flight,
                    "keys": visible,
                    "lines": lines,
                    "line": line,
                    "score": score,
                    "kept": values_kept(visible, job["keep_values"], job["keep_ratio"]),
                    "ends_k": int(i == job["rows"] - 1 and not (fused and not second) and not keyless),
                    "k_lines": k_lines,
                }
                self.rows.append(
                    {
                        "pass": sent,
                        "job": j,
                        "number": number,
                        "ring_lines": [(line + k) % ring for k in range(lines)],
                        "counts": [min(per_line, visible - k * per_line) for k in range(lines)],
                        "row_number": row_number,
                        "side": second,
                        "again": not keyless and rng.random() < 0.4,
                        "decay": (job["decay"], job["decay"] * (job["first_visible"] + i // job["group"] - 1)),
                        "scale": (job["score_mantissa"], job["score_shift"]),
                    }
                )
                score = (score + lines) % unit.score_words
                row_number += 1
            if not keyless:
                line, number = (line + k_lines) % ring, number + k_lines
        self.last = {"number": number, "score": score, "row": row_number}


class Model:
    """``passed``: running numbers as registers of the cycle: query, k, lsb."""

    def __init__(self, unit: EngineUnit, plan: Plan, fold: int, lsb_head: int) -> None:
        self.unit, self.plan, self.fold = unit, plan, fold
        self.free_at = 0
        self.running: tuple[int, bool, int] | None = None  # row, second pass, next line
        self.next_row, self.unfinished, self.not_final, self.score_used = 0, 0, 0, 0
        self.requests: deque[int] = deque()
        self.lsb_head = lsb_head

    def cycle(self, t: int, passed: dict[str, int]) -> tuple[tuple[int, bool] | None, tuple[int, int, bool] | None]:
        """What happens at t: (row, second) that starts; (row, line of the row, second) that issues."""
        start = None
        if t < self.free_at:
            return None, None
        if self.running is None:
            if self.requests and self.lsb_head < passed["lsb"]:
                start = (self.requests.popleft(), True)
                self.lsb_head += 1
            elif self.next_row < len(self.plan.rows):
                row = self.plan.rows[self.next_row]
                if (
                    self.unfinished < self.unit.arch.rows_in_flight
                    and row["row_number"] < passed["query"]
                    and self.score_used + row["pass"]["lines"] <= self.unit.score_words
                    and (self.plan.keyless or row["number"] < passed["k"])
                    and (row["pass"]["first_tile"] or not self.not_final)
                ):
                    start = (self.next_row, False)
                    self.next_row += 1
                    self.unfinished += 1
                    self.not_final += 1
                    self.score_used += row["pass"]["lines"]
            if start is None:
                return None, None
            self.running = (*start, 0)
        r, second, k = self.running
        row = self.plan.rows[r]
        if not second and not self.plan.keyless and row["number"] + k >= passed["k"]:
            return start, None
        self.free_at = t + self.fold
        self.running = (r, second, k + 1) if k + 1 < row["pass"]["lines"] else None
        return start, (r, k, second)
