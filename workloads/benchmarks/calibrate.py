"""``python -m workloads.benchmarks.calibrate``: inputs that are not published, set so that the averages come out.

Each is one number (or one list of head counts) for all benchmarks that lack a published one. The averages that they
are set by are no evidence any more; ``accel bench`` marks them so. ``--check`` writes nothing and fails if the stored
values are not those found.
"""

import itertools
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import yaml

from accel.errors import UserError
from accel.runs import write_whole
from workloads.benchmarks.closed_form import geometric_mean, head_factor, token_factor, width_factor
from workloads.benchmarks.loader import CALIBRATED, FOLDER, load_family
from workloads.benchmarks.model import FAMILIES, Benchmark
from workloads.cascade import UNPRUNED_FOR_HEADS, unpruned_layers

COMMAND = "python -m workloads.benchmarks.calibrate"
# Published averages (HPCA 2021, section V-B).
TOKENS_GPT2, TOKENS_ALL, HEADS_ALL, WIDTHS_ALL = 3.8, 1.9, 1.1, 5.1
_START: dict[str, Any] = {
    "gpt2_token_power": 1.0, "bert_token_share": 0.5, "bert_bits": 8, "bert_base_heads": [12] * 12,
    "bert_large_heads": [16] * 24,
}  # fmt: skip
T = TypeVar("T")


def calibrate() -> dict[str, dict[str, Any]]:
    """Calibrated values, each with what it makes come out and the value that it reaches."""
    values, said = dict(_START), {}

    def fit(
        name: str, tries: Iterable[Any], mean: Callable[[list[Benchmark]], float], target: float, what: str
    ) -> None:
        values[name] = _nearest(tries, lambda trial: mean(_benchmarks({**values, name: trial})) - target)
        reached = mean(_benchmarks(values))
        said[name] = {"value": values[name], "so_that": f"{what} is {target} (reached: {reached:.3f})"}

    def gpt2(factor: Callable[[Benchmark], float]) -> Callable[[list[Benchmark]], float]:
        return lambda found: geometric_mean([factor(one) for one in found if not one.is_bert])

    def every(factor: Callable[[Benchmark], float]) -> Callable[[list[Benchmark]], float]:
        return lambda found: geometric_mean([factor(one) for one in found])

    # Heads first: a token counts in the heads that run.
    # Both lists are set together; in each, the later half of the pruned layers may run one head less.
    pairs = list(itertools.product(_head_counts(12, 12), _head_counts(24, 16)))
    base, large = _nearest(
        pairs,
        lambda pair: (
            every(head_factor)(_benchmarks({**values, "bert_base_heads": pair[0], "bert_large_heads": pair[1]}))
            - HEADS_ALL
        ),
    )
    values |= {"bert_base_heads": base, "bert_large_heads": large}
    reached = every(head_factor)(_benchmarks(values))
    for name in ("bert_base_heads", "bert_large_heads"):
        what = f"the head factor of all 30 is {HEADS_ALL} (reached: {reached:.3f}), about the same for both networks"
        said[name] = {"value": values[name], "so_that": what}
    # Below a power of 0.5 the first cut would keep more tokens than the prompt has.
    fit(
        "gpt2_token_power",
        [i / 100 for i in range(50, 201, 5)],
        gpt2(token_factor),
        TOKENS_GPT2,
        "the token and value factor of the 8 GPT-2",
    )
    shares = [i / 100 for i in range(10, 101)]
    fit("bert_token_share", shares, every(token_factor), TOKENS_ALL, "the token and value factor of all 30")
    fit("bert_bits", (4, 6, 8, 10, 12), every(width_factor), WIDTHS_ALL, "the width factor of all 30")
    return said


def _head_counts(layers: int, heads: int) -> Iterator[list[int]]:
    free = unpruned_layers(layers, UNPRUNED_FOR_HEADS)
    half = (layers - free) // 2
    for kept in range(heads, heads // 2, -1):
        for late in (kept, kept - 1):
            found = [heads] * free + [kept] * half + [late] * (layers - free - half)
            # One network must not carry all of the average: both stay within a few percent of it.
            if abs(heads * layers / sum(found) - HEADS_ALL) < 0.03:
                yield found


def _nearest(tries: Iterable[T], miss: Callable[[T], float]) -> T:
    return min(tries, key=lambda trial: abs(miss(trial)))


def _benchmarks(values: dict[str, Any]) -> list[Benchmark]:
    known = {name: {"value": value, "label": "calibrated", "source": COMMAND} for name, value in values.items()}
    return [one for family in FAMILIES for one in load_family(FOLDER / f"{family}.yaml", known)]


def main(arguments: list[str]) -> int:
    """Write the file, or compare with it."""
    path = Path(FOLDER / CALIBRATED)
    found = {"kind": "calibrated", "command": COMMAND, "values": calibrate()}
    text = f"# Written by `{COMMAND}`; do not edit.\n" + yaml.safe_dump(found, sort_keys=False, width=160)
    if "--check" in arguments:
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            print(f"{path}: not what {COMMAND} finds", file=sys.stderr)
            return 1
        return 0
    write_whole(path, text)
    print(text, end="")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except UserError as error:
        print(f"calibrate: {error}", file=sys.stderr)
        sys.exit(2)
