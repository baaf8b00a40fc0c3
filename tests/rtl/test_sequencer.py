"""Sequencer and reader: what comes out, in which order and in which cycle, against the rules as equations."""

from typing import Any

import numpy as np
import pytest

pytest.importorskip("amaranth", reason="RTL: pip install 'accel-codesign[rtl]'")

from accel.lower.partials import transit
from accel.program import Flag, Fused, Mode, Opcode, Program, Side, jobs_of
from accel.registers import ErrorCode
from accel.units.sequencer import StateOperation
from tests.rtl.job_model import Item, random_attend
from tests.rtl.sequencer_bench import Bench, Memory
from tests.rtl.sequencer_rules import TINY, UNIT, Rules

BASE = 0x7C0  # jobs begin at a multiple of 128: none is cut
BOTH = Flag.FIRST_TILE | Flag.LAST_TILE


def play(items: list[Item], seed: int = 1, base: int = BASE, encoded: bytes | None = None, **more: Any) -> Bench:
    """Run a program to its end. ``more``: fields of Bench and Memory."""
    bench = bench_of(items, seed, base, encoded, **more)
    bench.run()
    return bench


def bench_of(items: list[Item], seed: int = 1, base: int = BASE, encoded: bytes | None = None, **more: Any) -> Bench:
    rng = np.random.default_rng(seed)
    contents = Program(jobs_of(items)).encode() if encoded is None else encoded
    of_memory = {name: more.pop(name) for name in ("hurry", "bad", "cut") if name in more}
    return Bench(UNIT, Memory(base, contents, rng, **of_memory), rng, **more)


def attend(rng: np.random.Generator, **fixed: int) -> Item:
    """A small job; few formats, so that most follow each other without draining."""
    few = {
        "queries": int(rng.integers(1, 4)), "group": 1, "head": int(rng.integers(4)), "fused": 0, "side": 0, "keys": 5,
        "first_key": int(rng.integers(3)), "head_dim": 8 if rng.random() < 0.8 else 16, "msb_bits": 8, "lsb_bits": 4,
        "lsb": int(rng.integers(3)), "value_bits": 8, "flags": BOTH | int(rng.integers(8)),
    }  # fmt: skip
    return random_attend(rng, TINY, **(few | fixed))


def random_program(rng: np.random.Generator, jobs: int, faults: bool) -> list[Item]:
    """Legal in itself; with ``faults`` sometimes beyond what is alive."""
    items: list[Item] = [{"opcode": Opcode.TOKENS, "keys": 20, "flags": Flag.RESTART}]
    live, kept = 20, 20
    for _ in range(jobs):
        kind = rng.choice(
            ["attend", "halve", "pair", "tokens", "restart", "prune", "heads"],
            p=[0.62, 0.06, 0.08, 0.06, 0.04, 0.1, 0.04],
        )
        if kind == "tokens":
            live = min(64, live + int(rng.integers(-2 if faults else 0, 4)))
            items.append({"opcode": Opcode.TOKENS, "keys": live})
            kept = live
        elif kind == "restart":
            live = kept = int(rng.integers(10, 30))
            items.append({"opcode": Opcode.TOKENS, "keys": live, "flags": Flag.RESTART})
        elif kind == "prune":
            restart = int(rng.integers(2)) * Flag.RESTART
            keep = int(rng.integers(1 if faults else 8, 20))
            kept = min(keep, live if restart else kept)
            items.append({"opcode": Opcode.PRUNE_TOKENS, "keep_values": keep, "flags": restart})
        elif kind == "heads":
            # Not one of two heads of a later pair, but for the fault that this is.
            keep = int(rng.choice([1, 3] if faults else [2, 4]))
            items.append({"opcode": Opcode.PRUNE_HEADS, "keep_values": keep, "flags": Flag.RESTART})
        elif kind == "pair":
            first = attend(rng, head=int(rng.choice([0, 2])), fused=Fused.FIRST, side=Side.FIRST, head_dim=8)
            second = first | {"head": first["head"] + 1, "fused": Fused.SECOND, "side": Side.SECOND, "lsb": 0}
            items += [first, second]
        else:
            items.append(attend(rng))
            items[-1]["flags"] |= Flag.HALVE * (kind == "halve")
    return items


@pytest.mark.parametrize(
    ("seed", "hurry", "slow"), [(1, False, True), (2, True, False), (3, True, True), (4, False, False)]
)
def test_every_cycle_of_a_program(seed: int, hurry: bool, slow: bool) -> None:
    items = random_program(np.random.default_rng(seed), 60, False)
    bench = play(items, seed, hurry=hurry, slow_units=slow)
    rules = Rules(TINY, items, bench)
    rules.check()
    assert rules.error is None
    assert len(bench.dispatches) > 20
    assert {op["op"] for _, op in rules.ops} == set(StateOperation)


