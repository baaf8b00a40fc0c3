"""Fit the distribution of drawn scores to recorded rows: `python -m workloads.fit_draw [--write]`.

Runs SmolLM2 and MiniLM over Wikipedia pages (`accel models get smollm2`, `minilm`, `wikipedia`; the `nets` extra),
reads the parameters off the scores of some pages, and prints what recorded rows of OTHER pages do to the machine next
to what drawn rows do. `--write` replaces score_distribution.yaml. The simulator needs none of this at run time.
"""

import argparse
import math
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from accel.errors import UserError
from workloads.draw import DrawnScores
from workloads.nets import quality, store, text
from workloads.nets.attention import AttentionCall, record
from workloads.nets.minilm import MiniLM
from workloads.nets.smollm2 import SmolLM2
from workloads.score_parameters import DISTRIBUTION_PATH, parameters_of
from workloads.score_statistics import ScoreSample, draw_sample, effects, fit_runs, moments

PAGES = 4  # to fit; as many again to check
SEEDS = 8  # drawn networks that are averaged
QUERIES = 32  # consecutive decode steps, as in the published traces; spread evenly over an encoder's tokens
CONTEXTS = (1024, 256)  # tokens; the first one is fitted, all are checked
ENCODER_TOKENS = 256

_HEADER = """\
# Written by `python -m workloads.fit_draw --write`; do not edit by hand. docs/drawn-scores.md explains every name.
# parameters: moments of the recorded scores of the fitted pages.
# recorded, drawn: the same figures of recorded rows of the checked pages, and of rows drawn with the parameters
# (seeds 1 .. 8), means over pages or seeds.
"""

Figures = dict[str, float]


