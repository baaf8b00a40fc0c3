"""What the rest of an engine might tell the fetcher: random jobs, requests and releases, as far as is possible."""

import random
from dataclasses import dataclass
from typing import Any

from tests.rtl.fetcher_model import Format, K, Model, V


@dataclass
class Traffic:
    """Random jobs and everything that the rest of the engine tells the fetcher, as far as it could at this time."""

    model: Model
    random: random.Random
    max_keys: int
    jobs_per_format: int
    second_next: dict[str, Any] | None = None
    sent: int = 0  # jobs of this format
    waiting: tuple[int, int, int] = (0, 0, 0)  # jobs, LSB requests, V rows

    def begin_cycle(self) -> None:
        """What waits at the start of a cycle may fill the queues; what leaves in it has left only in the next."""
        m = self.model
        self.waiting = (max(len(m.k_jobs), len(m.v_jobs), len(m.q_jobs)), len(m.requests), len(m.v_rows))

    def new_format(self) -> Format:
        pick, unit = self.random, self.model.unit
        head_dim = pick.choice(range(8, unit.arch.max_head_dim + 1, 8))
        pair = pick.random() < 0.6
        fits = 2 * unit.arch.padded_head_dim(head_dim) <= unit.entry_words
        msb, lsb = pick.choice([(4, 4), (6, 4), (8, 4), (10, 4), (12, 0), (6, 0)])
        fused = pair and fits and pick.random() < 0.5
        keyless = not fused and pick.random() < 0.3
        return Format(unit, head_dim, msb, lsb, pick.choice([4, 6, 8, 10, 12]), pair, fused, keyless)

    def new_job(self) -> dict[str, Any]:
        pick, fmt, unit = self.random, self.model.format, self.model.unit
        per_line = min(unit.arch.keys_per_line(fmt.head_dim), unit.arch.values_per_line(fmt.head_dim))
        lines = min(self.model.ring_lines(K), self.model.ring_lines(V))
        most = min(self.max_keys, unit.arch.tile_keys(fmt.head_dim), lines * per_line)
        keys = pick.choice([1, pick.randint(1, 4), pick.randint(1, most), most])
        listed = pick.random() < 0.6
        job = {
            "rows": pick.choice([1, 2, 3, pick.randint(1, 9)]),
            "keys": keys,
            "list": listed,
            "first_key": pick.randint(0, unit.arch.max_context - keys if listed else 65536 - keys),
            "version": pick.randrange(2),
            "fetches_k": not fmt.keyless,
            "side": pick.randrange(2) if not fmt.fused else 0,
            "v_selected": pick.random() < 0.5,
            "q_address": pick.randrange(1 << 47),
            "q_stride": pick.choice([pick.randrange(1 << 16), 96, 65535]),
            "k_msb_address": pick.randrange(1 << 47),
            "v_address": pick.randrange(1 << 47),
        }
        if self.second_next is not None:
            job |= {name: self.second_next[name] for name in ("keys", "list", "first_key", "version")}
            job |= {"fetches_k": False, "side": 1}
            self.second_next = None
        elif fmt.fused:
            self.second_next = job
        return job

    def drained(self) -> bool:
        m = self.model
        return not (m.k_jobs or m.v_jobs or m.q_jobs or m.requests or m.v_rows or m.active)

    def dispatch(self) -> tuple[dict[str, Any] | None, Format | None]:
        """A job to dispatch in this cycle, and its format if that is another."""
        m = self.model
        if not m.formats or (self.sent >= self.jobs_per_format and self.second_next is None):
            if self.drained() and m.k_used == m.v_used == m.q_used == 0:
                m.formats.append(self.new_format())
                self.sent = 1
                return self.new_job(), m.format
            return None, None
        if self.waiting[0] < m.unit.job_slots and self.random.random() < 0.2:
            self.sent += 1
            return self.new_job(), None
        return None, None

    def lsb_request(self, active: bool) -> dict[str, int] | None:
        m, pick = self.model, self.random
        if not active or self.waiting[1] >= m.unit.arch.rows_in_flight or not m.format.lsb_bits or pick.random() > 0.02:
            return None
        keys = pick.randint(1, min(self.max_keys, m.unit.arch.tile_keys(m.format.head_dim)))
        return {
            "row": pick.randrange(m.unit.arch.rows_in_flight),
            "keys": keys,
            "line": pick.randrange(m.ring_lines(K)),
            "k_lsb_address": pick.randrange(1 << 47),
            "first_key": pick.randint(0, m.unit.arch.max_context - keys),
            "list": pick.randrange(2),
            "version": pick.randrange(2),
        }

    def v_row(self) -> dict[str, int] | None:
        """Of the jobs that wait for V, in order, those whose K has been chosen may emit rows."""
        m, pick = self.model, self.random
        ahead = len(m.v_rows)
        done = m.v_rows_done
        for job in m.v_jobs:
            if job["k_set"] >= m.k_chosen:
                return None
            if not job["v_selected"]:
                done = 0
                continue
            if ahead < job["rows"] - done:
                if self.waiting[2] >= m.unit.arch.rows_in_flight or pick.random() < 0.7:
                    return None
                granule = pick.choice([0, m.unit.granules - 1, pick.randrange(m.unit.granules)])
                return {"kept": pick.choice([1, job["keys"], pick.randint(1, job["keys"])]), "granule": granule}
            ahead -= job["rows"] - done
            done = 0
        return None

    def release(self, used: int) -> int:
        pick = self.random
        return pick.choice([used, pick.randint(1, used)]) if used and pick.random() < 0.15 else 0

    def levels(self) -> list[int]:
        pick, depth = self.random, self.model.unit.arch.fetcher.address_fifo_depth
        mood = self.model.cycle // 64 % 3
        bias = (0.0, 0.4, 0.8)[mood]
        return [
            pick.choice([depth, depth - 1]) if pick.random() < bias else pick.randint(0, depth)
            for _ in range(self.model.unit.arch.fetcher.lanes)
        ]
