"""Cost of pruning and narrow numbers on real networks: ``python -m tests.accel.network_quality`` (minutes).

SmolLM2 on the first 512 tokens of the Wikipedia page "Autism" (en.wikipedia.org, CC BY-SA 3.0), MiniLM on the
beginnings of twelve pages. Every figure is against dense float attention of the same network on the same text.
"""

import time
from typing import Any

import numpy as np

from accel.arch import load_arch
from accel.lower.plan import Plan
from accel.network import KeyScale, run_minilm, run_smollm2
from accel.program import Lsb
from workloads.nets import store, text
from workloads.nets.minilm import MiniLM
from workloads.nets.smollm2 import SmolLM2

TEST = {"lsb": Lsb.TEST, "threshold": 0.1}
EIGHT = {"key_msb_bits": 8, "key_lsb_bits": 4, "value_bits": 8, **TEST}
SIX = {"key_msb_bits": 6, "key_lsb_bits": 4, "value_bits": 8, **TEST}
FADE = {"halve_every": 1}
GENERATED = 128

PREFILL: list[tuple[str, dict[str, Any], KeyScale]] = [
    ("dense, 12 bit", {}, "head"),
    ("K 8+4, V 8", EIGHT, "head"),
    ("K 8+4, V 8", EIGHT, "channel"),
    ("K 6+4, V 8", SIX, "head"),
    ("K 6+4, V 8", SIX, "channel"),
    ("half of V", {"local_values": 0.5}, "head"),
    ("0.3 of V", {"local_values": 0.3}, "head"),
]
DECODE: list[tuple[str, dict[str, Any], KeyScale]] = [
    ("dense, 12 bit", {}, "head"),
    ("K 8+4, V 8", EIGHT, "channel"),
    ("K 6+4, V 8", SIX, "channel"),
    ("half of V", {"local_values": 0.5}, "head"),
    ("0.3 of V", {"local_values": 0.3}, "head"),
    ("half of the tokens, never halved", {"tokens": 0.5}, "head"),
    ("half of the tokens, halved every 4", {"tokens": 0.5, "halve_every": 4}, "head"),
    ("half of the tokens, halved every 1", {"tokens": 0.5, **FADE}, "head"),
    ("0.7 of the tokens, halved every 1", {"tokens": 0.7, **FADE}, "head"),
    ("K 8+4, V 8, half of V, 0.7 tokens", {**EIGHT, "local_values": 0.5, "tokens": 0.7, **FADE}, "channel"),
    ("K 6+4, V 8, half of V, half tokens", {**SIX, "local_values": 0.5, "tokens": 0.5, **FADE}, "channel"),
]
ENCODER: list[tuple[str, dict[str, Any]]] = [
    ("dense, 12 bit", {}),
    ("K 8+4, V 8", EIGHT),
    ("K 6+4, V 8", SIX),
    ("half of V", {"local_values": 0.5}),
    ("0.7 of the tokens", {"tokens": 0.7}),
    ("half of the tokens", {"tokens": 0.5}),
    ("0.8 of the heads", {"heads": 0.8}),
]


def main() -> None:
    arch = load_arch("spatten")
    decoder, encoder = SmolLM2(store.locate("smollm2")), MiniLM(store.locate("minilm"))
    page = text.wikipedia_page("Autism")
    for generate, cases in ((0, PREFILL), (GENERATED, DECODE)):
        print(f"\nSmolLM2, 512 tokens, {f'the last {generate} decoded' if generate else 'prefill'}")
        for name, plan, key_scale in cases:
            start = time.time()
            q, attend = run_smollm2(arch, decoder, page, Plan(**plan), generate=generate, key_scale=key_scale)
            rows = (generate - 1) * decoder.layers * decoder.q_heads if generate else 0
            second = np.concatenate(attend.finish().lsb)[-rows:].mean()
            print(
                f"{name:36s} K scale per {key_scale:8s} "
                f"perplexity {q['perplexity']:.3f} / {q['dense_perplexity']:.3f} = "
                f"{q['perplexity_ratio']:.4f}  same top {q['top1_agreement']:.3f}  dlogit {q['mean_abs_dlogit']:.3f}  "
                f"second passes {second:.3f}  {time.time() - start:.1f} s",
                flush=True,
            )
    print("\nMiniLM, 12 texts")
    texts = [text.wikipedia_page(i)[:1200] for i in range(12)]
    for name, plan in ENCODER:
        found, _ = run_minilm(arch, encoder, texts, Plan(**plan))
        print(f"{name:36s} cosine {found['mean_embedding_cosine']:.5f}, least {found['least_embedding_cosine']:.5f}")


if __name__ == "__main__":
    main()