def test_jobs_wait_for_a_slot() -> None:
    """Jobs of one format that come faster than they retire: as many as there are slots are under way."""
    rng = np.random.default_rng(7)
    items = [
        {"opcode": int(Opcode.TOKENS), "keys": 20},
        *[attend(rng, head_dim=8, keys=5, queries=3) for _ in range(24)],
    ]
    bench = play(items, hurry=True)
    Rules(TINY, items, bench).check()
    under_way = [i + 1 - sum(end < t for end in bench.retired) for i, (t, _, _) in enumerate(bench.dispatches)]
    assert max(under_way) == UNIT.job_slots


@pytest.mark.parametrize("seed", range(10, 18))
def test_programs_with_faults_of_the_state(seed: int) -> None:
    items = random_program(np.random.default_rng(seed), 25, True)
    Rules(TINY, items, play(items, seed)).check()


# ---- what ends a program otherwise -----------------------------------------------------------------------------------
RESTART: Item = {"opcode": int(Opcode.TOKENS), "keys": 20, "flags": int(Flag.RESTART)}


def job(**fixed: int) -> Item:
    """A legal job that any other may follow."""
    few = {"flags": BOTH, "head": 0, "first_key": 0, "head_dim": 8, "lsb": 0, "queries": 1}
    return attend(np.random.default_rng(0), **(few | fixed))


def pair(**second: int) -> list[Item]:
    first = job(fused=Fused.FIRST, side=Side.FIRST)
    return [first, first | {"head": 1, "fused": int(Fused.SECOND), "side": int(Side.SECOND)} | second]


def state(**fixed: int) -> Item:
    """A state of 8 rows that begins."""
    few = {"flags": BOTH | Flag.RESTART, "head_dim": 16, "keys": 8, "value_bits": 12, "msb_bits": 12, "lsb_bits": 0}
    return job(**(few | {"mode": Mode.STATE, "queries": 2} | fixed))


PRUNE_HEAD_0: Item = {"opcode": int(Opcode.PRUNE_HEADS), "keep_values": 3, "flags": int(Flag.RESTART)}
PRUNE_TO_HEAD_2: Item = PRUNE_HEAD_0 | {"keep_values": 1}
PRUNE_TOKENS: Item = {"opcode": int(Opcode.PRUNE_TOKENS), "keep_values": 4}
FAULTS: dict[str, tuple[list[Item], ErrorCode, int]] = {
    "illegal in itself": ([RESTART, job(), job(head=9), job()], ErrorCode.HEADS, 2),
    "illegal, though its head is gone": ([RESTART, PRUNE_HEAD_0, job(keys=0)], ErrorCode.KEYS, 2),
    "more keys than alive": ([RESTART, job(keys=21)], ErrorCode.LIVE, 1),
    "adds to scores, but none is alive": ([job(flags=BOTH | Flag.ACCUMULATE)], ErrorCode.LIVE, 0),
    "prune of nothing": ([PRUNE_TOKENS], ErrorCode.LIVE, 0),
    "beyond the stored list": ([RESTART, PRUNE_TOKENS, job(flags=BOTH | Flag.KEEP_LIST)], ErrorCode.KEEP_LIST, 2),
    "beyond the list of all": ([RESTART, job(flags=BOTH | Flag.KEEP_LIST, keys=21)], ErrorCode.KEEP_LIST, 1),
    "no list when none is alive": ([job(flags=BOTH | Flag.KEEP_LIST)], ErrorCode.KEEP_LIST, 0),
    "fewer tokens": ([RESTART, {"opcode": int(Opcode.TOKENS), "keys": 19}], ErrorCode.SHRINK, 1),
    "tile without the tile before": ([RESTART, job(), job(flags=Flag.LAST_TILE)], ErrorCode.TILE_ORDER, 2),
    "several rows, but one left its sums on chip": (
        [RESTART, job(flags=Flag.FIRST_TILE), job(flags=Flag.LAST_TILE, queries=2)],
        ErrorCode.TILE_ORDER,
        2,
    ),
    "more rows than left sums": (
        [RESTART, job(flags=Flag.FIRST_TILE, queries=2), job(flags=Flag.LAST_TILE, queries=3)],
        ErrorCode.TILE_ORDER,
        2,
    ),
    "sums that were taken": (
        [
            RESTART,
            job(flags=Flag.FIRST_TILE, queries=2),
            job(flags=Flag.LAST_TILE, queries=2),
            job(flags=Flag.LAST_TILE),
        ],
        ErrorCode.TILE_ORDER,
        3,
    ),
    "state that nobody began": ([state(flags=BOTH)], ErrorCode.TILE_ORDER, 0),
    "more of a state than was begun": ([state(), state(flags=BOTH, keys=16)], ErrorCode.TILE_ORDER, 1),
    "gap between states": ([state(), state(first_key=16)], ErrorCode.TILE_ORDER, 1),
    "state of another format": ([state(), state(flags=BOTH, head_dim=24)], ErrorCode.TILE_ORDER, 1),
    "state ended by attention": ([state(), job(keys=1), state(flags=BOTH)], ErrorCode.TILE_ORDER, 2),
    "second without first": ([RESTART, pair()[1]], ErrorCode.FUSED, 1),
    "first without second": ([RESTART, pair()[0], job()], ErrorCode.FUSED, 2),
    "first, then the end": ([RESTART, pair()[0]], ErrorCode.FUSED, 2),
    "first, then an operation": ([RESTART, pair()[0], RESTART], ErrorCode.FUSED, 2),
    "two heads apart": ([RESTART, *pair(head=2)], ErrorCode.FUSED, 2),
    "other keys": ([RESTART, *pair(keys=4)], ErrorCode.FUSED, 2),
    "other format": ([RESTART, *pair(value_bits=4)], ErrorCode.FUSED, 2),
    "first of the pair is gone": ([RESTART, PRUNE_HEAD_0, *pair()], ErrorCode.FUSED, 3),
    "second of the pair is gone": ([RESTART, PRUNE_TO_HEAD_2, job(fused=Fused.FIRST, head=2)], ErrorCode.FUSED, 2),
}


