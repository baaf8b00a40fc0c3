"""The tensors on which all machines are compared: seeded ones, and those of published networks on real text."""

import difflib
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from accel.errors import UserError
from sim.rivals.base import Work, work_of
from workloads.nets.attention import record
from workloads.nets.minilm import MiniLM
from workloads.nets.quality import windows
from workloads.nets.smollm2 import SmolLM2
from workloads.nets.store import locate
from workloads.nets.text import builtin_text

Layer = tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]

SEEDED = {"seeded-320": (320, 64), "seeded-512": (512, 64)}
"""Name -> tokens and head dimension: the length of A3's evaluation, and that of ELSA's."""
SEEDED_LAYERS, SEEDED_HEADS = 4, 2
SMOLLM2_LAYERS = 6
SMOLLM2_CONTEXT, SMOLLM2_STEPS = 256, 4
NETWORKS = ("minilm", "smollm2")
NAMES = (*SEEDED, *NETWORKS)


@dataclass(frozen=True)
class Workload:
    """Attention of a few layers. ``layers``: q (query heads, tokens, d), k, v (K/V heads, tokens, d) of each.

    An encoder has ``prompt`` 0: every token is a query and sees all. A decoder decodes the tokens from ``prompt`` on,
    one step each, behind a prefill that is not counted.
    """

    name: str
    layers: tuple[Layer, ...]
    prompt: int = 0
    about: str = ""

    @property
    def tokens(self) -> int:
        return int(self.layers[0][0].shape[1])

    @property
    def head_dim(self) -> int:
        return int(self.layers[0][0].shape[2])

    def works(self) -> list[Work]:
        """The same as one item per K/V head, layer and step, in the order in which a machine does them."""
        found = []
        if not self.prompt:
            for layer, (q, k, v) in enumerate(self.layers):
                found += [work_of(q[h], k[h], v[h], layer=layer, head=h) for h in range(len(q))]
            return found
        for step in range(self.prompt, self.tokens):
            for layer, (q, k, v) in enumerate(self.layers):
                group = len(q) // len(k)
                for h in range(len(k)):
                    rows = q[h * group : (h + 1) * group, step]
                    found.append(work_of(rows, k[h, : step + 1], v[h, : step + 1], layer=layer, head=h, decode=True))
        return found


def seeded(name: str, seed: int) -> Workload:
    """Tensors that look like BERT's: a query resembles a few keys, salient tokens draw many queries in every layer.

    Keys, values and noise are standard normal. A query is 0.5 of noise plus three keys, drawn in proportion to the
    tokens' salience (log-normal, the same in all layers), weighted by 0.3 to 1.1 of the head's sharpness (0.6 to 1.2).
    """
    tokens, dim = SEEDED[name]
    rng = np.random.default_rng([seed, tokens, dim])
    salience = rng.lognormal(0.0, 1.0, tokens)
    layers = []
    for _ in range(SEEDED_LAYERS):
        shape = (SEEDED_HEADS, tokens, dim)
        k, v, q = rng.standard_normal(shape), rng.standard_normal(shape), 0.5 * rng.standard_normal(shape)
        for head in range(SEEDED_HEADS):
            sharpness = rng.uniform(0.6, 1.2)
            picks = rng.choice(tokens, (tokens, 3), p=salience / salience.sum())
            weights = sharpness * rng.uniform(0.3, 1.1, (tokens, 3, 1))
            q[head] += (weights * k[head][picks]).sum(axis=1)
        layers.append((q.astype(np.float32), k.astype(np.float32), v.astype(np.float32)))
    return Workload(name, tuple(layers), about=f"seeded tensors, {SEEDED_LAYERS} layers x {SEEDED_HEADS} heads")


def minilm() -> Workload:
    """All layers and heads of MiniLM on the first paragraph of the built-in text."""
    net = MiniLM(locate("minilm"))
    text = builtin_text().splitlines()[0]
    calls = record(net, net.tokenize(text))
    return Workload("minilm", tuple((c.q, c.k, c.v) for c in calls), about="all heads, first paragraph of Darwin 1859")


def smollm2() -> Workload:
    """The last tokens of the built-in text's beginning in SmolLM2, some of its layers, decoded one by one."""
    net = SmolLM2(locate("smollm2"))
    ids = next(windows(net, builtin_text(), SMOLLM2_CONTEXT, 1))
    calls = record(net, ids)
    places = np.linspace(0, net.layers - 1, SMOLLM2_LAYERS).round().astype(int).tolist()
    layers = tuple((calls[at].q, calls[at].k, calls[at].v) for at in places)
    said = f"layers {', '.join(map(str, places))}; the last {SMOLLM2_STEPS} of {len(ids)} tokens, decoded"
    return Workload("smollm2", layers, len(ids) - SMOLLM2_STEPS, said)


def check_workloads(names: Iterable[str]) -> None:
    """Refuse an unknown workload.

    Raises:
        UserError: with the names there are.
    """
    for name in names:
        if name not in NAMES:
            near = difflib.get_close_matches(name, NAMES, 1, 0.5)
            hint = f"did you mean {near[0]}? " if near else ""
            raise UserError(f"workload {name}: {hint}must be one of {', '.join(NAMES)}")


def workload(name: str, seed: int) -> Workload:
    """A workload by name.

    Raises:
        UserError: no such workload, or a network whose weights are not in the local cache (nothing is downloaded).
    """
    check_workloads([name])
    if name in SEEDED:
        return seeded(name, seed)
    return minilm() if name == "minilm" else smollm2()
