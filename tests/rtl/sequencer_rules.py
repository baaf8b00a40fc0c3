"""What the sequencer must do in each cycle, followed beside its bench."""

from accel.arch import Arch, load_arch
from accel.program import Flag, Fused, Opcode
from accel.registers import ErrorCode
from accel.units.engine import RAW_JOBS, EngineUnit
from accel.units.sequencer import DECODE_CYCLES, HEADER_CYCLES, StateOperation
from tests.rtl.job_model import Item, expected
from tests.rtl.sequencer_bench import Bench, survivors

TINY = load_arch("tiny")
UNIT = EngineUnit.of(TINY)


class Rules:
    """The docstring of Sequencer as equations: from what the bench answered, when everything has to happen."""

    def __init__(self, arch: Arch, items: list[Item], bench: Bench) -> None:
        self.bench, self.items = bench, [*items, {"opcode": int(Opcode.END)}]
        self.leaves: list[int] = []
        self.next = 0  # earliest cycle in which the next job is at the front
        self.dispatched: list[tuple[int, Item, Item, bool]] = []  # cycle, job, format, change
        self.ops: list[tuple[int, dict[str, int]]] = []
        self.all_tokens: list[int] = []
        self.error: tuple[int, int] | None = None
        self.end = -1
        self.received = [t for t, address, last in bench.memory.beats if (address - bench.memory.base) % 128 == 32][1:]
        self._run(arch)

    def _rows_before(self, times: list[int]) -> int:
        """The last pulse of all rows dispatched so far; -1 if there were none."""
        rows = sum(job["rows"] for _, job, _, _ in self.dispatched)
        return times[rows - 1] if rows else -1

    def _halve(self, front: int, added: int, keep: int, live: int, restart: bool) -> None:
        keep = min(keep, (1 << 17) - 1)
        self._operation(StateOperation.HALVE, max(front, added), keep=keep, live=live, restart=int(restart))

    def _operation(self, op: StateOperation, earliest: int, **payload: int) -> int:
        """The cycle in which it is taken; the next job may be at the front a cycle after it is done."""
        at = earliest
        while not self.bench.op_ready[at]:
            at += 1
        number = len(self.ops)
        self.ops.append((at, {"op": op} | payload))
        self.next = self.bench.ops[number][1] + 1
        return at

    def _run(self, arch: Arch) -> None:
        bench, retired = self.bench, self.bench.retired
        live = length = before_prune = version = 0
        stored = False
        heads = (1 << arch.max_heads) - 1
        form: Item | None = None
        for i, item in enumerate(self.items):
            front = max(self.received[i] + DECODE_CYCLES, self.next)
            opcode, flags = item["opcode"], item.get("flags", 0)
            restart = bool(flags & Flag.RESTART)
            keep = item.get("keep_values", 0)
            added, written = self._rows_before(bench.accumulated) + 1, self._rows_before(bench.written) + 1
            if opcode == Opcode.END:
                at = max(front, retired[-1] + 1 if retired else 0)
                while not bench.idle[at]:
                    at += 1
                self.end = at
            elif opcode == Opcode.TOKENS and restart:
                at = self._operation(
                    StateOperation.RESTART, max(front, added, written), keep=0, live=item["keys"], restart=1
                )
                live, stored, heads = item["keys"], False, (1 << arch.max_heads) - 1
            elif opcode == Opcode.TOKENS:
                if item["keys"] < live:
                    return self._stop(front, ErrorCode.SHRINK, i)
                at, live, stored = front, item["keys"], False
                self.all_tokens.append(at)
            elif opcode == Opcode.PRUNE_TOKENS:
                if not live:
                    return self._stop(front, ErrorCode.LIVE, i)
                free = retired[before_prune - 1] + 1 if before_prune else 0
                at = self._operation(
                    StateOperation.PRUNE_TOKENS, max(front, added, free), keep=keep, live=live,
                    restart=int(restart or not stored),
                )  # fmt: skip
                length = min(keep, live if restart or not stored else length)
                stored, version, before_prune = True, 1 - version, len(self.dispatched)
            elif opcode == Opcode.PRUNE_HEADS:
                at = self._operation(
                    StateOperation.PRUNE_HEADS, max(front, written), keep=keep, live=live, restart=int(restart)
                )
                heads = survivors(keep, arch.max_heads)
            else:
                job, new = expected(arch, item)
                head = item["head"]
                if item["group"] == 1 and not heads >> head & 1:
                    if flags & Flag.HALVE:
                        self._halve(front, added, keep, live, restart)
                        front = self.next
                    self._leave(front)
                    continue
                if item["fused"] == Fused.FIRST and item["group"] == 1 and not heads >> (head + 1) & 1:
                    return self._stop(front, ErrorCode.FUSED, i)
                end = item["first_key"] + item["keys"]
                if job["list"] and end > (length if stored else live):
                    return self._stop(front, ErrorCode.KEEP_LIST, i)
                if not job["list"] and end > live and (live or job["accumulate"]):
                    return self._stop(front, ErrorCode.LIVE, i)
                at = front
                if flags & Flag.HALVE:
                    self._halve(front, added, keep, live, restart)
                    at = self.next
                count = len(self.dispatched)
                if form is not None and form != new and count:
                    at = max(at, retired[count - 1] + 1)
                if count >= UNIT.job_slots:
                    at = max(at, retired[count - UNIT.job_slots] + 1)
                job |= {"list": int(job["list"] and stored), "version": version}
                self.dispatched.append((at, job, new, form != new))
                form = new
            self._leave(at)
        return None

    def _leave(self, at: int) -> None:
        self.leaves.append(at)
        self.next = max(self.next, at + 1)

    def _stop(self, at: int, code: ErrorCode, job: int) -> None:
        self.error = (int(code), job)
        self.end = at

    def check(self) -> None:
        bench = self.bench
        assert bench.done is not None
        assert [
            (t, {n: op[n] for n in want}) for (t, _, op), (_, want) in zip(bench.ops, self.ops, strict=True)
        ] == self.ops
        assert bench.all_tokens == self.all_tokens
        got = bench.dispatches
        assert [t for t, _, _ in got] == [t for t, _, _, _ in self.dispatched]
        assert [change for _, _, change in got] == [change for _, _, _, change in self.dispatched]
        for (_, job, _), form, (_, want_job, want_form, _) in zip(got, bench.formats, self.dispatched, strict=True):
            assert {name: job[name] for name in want_job} == want_job
            assert {name: form[name] for name in want_form} == want_form
        if self.error is None:
            assert bench.done == (self.end, 0, 0)
            self._check_reads(len(self.items))
        else:
            assert bench.done[0] > self.end
            assert bench.done[1:] == self.error
            assert not bench.dispatches or bench.done[0] > bench.retired[-1]

    def _check_reads(self, jobs: int) -> None:
        """When each AR was offered, one per job."""
        memory = self.bench.memory
        assert [(address, beats) for _, address, beats in memory.asked] == [(memory.base, 2)] + [
            (memory.base + 64 + 128 * i, 4) for i in range(jobs)
        ]
        header = next(t for t, _, last in memory.beats if last)
        taken = [t for t, _, _ in memory.asked]
        wanted = [1]
        for i in range(jobs):
            slot = self.leaves[i - RAW_JOBS] + 1 if i >= RAW_JOBS else 0
            wanted.append(max(taken[i] + 1 if i else 0, header + HEADER_CYCLES, slot))
        assert memory.offered == wanted