@pytest.mark.parametrize("name", FAULTS)
def test_faults(name: str) -> None:
    items, code, at = FAULTS[name]
    bench = play(items)
    assert bench.done is not None
    assert (ErrorCode(bench.done[1]), bench.done[2]) == (code, at)
    gone = 0 if PRUNE_HEAD_0 in items else -1
    attends = [item for item in items[:at] if item["opcode"] == Opcode.ATTEND and item["head"] != gone]
    assert len(bench.dispatches) == len(attends)


@pytest.mark.parametrize(
    "items",
    [
        [job()],  # more keys than alive, but none is
        [RESTART, job(flags=Flag.FIRST_TILE), job(flags=0), job(flags=Flag.LAST_TILE), job()],
        [
            RESTART,
            job(flags=Flag.FIRST_TILE, queries=3),
            job(flags=Flag.LAST_TILE, queries=2),
            job(flags=0),
            job(flags=Flag.LAST_TILE),
        ],
        [RESTART, job(keys=20, flags=BOTH | Flag.KEEP_LIST)],
        [RESTART, *pair(), *pair()],
        [],
    ],
)
def test_what_is_no_fault(items: list[Item]) -> None:
    rules = Rules(TINY, items, play(items))
    rules.check()
    assert rules.error is None


def test_states_go_on_where_they_were_begun() -> None:
    """Also behind an operation, which has only their writes to wait for, and whatever tokens and heads are alive."""
    more = [state(first_key=8, keys=16), state(flags=BOTH, keys=16), state(), RESTART | {"keys": 1}, PRUNE_HEAD_0]
    bench = play([state(), *more, state(flags=BOTH, keys=16), state(flags=BOTH, first_key=8, keys=16)])
    assert bench.done is not None
    assert bench.done[1] == ErrorCode.NONE
    assert [change for _, _, change in bench.dispatches] == [True] + [False] * 5


def test_which_tiles_go_through_memory() -> None:
    """As ``accel.lower.partials`` says."""
    first, last, queries = Flag.FIRST_TILE, Flag.LAST_TILE, (3, 2, 1, 1, 1, 1, 1, 4)
    flags = (first, last, 0, last, first, 0, last, BOTH)
    items = [job(flags=f, queries=q) for f, q in zip(flags, queries, strict=True)]
    found = transit(jobs_of(items))
    sent = [(int(dispatched["sums_in"]), int(dispatched["sums_out"])) for _, dispatched, _ in play(items).dispatches]
    assert sent == [(int(a), int(b)) for a, b in zip(found.takes, found.leaves, strict=True)]


@pytest.mark.parametrize(
    ("at", "value", "code"),
    [(0, 0x54, ErrorCode.MAGIC), (3, 0x53, ErrorCode.MAGIC), (4, 2, ErrorCode.VERSION), (5, 1, ErrorCode.VERSION),
     (6, 64, ErrorCode.JOB_SIZE)],
)  # fmt: skip
def test_bad_headers(at: int, value: int, code: ErrorCode) -> None:
    data = bytearray(Program(jobs_of([RESTART, job()])).encode())
    data[at] = value
    bench = play([], encoded=bytes(data))
    assert bench.done is not None
    assert bench.done[1:] == (code, 0)
    assert len(bench.memory.asked) == 1


