"""The rules of "Order of fetching" in docs/hardware.md, a cycle at a time, over plain lists."""

from collections import deque
from dataclasses import dataclass, field
from typing import Any

from accel.units.engine import EngineUnit
from accel.units.fetcher import PREFETCH_DEPTH, record_bytes, row_stride_bytes, side_mask

Q, K, LSB, V = range(4)  # kinds, in the order of the tag's codes


@dataclass(frozen=True)
class Format:
    """A head's numbers; ``pair``: K rows of two heads side by side, ``fused``: fetched together; ``keyless``: no K at
    all.
    """

    unit: EngineUnit
    head_dim: int
    msb_bits: int
    lsb_bits: int
    value_bits: int
    pair: bool
    fused: bool
    keyless: bool = False

    @property
    def atom(self) -> int:
        return self.unit.arch.memory_spec.access_bytes

    def _atoms(self, bits: int, heads: int = 1) -> int:
        return row_stride_bytes(self.head_dim, bits, self.atom, heads) // self.atom if bits else 0

    def fields(self) -> dict[str, int]:
        """Of the hardware's format_layout."""
        unit = self.unit
        return {
            "head_dim": self.head_dim,
            "log2_dim": unit.arch.padded_head_dim(self.head_dim).bit_length() - 1,
            "plane_units": record_bytes(self.head_dim, 4) // 16,
            "query_atoms": self._atoms(12),
            "key_atoms": self._atoms(self.msb_bits, 1 + self.pair),
            "key_planes": self.msb_bits // 4,
            "key_crumbs": self.msb_bits % 4 // 2,
            "pair": self.pair,
            "fused": self.fused,
            "k_wide": unit.wide(self.head_dim, self.fused),
            "lsb_atoms": self._atoms(self.lsb_bits),
            "value_atoms": self._atoms(self.value_bits),
            "value_planes": self.value_bits // 4,
            "value_crumbs": self.value_bits % 4 // 2,
            "v_wide": unit.wide(self.head_dim),
        }

    def key_atoms(self, side: int) -> list[int]:
        """Which accesses of a row a K fetch makes."""
        if self.pair and not self.fused:
            mask = side_mask(self.head_dim, self.msb_bits, self.atom, side)
            return [atom for atom in range(mask.bit_length()) if mask >> atom & 1]
        return list(range(self._atoms(self.msb_bits, 1 + self.pair)))


@dataclass
class Fetch:
    """Accesses of each lane still to be generated: (address, index, row, atom, side, entry of its kind)."""

    kind: int
    start: int
    room: int
    lanes: list[deque[tuple[int, ...]]]


