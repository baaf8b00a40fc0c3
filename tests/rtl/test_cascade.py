"""Operations on the state: what they leave behind, against plain Python, and how long each takes, to the cycle."""

from collections.abc import Callable, Coroutine
from typing import Any

import numpy as np
import pytest

pytest.importorskip("amaranth", reason="RTL: pip install 'accel-codesign[rtl]'")

from amaranth.back import verilog
from amaranth.hdl import Const, Value
from amaranth.sim import Simulator

from accel.arch import load_arch
from accel.numerics.topk import top_k
from accel.units.engine import EngineUnit
from accel.units.importance import ACCUMULATE_CYCLES, ImportanceUnit
from rtl.cascade import Operation
from rtl.state import State
from sim.topk.quickselect import select_cycles, select_row
from sim.topk_schedule import emit_gaps

MACHINES: dict[str, dict[str, int]] = {
    "tiny": {},
    "eight per word": {"topk.lanes": 8, "max_heads": 13},
    "one replica": {"softmax.lanes": 1, "topk.lanes": 2, "max_context": 19, "max_heads": 3},
    "four replicas": {"softmax.lanes": 4, "max_context": 40, "max_heads": 17},
}
SEED = 77  # of the pivot generator


def machine(name: str) -> EngineUnit:
    return EngineUnit(load_arch("tiny", MACHINES[name]))


class Model:
    """The state, and the answer and duration of every operation, by definition."""

    def __init__(self, sizes: ImportanceUnit) -> None:
        self.sizes, self.lfsr = sizes, SEED
        self.restart(0)

    def restart(self, live: int) -> int:
        self.tokens, self.heads = [0] * self.sizes.max_context, [0] * self.sizes.max_heads
        self.live_heads, self.listed = list(range(self.sizes.max_heads)), list(range(live))
        self.live, self.stored = live, False
        return self.sizes.restart_cycles

    def all_tokens(self, live: int) -> None:
        self.live, self.listed, self.stored = live, list(range(live)), False

    def halve(self) -> int:
        self.tokens = [score >> 1 for score in self.tokens]
        return self.sizes.halve_cycles(self.live)

    def _best(self, scores: list[int], k: int) -> tuple[list[int], int, int]:
        """Positions of the k best; cycles of the top-k's rounds, and of its output words."""
        values, lanes = np.array(scores, np.int64), self.sizes.topk_lanes
        kept, gaps = np.zeros(len(scores) + 1, np.int64), np.zeros(len(scores) + 1, np.int64)
        n_kept, found = select_row(values, k, lanes, self.lfsr, kept)
        self.lfsr = found.lfsr_state
        emit = int(gaps[: emit_gaps(kept, n_kept, lanes, gaps)].sum())
        rounds = select_cycles(found.rounds, found.round_words, self.sizes.topk().round_overhead_cycles)
        return top_k(values, k).positions.tolist(), rounds, emit

    def prune_tokens(self, keep: int, restart: bool) -> int:
        among = list(range(self.live)) if restart else self.listed
        kept, rounds, emit = self._best([self.tokens[token] for token in among[:-1]], keep - 1)
        self.listed, self.stored = [among[i] for i in kept] + among[-1:], True
        return self.sizes.prune_tokens_cycles(self.live, rounds, emit)

    def prune_heads(self, keep: int, restart: bool) -> int:
        among = list(range(self.sizes.max_heads)) if restart else self.live_heads
        kept, rounds, emit = self._best([self.heads[head] for head in among], keep)
        self.live_heads = [among[i] for i in kept]
        return self.sizes.prune_heads_cycles(rounds, emit)


