"""A published network with the simulated machine's attention in the place of its own: quality, and the work done.

*Words.* Q is quantised anew in every call, K and V when they arrive; each K/V head has one scale of each, and the
query heads of a group share theirs, since a job has one score scale. A prefill takes the scales from all of its keys;
tokens that are generated later keep those scales, widened by ``HEADROOM``, and saturate beyond. With ``key_scale``
channel, K has a scale per head and channel, and that of a channel is multiplied into Q before Q is quantised.

Where heads are pruned, all V heads of a layer share one scale: head importance compares their output words.

*Token pruning.* An encoder loses tokens from layer to layer. A decoder keeps its whole prompt and prunes in the
decode steps.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from accel.arch import Arch
from accel.errors import UserError
from accel.lower.attention import Lowering
from accel.lower.plan import Plan
from accel.numerics.quantise import quantise, word_scale, words
from accel.numerics.softmax import score_scale
from accel.program import Jobs, jobs_of
from accel.units.softmax import OUTPUT_FRACTION_BITS
from sim.values import Executor, JobTensors, Recorded
from workloads.kernels import SoftmaxAttention
from workloads.nets.minilm import MiniLM
from workloads.nets.quality import compare_decoder, compare_encoder, windows
from workloads.nets.smollm2 import SmolLM2

Progress = Callable[[str, float], None]
KeyScale = Literal["head", "channel"]
HEADROOM = 1.25  # generated keys and values may be this much larger than the prompt's largest before they saturate


@dataclass
class _Store:
    """One layer's K and V as the machine's memory has them; int16 (kv_heads, tokens, dim) words by token number."""

    k_msb: NDArray[np.int16]
    k_full: NDArray[np.int16]
    v: NDArray[np.int16]
    k_scale: NDArray[np.float64]  # (kv_heads, 1, 1 or dim), of the stored integers
    v_scale: NDArray[np.float64]  # (kv_heads, 1, 1)


class EngineAttention:
    """The machine behind a network's attention hook (:class:`workloads.nets.attention.Attend`).

    Args:
        kernel: largest shape that will be asked for: all tokens a sequence will ever have, and the longest prefill.
        layers: of the network.
        key_scale: one scale per K head, or one per channel of it.
        headroom: how much larger than the prompt's a generated key or value may be before it saturates.
        progress: called with a text and the share of ``calls`` done, where ``calls`` hook calls are expected.

    Raises:
        UserError: what the machine cannot do (:class:`~accel.lower.attention.Lowering`).
    """

    def __init__(
        self,
        arch: Arch,
        kernel: SoftmaxAttention,
        layers: int,
        plan: Plan,
        *,
        key_scale: KeyScale = "head",
        seed: int = 1,
        headroom: float = HEADROOM,
        progress: Progress | None = None,
        calls: int = 0,
    ) -> None:
        if key_scale not in ("head", "channel"):
            raise UserError(f"key_scale = {key_scale!r}: must be head or channel")
        self.plan, self.layers, self.key_scale, self.headroom = plan, layers, key_scale, headroom
        self.lowering = Lowering(arch, plan, kernel, layers)
        self.executor = Executor(arch, seed)
        self._stores: list[_Store] = []
        self._tokens = 0
        self._prompt = 0
        self._step = 0
        self._rows_before = 0
        self._progress, self._calls, self._done = progress, calls, 0

    def finish(self) -> Recorded:
        """What the timing run needs, of everything that was asked so far."""
        return self.executor.recorded

    # ---- the hook -------------------------------------------------------------------------------------------------
    def alive(self, layer: int) -> NDArray[np.int64] | None:
        """Tokens that enter ``layer`` of an encoder; the selection is made here, before the layer runs."""
        if self.lowering.kernel.mask == "causal" or layer == 0:
            return None
        self._run(jobs_of(self.lowering.prunes(layer, self._tokens)))
        return self.executor.keep.astype(np.int64)

    def __call__(
        self, layer: int, q: np.ndarray, k: np.ndarray, v: np.ndarray, *, causal: bool, q_start: int
    ) -> np.ndarray:
        """One layer's attention; shapes and meaning as in :class:`~workloads.nets.attention.Attend`."""
        self._check(q, k, causal)
        if layer == 0:
            self._begin(k.shape[1], restart=q_start == 0)
        run = self._decode_step if causal and q_start > 0 else self._prefill
        out = run(layer, q, k, v)
        self._done += 1
        if self._progress is not None:
            self._progress("attention", min(1.0, self._done / max(self._done, self._calls)))
        return out

    def _check(self, q: np.ndarray, k: np.ndarray, causal: bool) -> None:
        kernel = self.lowering.kernel
        wanted = (kernel.query_heads, kernel.kv_heads, kernel.head_dim, kernel.mask == "causal")
        if (q.shape[0], k.shape[0], q.shape[2], causal) != wanted:
            raise UserError(
                f"attention of {q.shape[0]} query and {k.shape[0]} K/V heads of {q.shape[2]}, causal {causal}; "
                f"the machine was set up for {wanted[0]}, {wanted[1]}, {wanted[2]}, {wanted[3]}"
            )
        if k.shape[1] > kernel.keys:
            raise UserError(f"attention over {k.shape[1]} keys; the machine was set up for {kernel.keys}")

    def _begin(self, tokens: int, *, restart: bool) -> None:
        self._tokens = tokens
        self._run(jobs_of(self.lowering.tokens(tokens, restart=restart)))
        if restart:
            self._stores, self._prompt, self._step = [], tokens, 0
        else:
            self._step += 1

    def _run(self, jobs: Jobs, tensors: Sequence[JobTensors] = ()) -> list[NDArray[np.int64]]:
        return self.executor.run(jobs, tensors=tensors)

    def _prefill(self, layer: int, q: np.ndarray, k: np.ndarray, v: np.ndarray) -> np.ndarray:
        if layer == 0 and self.lowering.kernel.mask == "none":
            self.lowering.check_prefill(self._tokens)
        if len(self._stores) != layer:
            raise UserError(f"attention of layer {layer} after layer {len(self._stores) - 1}: layers come in order")
        count = k.shape[1]
        listed = count < self._tokens
        places = self.executor.keep if listed else np.arange(self._tokens)
        if len(places) != count:
            raise UserError(f"attention of layer {layer} over {count} tokens; {len(places)} are alive on the machine")
        store = self._stored(k, v, places)
        self._stores.append(store)
        return self._attend(layer, q, store, queries=q.shape[1], keys=count, query_start=0, listed=listed)

    def _decode_step(self, layer: int, q: np.ndarray, k: np.ndarray, v: np.ndarray) -> np.ndarray:
        store = self._stores[layer]
        new = q.shape[1]
        at = slice(self._tokens - new, self._tokens)
        store.k_msb[:, at], store.k_full[:, at] = self._key_words(k[:, -new:], store.k_scale)
        store.v[:, at] = _saturated(v[:, -new:], store.v_scale, self.plan.value_bits)
        keep = self._tokens
        if new == 1:
            self._run(jobs_of(self.lowering.prunes(layer, self._tokens, decode=True)))
            keep = self.plan.tokens_kept(layer, self.layers, self._tokens)
        return self._attend(layer, q, store, queries=new, keys=keep, query_start=keep - new, listed=keep < self._tokens)

    # ---- numbers --------------------------------------------------------------------------------------------------
    def _stored(self, k: np.ndarray, v: np.ndarray, places: NDArray) -> _Store:
        """Quantise a prefill's keys and values and lay them out by token number."""
        kernel, plan = self.lowering.kernel, self.plan
        room = self.headroom if kernel.keys > self._tokens else 1.0
        k_scale = quantise(k, plan.key_bits, self.key_scale).scale * room
        v_scale = quantise(v, plan.value_bits, "head").scale * room
        if plan.prunes_heads:
            # Head importance adds up output words, so the heads of a layer need one unit.
            v_scale = np.full_like(v_scale, v_scale.max())
        rows = kernel.keys if kernel.mask == "causal" else self._tokens
        blank = np.zeros((kernel.kv_heads, rows, kernel.head_dim), np.int16)
        store = _Store(blank, blank.copy(), blank.copy(), k_scale, v_scale)
        store.k_msb[:, places], store.k_full[:, places] = self._key_words(k, k_scale)
        store.v[:, places] = _saturated(v, v_scale, plan.value_bits)
        return store

    def _key_words(self, k: np.ndarray, scale: NDArray[np.float64]) -> tuple[NDArray[np.int16], NDArray[np.int16]]:
        integers = _integers(k, scale, self.plan.key_bits)
        full = words(integers, self.plan.key_bits)
        if not self.plan.key_lsb_bits:
            return full, full
        return words(integers, self.plan.key_bits, self.plan.key_lsb_bits, msb_only=True), full

    def _attend(
        self, layer: int, q: np.ndarray, store: _Store, *, queries: int, keys: int, query_start: int, listed: bool
    ) -> np.ndarray:
        kernel, plan = self.lowering.kernel, self.plan
        # Rows of a K/V head: its query heads next to each other, query by query.
        by_query = q.reshape(kernel.kv_heads, kernel.group, queries, kernel.head_dim).transpose(0, 2, 1, 3)
        rows: NDArray[np.float64] = by_query.reshape(kernel.kv_heads, queries * kernel.group, kernel.head_dim).astype(
            np.float64
        )
        k_word_scale = word_scale(store.k_scale, plan.key_bits)
        if self.key_scale == "channel":
            rows = rows * k_word_scale
        quantised = quantise(rows, plan.query_bits, "head")
        q_words = words(quantised.values, plan.query_bits)
        q_scale = word_scale(quantised.scale, plan.query_bits)[:, 0, 0]
        k_unit = np.ones(kernel.kv_heads) if self.key_scale == "channel" else k_word_scale[:, 0, 0]
        scales = [score_scale(float(a), float(b), kernel.head_dim) for a, b in zip(q_scale, k_unit, strict=True)]
        jobs = self.lowering.attend(
            layer,
            queries,
            keys,
            query_start,
            listed=listed,
            iteration=self._step,
            scales=scales,
            halve=layer == 0 and self._step > 0 and plan.halves(self._step - 1),
        )
        first_row = ((jobs["q_address"] - _first_address(jobs)) // jobs["q_stride"]).astype(np.int64)
        tensors = []
        for job, row in zip(jobs, first_row.tolist(), strict=True):
            head = int(job["head"])
            count = int(job["queries"]) * kernel.group
            tensors.append(
                JobTensors(q_words[head, row : row + count], store.k_msb[head], store.k_full[head], store.v[head])
            )
        outputs = self._run(jobs, tensors)
        whole = np.zeros((kernel.kv_heads, queries * kernel.group, kernel.head_dim))
        for job, row, out in zip(jobs, first_row.tolist(), outputs, strict=True):
            if len(out):
                whole[int(job["head"]), row : row + len(out)] = out
        whole *= word_scale(store.v_scale, plan.value_bits) * 2.0**-OUTPUT_FRACTION_BITS
        by_head = whole.reshape(kernel.kv_heads, queries, kernel.group, kernel.head_dim).transpose(0, 2, 1, 3)
        return by_head.reshape(q.shape).astype(np.float32)


def _first_address(jobs: Jobs) -> NDArray[np.uint64]:
    """Address of the head's first query row, for each job: tiles of one head start at different rows."""
    first = np.zeros(len(jobs), np.uint64)
    for head in np.unique(jobs["head"]):
        at = jobs["head"] == head
        first[at] = jobs["q_address"][at].min()
    return first


def _integers(x: np.ndarray, scale: NDArray[np.float64], bits: int) -> NDArray[np.int16]:
    """Stored integers of a tensor with a scale that was fixed before: rounded, saturated."""
    top = (1 << (bits - 1)) - 1
    return np.clip(np.rint(np.asarray(x, np.float64) / scale), -top, top).astype(np.int16)


def _saturated(x: np.ndarray, scale: NDArray[np.float64], bits: int) -> NDArray[np.int16]:
    return words(_integers(x, scale, bits), bits)


# ---- networks -----------------------------------------------------------------------------------------------------
def run_minilm(
    arch: Arch,
    net: MiniLM,
    texts: Sequence[str],
    plan: Plan,
    *,
    key_scale: KeyScale = "head",
    seed: int = 1,
    progress: Progress | None = None,
) -> tuple[dict[str, Any], EngineAttention]:
    """Embed texts with the machine's attention.

    Returns:
        Quality against dense float attention, and the attention with its record.

    Raises:
        UserError: no text, or what the machine cannot do.
    """
    if not texts:
        raise UserError("minilm: give at least one text")
    tokens = max(len(net.tokenize(text)) for text in texts)
    kernel = SoftmaxAttention(net.heads, net.heads, tokens, tokens, net.head_dim, mask="none")
    attend = EngineAttention(
        arch, kernel, net.layers, plan, key_scale=key_scale, seed=seed, progress=progress, calls=len(texts) * net.layers
    )
    found = compare_encoder(net, texts, attend)
    quality = {
        "network": "minilm",
        "texts": found.texts,
        "most_tokens": tokens,
        "mean_embedding_cosine": found.mean_cosine,
        "least_embedding_cosine": found.least_cosine,
    }
    return quality, attend


def run_smollm2(
    arch: Arch,
    net: SmolLM2,
    text: str,
    plan: Plan,
    *,
    context: int = 512,
    generate: int = 0,
    key_scale: KeyScale = "head",
    seed: int = 1,
    progress: Progress | None = None,
) -> tuple[dict[str, Any], EngineAttention]:
    """Predict the first ``context`` tokens of a text with the machine's attention.

    With ``generate`` 0 in one prefill; else the last ``generate`` tokens are decoded one by one (teacher-forced)
    behind a prefill of the rest, and only they count.

    Returns:
        Quality against dense float attention over the same tokens, and the attention with its record.

    Raises:
        UserError: a context that the network or the text does not have, or what the machine cannot do.
    """
    ids = next(windows(net, text, context, 1), [])
    if len(ids) < 2 or not 0 <= generate < len(ids):
        raise UserError(
            f"smollm2: {len(ids)} tokens of text for generate = {generate}; give more text or generate less"
        )
    prompt = len(ids) - generate
    kernel = SoftmaxAttention(net.q_heads, net.kv_heads, prompt, len(ids), net.head_dim, "causal")
    calls = net.layers * max(1, generate)  # the last token is predicted, not fed
    attend = EngineAttention(
        arch, kernel, net.layers, plan, key_scale=key_scale, seed=seed, progress=progress, calls=calls
    )
    found = compare_decoder(net, [ids], attend, prompt if generate else None)
    quality = {
        "network": "smollm2",
        "context": len(ids),
        "generated": generate,
        "predicted_tokens": found.tokens,
        "dense_perplexity": found.dense_perplexity,
        "perplexity": found.perplexity,
        "perplexity_ratio": found.perplexity / found.dense_perplexity,
        "mean_abs_dlogit": found.mean_abs_dlogit,
        "top1_agreement": found.top1_agreement,
    }
    return quality, attend