@dataclass
class Model:
    """``keep``: two versions of the keep list; ``ring``: kept tokens. Registered state at the start of a cycle."""

    unit: EngineUnit
    keep: list[list[int]]
    ring: list[int]
    formats: list[Format] = field(default_factory=list)  # the last one is the present one
    cycle: int = 0
    k_jobs: deque[dict[str, Any]] = field(default_factory=deque)
    v_jobs: deque[dict[str, Any]] = field(default_factory=deque)
    q_jobs: deque[dict[str, Any]] = field(default_factory=deque)
    requests: deque[dict[str, int]] = field(default_factory=deque)
    v_rows: deque[dict[str, int]] = field(default_factory=deque)
    k_sets: int = 0  # dispatched
    k_chosen: int = 0
    v_rows_done: int = 0  # of the oldest job
    q_rows_done: int = 0
    k_line: int = 0
    v_line: int = 0
    k_used: int = 0
    v_used: int = 0
    q_used: int = 0
    q_row: int = 0
    side: int = 0  # of the fetch
    active: Fetch | None = None
    #: Accesses of each entry (line, query, LSB fetch) of a kind that are still to be generated, and entries all behind.
    left: dict[int, list[int]] = field(default_factory=lambda: {kind: [] for kind in range(4)})
    complete: dict[int, int] = field(default_factory=lambda: dict.fromkeys(range(4), 0))
    chosen: list[str] = field(default_factory=list)

    @property
    def format(self) -> Format:
        return self.formats[-1]

    def dispatch(self, job: dict[str, Any]) -> None:
        """At the end of the cycle."""
        if job["fetches_k"]:
            self.k_sets += 1
            self.k_jobs.append(job)
        job["k_set"] = self.k_sets - 1
        self.v_jobs.append(job)
        self.q_jobs.append(job)

    def per_line(self, kind: int) -> int:
        arch, dim = self.unit.arch, self.format.head_dim
        return arch.values_per_line(dim) if kind == V else arch.keys_per_line(dim)

    def ring_lines(self, kind: int) -> int:
        dim = self.format.head_dim
        return self.unit.v_ring_lines(dim) if kind == V else self.unit.k_ring_lines(dim, self.format.fused)

    def begin(self, kind: int, prefetch: bool, items: list[tuple[int, int, int, int, int]], atoms: list[int]) -> None:
        """``items``: (lane, address, index, row, entry) of each key."""
        depth = self.unit.arch.fetcher.address_fifo_depth
        lanes: list[deque[tuple[int, ...]]] = [deque() for _ in range(self.unit.arch.fetcher.lanes)]
        for lane, address, index, row, entry in items:
            while len(self.left[kind]) <= entry:
                self.left[kind].append(0)
            self.left[kind][entry] += len(atoms)
            lanes[lane].extend(
                (address + atom * self.format.atom, index, row, atom, self.side, entry) for atom in atoms
            )
        self.active = Fetch(kind, self.cycle + 2, min(depth, PREFETCH_DEPTH) if prefetch else depth, lanes)
        self.chosen.append("QKLV"[kind] if prefetch or kind != V else "v")

    def lines(
        self, kind: int, prefetch: bool, first_line: int, tokens: list[int], base: int, stride: int, atoms: list[int]
    ) -> None:
        """A K, LSB or V fetch of these tokens; the stride is in accesses."""
        per_line, ring, lanes = self.per_line(kind), self.ring_lines(kind), self.unit.arch.fetcher.lanes
        row = len(self.left[LSB]) % self.unit.arch.rows_in_flight if kind == LSB else 0
        entry = len(self.left[kind])
        items = []
        for j, token in enumerate(tokens):
            line = (first_line + j // per_line) % ring
            lane = line % (lanes // per_line) * per_line + j % per_line
            address = base + token * stride * self.format.atom
            items.append((lane, address, line, row, entry if kind == LSB else entry + j // per_line))
        self.begin(kind, prefetch, items, atoms)

    def tokens(self, source: dict[str, Any]) -> list[int]:
        positions = range(source["first_key"], source["first_key"] + source["keys"])
        return [self.keep[source["version"]][p] for p in positions] if source["list"] else list(positions)

    def choose(self) -> None:
        fmt = self.format
        fields = fmt.fields()
        self.side = 0
        if self.requests:
            request = self.requests.popleft()
            self.side = request.get("side", 0)
            self.lines(LSB, False, request["line"], self.tokens(request), request["k_lsb_address"],
                       fields["lsb_atoms"], list(range(fields["lsb_atoms"])))  # fmt: skip
            return
        v_stride = fields["value_atoms"]
        v_job = self.v_jobs[0] if self.v_jobs else None
        if v_job and v_job["v_selected"] and self.v_rows:
            row = self.v_rows[0]
            lines = -(-row["kept"] // self.per_line(V))
            if self.v_used + lines <= self.ring_lines(V):
                self.v_rows.popleft()
                at = row["granule"] * self.unit.granule
                tokens = [self.ring[(at + j) % len(self.ring)] for j in range(row["kept"])]
                self.lines(V, False, self.v_line, tokens, v_job["v_address"], v_stride, list(range(v_stride)))
                self.take_v(lines)
                self.v_rows_done += 1
                if self.v_rows_done == v_job["rows"]:
                    self.v_jobs.popleft()
                    self.v_rows_done = 0
                return
        if self.q_jobs and self.q_jobs[0]["k_set"] < self.k_chosen:
            job, unit = self.q_jobs[0], self.unit
            slots = unit.arch.fetcher.query_slots
            count = min(job["rows"] - self.q_rows_done, slots - self.q_used, unit.query_lanes)
            if count:
                items = []
                for r in range(self.q_row, self.q_row + count):
                    address = job["q_address"] + (self.q_rows_done + r - self.q_row) * job["q_stride"]
                    items.append((r % unit.query_lanes, address, r % slots, 0, r))
                self.begin(Q, False, items, list(range(fields["query_atoms"])))
                self.q_row += count
                self.q_used += count
                self.q_rows_done += count
                if self.q_rows_done == job["rows"]:
                    self.q_jobs.popleft()
                    self.q_rows_done = 0
                return
        if v_job and not v_job["v_selected"] and v_job["k_set"] < self.k_chosen:
            lines = -(-v_job["keys"] // self.per_line(V))
            if self.v_used + lines <= self.ring_lines(V):
                tokens = self.tokens(v_job)
                self.lines(V, True, self.v_line, tokens, v_job["v_address"], v_stride, list(range(v_stride)))
                self.take_v(lines)
                self.v_jobs.popleft()
                return
        if self.k_jobs:
            job = self.k_jobs[0]
            lines = -(-job["keys"] // self.per_line(K))
            if self.k_used + lines <= self.ring_lines(K):
                self.side = job["side"] if fmt.pair and not fmt.fused else 0
                self.lines(K, True, self.k_line, self.tokens(job), job["k_msb_address"], fields["key_atoms"],
                           fmt.key_atoms(self.side))  # fmt: skip
                self.k_line = (self.k_line + lines) % self.ring_lines(K)
                self.k_used += lines
                self.k_chosen += 1
                self.k_jobs.popleft()

    def take_v(self, lines: int) -> None:
        self.v_line = (self.v_line + lines) % self.ring_lines(V)
        self.v_used += lines

    def step(self, levels: list[int]) -> tuple[list[tuple[int, ...] | None], bool, bool]:
        """One cycle but for what arrives in it: (each lane's (kind, address, index, row, atom, side)), active, busy."""
        pushes: list[tuple[int, ...] | None] = [None] * len(levels)
        was_active = self.active is not None
        busy = self.active is not None and self.cycle >= self.active.start
        if self.active is None:
            if self.formats:
                self.choose()
        elif busy:
            fetch = self.active
            for lane, (todo, level) in enumerate(zip(fetch.lanes, levels, strict=True)):
                if todo and level < fetch.room:
                    *access, entry = todo.popleft()
                    pushes[lane] = (fetch.kind, *access)
                    self.left[fetch.kind][entry] -= 1
            if not any(fetch.lanes):
                self.active = None
        self.cycle += 1
        return pushes, was_active, busy

    def count_complete(self) -> None:
        """Entries whose accesses have all been generated before this cycle, in order."""
        for kind, left in self.left.items():
            while self.complete[kind] < len(left) and left[self.complete[kind]] == 0:
                self.complete[kind] += 1