def test_address_that_is_not_aligned() -> None:
    bench = play([RESTART], base=BASE + 32)
    assert bench.done is not None
    assert bench.done[1:] == (ErrorCode.PROGRAM_ADDRESS, 0)
    assert not bench.memory.asked


@pytest.mark.parametrize("how", ["bad", "cut"])
def test_reads_that_fail(how: str) -> None:
    """The header, or a beat or the length of the fourth job's burst: the jobs before it are carried out."""
    items = [RESTART, *[job(head=head) for head in range(4)] * 3]
    for address, code_job, dispatches in ((BASE, 0, 0), (BASE + 64 + 128 * 3, 3, 2)):
        wrong = {"cut": address, "bad": address + 32}[how]
        failing: dict[str, Any] = {how: frozenset([wrong])}
        bench = play(items, **failing)
        assert bench.done is not None
        assert bench.done[1:] == (ErrorCode.BUS, code_job)
        assert len(bench.dispatches) == dispatches


@pytest.mark.parametrize("seed", range(3))
def test_jobs_across_a_page(seed: int) -> None:
    """The burst of job 1, and no other, is cut in two; the rest of the program is as ever."""
    items = random_program(np.random.default_rng(seed), 12, False)
    base = 4096 * 5 - 64 - 64 - 128
    bench = play(items, seed, base=base)
    assert bench.done is not None
    assert bench.done[1] == 0
    asked = [(address - base, beats) for _, address, beats in bench.memory.asked]
    jobs = [(64 + 128 * i, 4) for i in range(len(items) + 1)]
    assert asked == [(0, 2), jobs[0], (192, 2), (256, 2), *jobs[2:]]
    whole = play(items, seed)
    assert [job.as_value().value for _, job, _ in bench.dispatches] == [
        j.as_value().value for _, j, _ in whole.dispatches
    ]


def test_end_before_the_count() -> None:
    """The END counts; what was read ahead behind it is dropped, illegal or not."""
    bench = play([RESTART, job(), {"opcode": int(Opcode.END)}, job(), job(keys=0), job(), job(), job()])
    assert bench.done is not None
    assert bench.done[1:] == (0, 0)
    assert len(bench.dispatches) == 1
    assert bench.done[0] > bench.retired[-1]
    assert len(bench.memory.asked) < 9


def test_no_end() -> None:
    data = Program(jobs_of([RESTART, job()])).encode()[:-128] + jobs_of([job()]).tobytes()
    bench = play([], encoded=data)
    assert bench.done is not None
    assert bench.done[1:] == (ErrorCode.NO_END, 2)


def test_error_of_the_memory() -> None:
    items = [RESTART, *[job(head=head) for head in range(4)] * 5]
    bench = play(items, memory_error_at=150)
    assert bench.done is not None
    assert bench.done[1] == ErrorCode.MEMORY
    assert 1 + len(bench.dispatches) == bench.done[2] < len(items)
    assert all(t <= 150 for t, _, _ in bench.dispatches)


def test_programs_one_after_the_other() -> None:
    """Whatever ended the one before, the next runs as after a reset (it begins with a RESTART)."""
    good = random_program(np.random.default_rng(5), 12, False)
    before = [
        bench_of([RESTART, *[job(keys=0), job(), job(), job(), job()]]),
        bench_of([RESTART, pair()[0]]),
        bench_of([RESTART, job(flags=Flag.FIRST_TILE)]),
        bench_of([RESTART, {"opcode": int(Opcode.END)}, job(), job(), job()]),
        bench_of([RESTART], base=BASE + 32),
        bench_of([RESTART, *[job()] * 6], bad=frozenset([BASE])),
        bench_of([RESTART, *[job()] * 6], cut=frozenset([BASE + 64 + 128])),
        bench_of([RESTART, PRUNE_TOKENS, *[job(keys=4)] * 6], memory_error_at=90),
        bench_of(good),
    ]
    after = [bench_of(good, seed) for seed in range(len(before))]
    benches = [bench for two in zip(before, after, strict=True) for bench in two]
    benches[0].run(*benches[1:])
    codes = [bench.done[1] for bench in before if bench.done is not None]
    wanted = [ErrorCode.KEYS, ErrorCode.FUSED, 0, 0, ErrorCode.PROGRAM_ADDRESS, ErrorCode.BUS, ErrorCode.BUS]
    assert codes == [*wanted, ErrorCode.MEMORY, 0]
    for bench in after:
        rules = Rules(TINY, good, bench)
        rules.check()
        assert rules.error is None