def sample_of(calls: list[AttentionCall], places: np.ndarray, length: int) -> ScoreSample:
    """Scores in log2 units of the queries at ``places`` (ascending) for the first ``length`` tokens."""
    layers = []
    for call in calls:
        heads, _, dim = call.q.shape
        keys = np.repeat(call.k[:, :length], heads // len(call.k), axis=0)
        layer = call.q[:, places] @ keys.transpose(0, 2, 1) * np.float32(math.log2(math.e) / math.sqrt(dim))
        if call.causal:
            layer[:, np.arange(length) > places[:, None]] = -np.inf
        layers.append(layer)
    return ScoreSample(np.array(layers), places)


def decoder_samples(pages: int) -> tuple[list[str], dict[int, list[ScoreSample]]]:
    """SmolLM2: the last `QUERIES` steps of every context, of the first ``pages`` pages that are long enough.

    A causal prefill computes the very scores that decoding does. Raises UserError when weights or pages are missing.
    """
    net = SmolLM2(store.locate("smollm2"))

    def sample(title: str) -> list[tuple[int, ScoreSample]] | None:
        window = next(quality.windows(net, text.wikipedia_page(title), max(CONTEXTS), 1), [])
        if len(window) < max(CONTEXTS):
            return None
        calls = record(net, window)
        return [(context, sample_of(calls, np.arange(context - QUERIES, context), context)) for context in CONTEXTS]

    return _collect(sample, pages)


def encoder_samples(pages: int) -> tuple[list[str], dict[int, list[ScoreSample]]]:
    """MiniLM: `QUERIES` queries spread over the tokens of the same pages. Raises UserError as above."""
    net = MiniLM(store.locate("minilm"))
    places = np.arange(QUERIES) * (ENCODER_TOKENS - 1) // (QUERIES - 1)

    def sample(title: str) -> list[tuple[int, ScoreSample]] | None:
        ids = net.tokenize(text.wikipedia_page(title), ENCODER_TOKENS)
        return [(len(ids), sample_of(record(net, ids), places, len(ids)))] if len(ids) == ENCODER_TOKENS else None

    return _collect(sample, pages)


def _collect(
    sample: Callable[[str], list[tuple[int, ScoreSample]] | None], pages: int
) -> tuple[list[str], dict[int, list[ScoreSample]]]:
    used: list[str] = []
    found: dict[int, list[ScoreSample]] = {}
    for title in text.wikipedia_titles():
        if len(used) == pages:
            return used, found
        taken = sample(title)
        if taken is not None:
            used.append(title)
            for context, rows in taken:
                found.setdefault(context, []).append(rows)
    raise UserError(f"wikipedia excerpt: {len(used)} pages are long enough, {pages} are needed")


def fit(samples: list[ScoreSample]) -> Figures:
    """Parameters (mean over the samples, rounded to four digits)."""
    measured = [moments(sample) for sample in samples]
    found = {name: float(np.mean([values[name] for values, _ in measured])) for name in measured[0][0]}
    tokens = int(np.isfinite(samples[0].scores[0, 0]).all(0).sum())
    lagged = np.mean([lags for _, lags in measured], axis=0)
    found["run_strength"], found["run_length_tokens"] = fit_runs(lagged, tokens)
    rounded: Figures = {name: _short(value) for name, value in found.items()}
    rounded["sink_from_layer"] = round(found["sink_from_layer"])
    return rounded


def mean_effects(samples: list[ScoreSample]) -> Figures:
    """Figures of `effects`, mean over the samples."""
    each = [effects(sample, seed) for seed, sample in enumerate(samples)]
    return {name: _short(float(np.mean([figures[name] for figures in each]))) for name in each[0]}


def _short(value: float) -> float:
    return float(f"{value:.4g}")


def fit_network(
    name: str, description: str, titles: list[str], samples: dict[int, list[ScoreSample]]
) -> dict[str, Any]:
    """The YAML entry of a network; prints the comparison."""
    half = len(titles) // 2
    values = fit(next(iter(samples.values()))[:half])
    parameters = parameters_of(values)
    entry: dict[str, Any] = {
        "provenance": {
            "network": description,
            "text": "English Wikipedia, May 2016 (gensim 4.4.0 test data, CC BY-SA 3.0)",
            "fitted_pages": titles[:half],
            "checked_pages": titles[half:],
            "rows_fitted": half * int(np.prod(next(iter(samples.values()))[0].scores.shape[:3])),
            "command": "python -m workloads.fit_draw --write",
        },
        "parameters": values,
        "recorded": {},
        "drawn": {},
    }
    print(f"\n{name}: {description}")
    for parameter, value in values.items():
        print(f"  {parameter:30s} {value:8.4g}")
    for context, recorded in samples.items():
        checked = recorded[half:]
        drawn = [draw_sample(checked[0], DrawnScores(seed, parameters)) for seed in range(1, SEEDS + 1)]
        real, made = mean_effects(checked), mean_effects(drawn)
        entry["recorded"][f"context_{context}"], entry["drawn"][f"context_{context}"] = real, made
        print(f"  {'context ' + str(context):30s} recorded    drawn")
        for figure in real:
            excess = 100 * (made[figure] / real[figure] - 1)
            print(f"  {figure:30s} {real[figure]:8.3f} {made[figure]:8.3f}  {excess:+5.0f} %")
    return entry


def write(networks: dict[str, Any], path: Path) -> None:
    """Replace the file in one step."""
    body = _HEADER + yaml.safe_dump({"networks": networks}, sort_keys=False, allow_unicode=True, width=120)
    with tempfile.NamedTemporaryFile("w", dir=path.parent, suffix=".tmp", delete=False, encoding="utf-8") as file:
        file.write(body)
    Path(file.name).chmod(0o644)
    os.replace(file.name, path)


def main(arguments: list[str] | None = None) -> int:
    """The command. Returns 2, with one line, where weights or pages are missing."""
    parser = argparse.ArgumentParser(prog="python -m workloads.fit_draw", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--write", action="store_true", help=f"replace {DISTRIBUTION_PATH.name}")
    options = parser.parse_args(arguments)
    try:
        networks = {
            "smollm2": fit_network("smollm2", "SmolLM2-135M-Instruct, Q4_1, decoding", *decoder_samples(2 * PAGES)),
            "minilm": fit_network("minilm", "all-MiniLM-L6-v2, float32, encoder", *encoder_samples(2 * PAGES)),
        }
    except UserError as error:
        print(f"fit_draw: {error}", file=sys.stderr)
        return 2
    if options.write:
        write(networks, DISTRIBUTION_PATH)
    return 0


if __name__ == "__main__":
    sys.exit(main())