class Bench:
    """Drives a State and a Model alike, and compares them after each operation."""

    def __init__(self, ctx: Any, dut: State, unit: EngineUnit) -> None:
        self.ctx, self.dut, self.unit = ctx, dut, unit
        self.model, self.prunes = Model(ImportanceUnit.of(unit.arch)), 0

    async def add_line(self, tokens: list[int], probabilities: list[int]) -> None:
        rest = [0] * (self.unit.arch.softmax.lanes - len(tokens))
        line = {"count": len(tokens), "accumulate": 1, "last": 1}
        values = {"tokens": tokens + rest, "probabilities": probabilities + rest}
        self.ctx.set(self.dut.line.payload, {**line, **values})
        self.ctx.set(self.dut.line.valid, 1)
        await self.ctx.tick()
        self.ctx.set(self.dut.line.valid, 0)
        for token, probability in zip(tokens, probabilities, strict=True):
            self.model.tokens[token] += probability

    async def add_head(self, head: int, magnitude: int) -> None:
        self.ctx.set(self.dut.head_magnitude.payload, {"head": head, "magnitude": magnitude})
        self.ctx.set(self.dut.head_magnitude.valid, 1)
        await self.ctx.tick()
        self.ctx.set(self.dut.head_magnitude.valid, 0)
        self.model.heads[head] += magnitude

    async def set_scores(self, tokens: list[int]) -> None:
        """Add to each token, all lanes of a line at a time."""
        lanes = self.unit.arch.softmax.lanes
        for first in range(0, len(tokens), lanes):
            part = tokens[first : first + lanes]
            await self.add_line(list(range(first, first + len(part))), part)

    async def all_tokens(self, live: int) -> None:
        self.ctx.set(self.dut.all_tokens, 1)
        await self.ctx.tick()
        self.ctx.set(self.dut.all_tokens, 0)
        self.model.all_tokens(live)

    async def operate(self, op: Any, live: int = 0, keep: int = 0, restart: bool = False) -> None:
        ctx, dut, model = self.ctx, self.dut, self.model
        for _ in range(ACCUMULATE_CYCLES - 1):
            await ctx.tick()
        before = (ctx.get(dut.version), ctx.get(dut.list_length))
        ctx.set(dut.op.payload, {"op": op, "live": live or model.live, "keep": keep, "restart": int(restart)})
        ctx.set(dut.op.valid, 1)
        assert ctx.get(dut.op.ready)
        await ctx.tick()
        ctx.set(dut.op.payload, {"op": Operation.RESTART, "live": 0, "keep": 0, "restart": 0})
        cycles = 1
        while not ctx.get(dut.done):
            assert not ctx.get(dut.op.ready)
            assert (ctx.get(dut.version), ctx.get(dut.list_length)) == before or op is not Operation.PRUNE_TOKENS
            await ctx.tick()
            cycles += 1
            assert cycles < 2000, f"{op} does not end"
        ctx.set(dut.op.valid, 0)
        if op is Operation.RESTART:
            right = model.restart(live)
        elif op is Operation.HALVE:
            right = model.halve()
        elif op is Operation.PRUNE_TOKENS:
            right = model.prune_tokens(keep, restart)
            assert ctx.get(dut.version) == 1 - before[0]
        else:
            right = model.prune_heads(keep, restart)
        assert cycles == right, f"{op}, live {model.live}, keep {keep}, restart {restart}"
        assert ctx.get(dut.live_heads) == sum(1 << head for head in model.live_heads)
        if model.stored:
            assert ctx.get(dut.list_length) == len(model.listed)
            await self.check_list()

    async def check_list(self) -> None:
        """As second pass and lanes read it, from the cycle of done on."""
        ctx, line, lanes = self.ctx, self.dut.token_read, self.dut.lane_read
        width, fetch_lanes = self.unit.arch.softmax.lanes, self.unit.arch.fetcher.lanes
        found, by_lane = [], []
        length = len(self.model.listed)
        ctx.set(line.enable, 1)
        ctx.set(line.version, ctx.get(self.dut.version))
        ctx.set(lanes.enable, 1)
        ctx.set(lanes.version, ctx.get(self.dut.version))
        for step in range(-(-length // min(width, fetch_lanes))):
            ctx.set(line.position, step * width % (1 << 16))
            rotate = step % fetch_lanes
            ctx.set(lanes.rotate, rotate)
            at = [step * fetch_lanes + (lane + rotate) % fetch_lanes for lane in range(fetch_lanes)]
            for lane in range(fetch_lanes):
                ctx.set(lanes.index[lane], min(at[lane], self.unit.arch.max_context - 1))
            await ctx.tick()
            found += [int(token) for token in ctx.get(line.tokens)]
            by_lane += [token for _, token in sorted((at[i], ctx.get(lanes.data[i])) for i in range(fetch_lanes))]
        ctx.set(line.enable, 0)
        ctx.set(lanes.enable, 0)
        assert found[:length] == self.model.listed
        assert by_lane[:length] == self.model.listed


def simulate(name: str, bench: Callable[[Bench], Coroutine[Any, Any, None]]) -> None:
    unit = machine(name)
    dut = State(unit, SEED)

    async def testbench(ctx: Any) -> None:
        await bench(Bench(ctx, dut, unit))

    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(testbench)
    simulator.run()


@pytest.mark.parametrize("name", MACHINES)
def test_random_operations(name: str) -> None:
    rng = np.random.default_rng(list(MACHINES).index(name))

    async def bench(b: Bench) -> None:
        sizes, model = b.model.sizes, b.model
        await b.operate(Operation.RESTART, live=int(rng.integers(1, sizes.max_context // 2)))
        for _ in range(20):
            # Few different values, so that there are ties; now and then a token far above the others.
            top = int(rng.choice([2, 9, 4096]))
            await b.set_scores([int(x) for x in rng.integers(0, top + 1, model.live)])
            for _ in range(int(rng.integers(0, 12))):
                await b.add_head(int(rng.integers(0, sizes.max_heads)), int(rng.integers(0, 5)))
            choice = rng.random()
            if choice < 0.07:
                await b.operate(Operation.RESTART, live=int(rng.integers(1, sizes.max_context + 1)))
            elif choice < 0.2:
                await b.all_tokens(int(rng.integers(model.live, sizes.max_context + 1)))
            elif choice < 0.35:
                await b.operate(Operation.HALVE)
            elif choice < 0.55:
                keep, restart = int(rng.integers(1, len(model.live_heads) + 2)), bool(rng.random() < 0.4)
                await b.operate(Operation.PRUNE_HEADS, keep=keep, restart=restart)
            else:
                keep, restart = int(rng.integers(1, len(model.listed) + 2)), bool(rng.random() < 0.3)
                await b.operate(Operation.PRUNE_TOKENS, keep=keep, restart=restart)

    simulate(name, bench)


@pytest.mark.parametrize("name", ["tiny", "one replica"])
def test_lists_of_every_length(name: str) -> None:
    """Shrinking by one, from all tokens to the newest alone, and once more: full words, rests, and none at all."""
    rng = np.random.default_rng(6)

    async def bench(b: Bench) -> None:
        await b.operate(Operation.RESTART, live=18)
        await b.set_scores([int(x) for x in rng.integers(0, 30, 18)])
        for keep in [*range(18, 0, -1), 1, 5]:
            await b.operate(Operation.PRUNE_TOKENS, keep=keep)

    simulate(name, bench)


def test_few_live_tokens_and_new_ones() -> None:
    """One live token: it is the newest, so there is no candidate. Tokens that come later start from 0."""

    async def bench(b: Bench) -> None:
        await b.operate(Operation.RESTART, live=1)
        await b.operate(Operation.PRUNE_TOKENS, keep=3)
        await b.operate(Operation.HALVE)
        await b.set_scores([7])
        await b.all_tokens(6)
        await b.set_scores([0, 1, 0, 0, 1])
        await b.operate(Operation.PRUNE_TOKENS, keep=4)
        assert b.model.listed == [0, 1, 4, 5]
        await b.operate(Operation.PRUNE_HEADS, keep=1)
        await b.operate(Operation.PRUNE_HEADS, keep=1)
        await b.operate(Operation.RESTART, live=64)
        await b.operate(Operation.PRUNE_TOKENS, keep=64, restart=True)
        await b.operate(Operation.PRUNE_TOKENS, keep=2)
        assert b.model.listed == [0, 63]

    simulate("tiny", bench)


def test_becomes_verilog() -> None:
    dut = State(machine("tiny"))
    values = {"__".join(map(str, path)): Value.cast(value) for path, _, value in dut.signature.flatten(dut)}
    ports = {name: (value, None) for name, value in values.items() if not isinstance(value, Const)}
    assert "module state" in verilog.convert(dut, name="state", ports=ports, emit_src=False)
