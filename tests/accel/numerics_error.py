"""Largest errors of the fixed-point softmax and of attention, measured: ``python -m tests.accel.numerics_error``.

The reference is float64. Real rows need the networks' weights (docs/networks.md) and are left out without them.
"""

from collections.abc import Iterator

import numpy as np

from accel.arch import load_arch
from accel.errors import UserError
from accel.lower.plan import Plan
from accel.network import EngineAttention
from accel.numerics.quantise import quantise
from accel.numerics.softmax import exponent_table, scale_scores, score_scale, softmax_row
from accel.units.softmax import PROBABILITY_BITS, SCORE_FRACTION_BITS, SEGMENTS, TABLE_BITS, WEIGHT_BITS
from workloads.kernels import SoftmaxAttention
from workloads.nets import store, text
from workloads.nets.attention import AttentionCall, dense_attend, record
from workloads.nets.minilm import MiniLM
from workloads.nets.smollm2 import SmolLM2

LANES = 8


def softmax64(log2_scores: np.ndarray) -> np.ndarray:
    """Base-2 softmax in float64 over the last axis."""
    powers = np.exp2(log2_scores - log2_scores.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def table_error() -> float:
    """Largest distance of the piecewise 2^-f from the curve."""
    start, slope = exponent_table()
    f = np.linspace(0, 1, SEGMENTS * 1000, endpoint=False)
    segment = (f * SEGMENTS).astype(int)
    line = start[segment] - slope[segment] * (f * SEGMENTS - segment)
    return float(np.abs(line / (1 << TABLE_BITS) - np.exp2(-f)).max())


def random_rows(seed: int = 1, rows: int = 400) -> Iterator[np.ndarray]:
    """Integer scores of many spreads, lengths and offsets."""
    rng = np.random.default_rng(seed)
    for _ in range(rows):
        spread, offset = 2.0 ** rng.uniform(-4, 6), rng.uniform(-200, 200)
        real = rng.normal(offset, spread, rng.integers(1, 1025))
        yield np.clip(np.rint(real * (1 << SCORE_FRACTION_BITS)), -(1 << 21), (1 << 21) - 1).astype(np.int64)


def recorded_rows(call: AttentionCall, every: int = 37) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Log2 scores of real rows: the datapath's integers, and float64 from the unquantised tensors."""
    group = call.q.shape[0] // call.k.shape[0]
    for head in range(call.q.shape[0]):
        q, k = quantise(call.q[head], 12), quantise(call.k[head // group], 12)
        scale = score_scale(float(q.scale.item()), float(k.scale.item()), call.q.shape[2])
        for row in range(head % every, call.q.shape[1], every):
            seen = call.q_start + row + 1 if call.causal else call.k.shape[1]
            raw = k.values[:seen].astype(np.int64) @ q.values[row].astype(np.int64)
            exact = call.k[head // group, :seen].astype(np.float64) @ call.q[head, row].astype(np.float64)
            yield scale_scores(raw, *scale), exact * np.log2(np.e) / np.sqrt(call.q.shape[2])


def row_errors(scores: np.ndarray) -> tuple[float, float]:
    """Largest error of a probability, and of a weight over the sum of weights, against float64 of the same scores."""
    row = softmax_row(scores, LANES)
    wanted = softmax64(scores / (1 << SCORE_FRACTION_BITS))
    found = row.probabilities / (1 << PROBABILITY_BITS)
    # V is weighted with the 12-bit weights times the reciprocal of the 16-bit exponents' sum.
    exponents = np.exp2(scores / (1 << SCORE_FRACTION_BITS) - row.state.maximum).sum()
    weighted = row.weights / (1 << WEIGHT_BITS) / exponents
    return float(np.abs(found - wanted).max()), float(np.abs(weighted - wanted).max())


def calls(name: str, tokens: int = 512) -> list[AttentionCall]:
    """Every layer's attention of a real network on a real text. Raises UserError without its weights."""
    if name == "minilm":
        net = MiniLM(store.locate("minilm"))
        return record(net, net.tokenize(text.builtin_text(), min(tokens, 256)))
    decoder = SmolLM2(store.locate("smollm2"))
    return record(decoder, [decoder.document_start, *decoder.tokenize(text.wikipedia_page("Autism"))[: tokens - 1]])


def output_error(layer_calls: list[AttentionCall]) -> tuple[float, float]:
    """12-bit dense attention on the machine against float: largest and mean error over the layer's largest V."""
    worst, mean = 0.0, []
    arch = load_arch("spatten")
    for call in layer_calls:
        heads, n, dim = call.q.shape
        kernel = SoftmaxAttention(heads, call.k.shape[0], n, n, dim, "causal" if call.causal else "none")
        engine = EngineAttention(arch, kernel, 1, Plan())
        found = engine(0, call.q, call.k, call.v, causal=call.causal, q_start=0)
        wanted = dense_attend(0, call.q, call.k, call.v, causal=call.causal, q_start=0)
        error = np.abs(found - wanted) / np.abs(call.v).max()
        worst = max(worst, float(error.max()))
        mean.append(float(error.mean()))
    return worst, float(np.mean(mean))


def main() -> None:
    print(f"2^-f, {SEGMENTS} pieces: {table_error():.2e} = 2^{np.log2(table_error()):.1f}")
    errors = np.array([row_errors(row) for row in random_rows(rows=3000)])
    print(f"random rows: probability {errors[:, 0].max():.2e} = 2^{np.log2(errors[:, 0].max()):.1f}, ", end="")
    print(f"weight {errors[:, 1].max():.2e} = 2^{np.log2(errors[:, 1].max()):.1f}")
    for name in ("minilm", "smollm2"):
        try:
            layers = calls(name)
        except UserError as missing:
            print(f"{name}: left out ({missing})")
            continue
        same, real = 0.0, 0.0
        count = 0
        for call in layers:
            for scores, exact in recorded_rows(call):
                count += 1
                same = max(same, row_errors(scores)[0])
                found = softmax_row(scores, LANES).probabilities / (1 << PROBABILITY_BITS)
                real = max(real, float(np.abs(found - softmax64(exact)).max()))
        print(f"{name}: {count} rows: probability from the same integers {same:.2e} = 2^{np.log2(same):.1f}, ", end="")
        print(f"from the unquantised tensors {real:.2e} = 2^{np.log2(real):.1f}")
        worst, mean = output_error(layers)
        print(f"{name}: output against float, of the largest V: largest {worst:.2e}, mean {mean:.2e}")


if __name__ == "__main__":
    main()
