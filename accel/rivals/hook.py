"""A rival in the place of a network's attention: quality and DRAM bytes of its selection rule."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple, cast

import numpy as np

from accel.arch import Arch
from accel.lower.plan import Plan
from accel.network import EngineAttention
from accel.rivals.engine import DECODER, ENCODER
from accel.rivals.rows import BANDWIDTH, ENGINE, configured
from accel.session import report_of
from sim.rivals import rival_class
from sim.rivals.base import Rival, work_of
from workloads.kernels import SoftmaxAttention
from workloads.nets.attention import Attend
from workloads.nets.minilm import MiniLM
from workloads.nets.quality import compare_decoder, compare_encoder, windows
from workloads.nets.smollm2 import SmolLM2
from workloads.nets.store import locate
from workloads.nets.text import builtin_text

TEXTS = 2
CONTEXT, GENERATED = 128, 24
ENGINE_SWEEP: tuple[Mapping[str, float], ...] = (
    {"tokens": 1.0, "local_values": 1.0}, {"tokens": 0.9, "local_values": 0.8}, {"tokens": 0.8, "local_values": 0.6},
    {"tokens": 0.6, "local_values": 0.5},
)  # fmt: skip
Point = dict[str, Any]
Tell = Callable[[str, float], None]


class RivalAttention:
    """The hook (:class:`workloads.nets.attention.Attend`). ``dram_bytes`` grows by what each call moves.

    Of a decoder only the calls behind the prefill count. Thresholds that a machine learns are learned per layer and
    head from the first call that it gets for them, and kept.
    """

    def __init__(self, rival: Rival) -> None:
        self.rival = rival
        self.dram_bytes = 0
        self._learned: dict[tuple[int, int], float | None] = {}

    def __call__(
        self, layer: int, q: np.ndarray, k: np.ndarray, v: np.ndarray, *, causal: bool, q_start: int
    ) -> np.ndarray:
        """One layer's attention, K/V head by K/V head."""
        group, queries = len(q) // len(k), q.shape[1]
        prefix = q_start + 1 + np.arange(queries) if causal else np.full(queries, k.shape[1])
        out = np.empty_like(q)
        for head in range(len(k)):
            mine = slice(head * group, (head + 1) * group)
            rows = q[mine].reshape(group * queries, q.shape[2])
            work = work_of(rows, k[head], v[head], np.tile(prefix, group), layer=layer, head=head, decode=q_start > 0)
            if (layer, head) not in self._learned:
                self._learned[layer, head] = self.rival.learn(work.q, work.k, work.seen)
            done = self.rival.select_and_run(work.q, work.k, work.v, work.seen, self._learned[layer, head])
            out[mine] = done.output.reshape(group, queries, q.shape[2])
            if not causal or q_start > 0:
                atom = self.rival.config.spec.access_bytes
                self.dram_bytes += sum(len(stream.places) for stream in self.rival.cost(work, done).streams) * atom
        return out


class _EngineHook:
    """The engine's hook, which notes what the prefill moved when the first decode step comes."""

    def __init__(self, arch: Arch, attend: EngineAttention) -> None:
        self.arch, self.attend, self.prefill_bytes = arch, attend, 0
        self._noted = False

    def alive(self, layer: int) -> np.ndarray | None:
        return self.attend.alive(layer)

    def __call__(
        self, layer: int, q: np.ndarray, k: np.ndarray, v: np.ndarray, *, causal: bool, q_start: int
    ) -> np.ndarray:
        if causal and q_start > 0 and not self._noted:
            self.prefill_bytes, self._noted = self._bytes(), True
        return self.attend(layer, q, k, v, causal=causal, q_start=q_start)

    def _bytes(self) -> int:
        report = report_of(self.arch, self.attend.finish(), workload={"name": "curve"}, seed=1).report
        counted = report["counts"]
        return int(sum(counted["dram_read_bytes"].values()) + counted["dram_write_bytes"])

    @property
    def dram_bytes(self) -> int:
        return self._bytes() - self.prefill_bytes


class Measure(NamedTuple):
    """A network, how its quality is measured, and the shape the engine has to be set up for."""

    name: str
    unit: str
    quality: Callable[[Attend], float]
    kernel: SoftmaxAttention
    layers: int
    plan: Plan


def minilm_measure() -> Measure:
    """Mean cosine between embeddings with dense attention and with the hook, over a few paragraphs."""
    net = MiniLM(locate("minilm"))
    texts = builtin_text().splitlines()[:TEXTS]
    tokens = max(len(net.tokenize(text)) for text in texts)
    kernel = SoftmaxAttention(net.heads, net.heads, tokens, tokens, net.head_dim, mask="none")
    return Measure(
        "minilm", "mean embedding cosine", lambda hook: compare_encoder(net, texts, hook).mean_cosine, kernel,
        net.layers, ENCODER,
    )  # fmt: skip


def smollm2_measure() -> Measure:
    """Perplexity over that of dense attention, of tokens decoded one by one behind a prompt."""
    net = SmolLM2(locate("smollm2"))
    ids = next(windows(net, builtin_text(), CONTEXT, 1))
    prompt = len(ids) - GENERATED
    kernel = SoftmaxAttention(net.q_heads, net.kv_heads, prompt, len(ids), net.head_dim, "causal")

    def quality(hook: Attend) -> float:
        found = compare_decoder(net, [ids], hook, prompt)
        return found.perplexity / found.dense_perplexity

    return Measure("smollm2", "perplexity over dense", quality, kernel, net.layers, DECODER)


MEASURES: dict[str, Callable[[], Measure]] = {"minilm": minilm_measure, "smollm2": smollm2_measure}


def curve(name: str, network: Measure, arch: Arch, tell: Tell) -> dict[str, Any]:
    """Quality against DRAM bytes of one machine (memory of ``arch``) in one network, loosest setting first."""
    points: list[Point] = []
    sweep: Sequence[Mapping[str, float]] = ENGINE_SWEEP if name == ENGINE else rival_class(name).SWEEP
    for at, changes in enumerate(sweep):
        tell(f"{network.name} on {name}, point {at + 1} of {len(sweep)}", at / len(sweep))
        if name == ENGINE:
            plan = replace(network.plan, **cast("dict[str, Any]", changes))
            hook: Any = _EngineHook(arch, EngineAttention(arch, network.kernel, network.layers, plan))
        else:
            rival = rival_class(name)
            config = configured(rival, next(iter(rival.VARIANTS)), BANDWIDTH, arch)
            hook = RivalAttention(rival(replace(config, **cast("dict[str, Any]", changes))))
        quality = network.quality(hook)
        said = ", ".join(f"{key} {value:g}" for key, value in changes.items()) or "as it is"
        first = next(iter(changes.values()), None)
        points.append({
            "parameter": said, "value": None if first is None else float(first), "dram_bytes": hook.dram_bytes,
            "quality": quality, "quality_unit": network.unit,
        })  # fmt: skip
    return {"network": network.name, "machine": name, "points": points}
