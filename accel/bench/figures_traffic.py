"""Section 3.1 of the published figures: traffic and computation."""

from collections.abc import Callable
from functools import partial

from accel.bench.figure import Results, Row, figure, geometric, kv_bytes, mean
from accel.bench.sets import BERT, GPT2, MAIN
from workloads.benchmarks import Variant, find_benchmarks
from workloads.benchmarks.rows import WIDEST_BITS, row_trace
from workloads.row_trace import as_release_testbench, dense_operations, operations, useful_bytes

FP32_BITS = 32
COUNTED = "python -m workloads.benchmarks.calibrate --check"
TRACE = "python -m pytest tests/workloads/test_benchmarks.py -k published_totals"


def traffic(results: Results) -> list[Row]:
    """Reductions of DRAM traffic and of work. Each factor twice: counted, which calibration fixes, and as moved."""
    return [*_factors(results), *_whole(results), *_traces()]


def _factors(results: Results) -> list[Row]:
    def moved(name: str, *families: str) -> float:
        return results.gain(name, MAIN, kv_bytes, *families)

    def widths(*families: str) -> float:
        pairs = results.pairs("wide", MAIN, *families)
        return FP32_BITS / WIDEST_BITS * geometric(row_useful_kv(wide) / kv_bytes(row) for wide, row in pairs)

    def each(of: Callable[..., float]) -> str:
        return f"BERT {of(*BERT):.2f}, GPT-2 {of(*GPT2):.2f}"

    tokens, heads = partial(moved, "no tokens"), partial(moved, "no heads")
    accesses = "moved in accesses of 32 bytes: a row of 64 x 6 bit takes 64, unless two heads lie side by side in 96"
    both = "tokens_and_values"
    no_pairs = (
        "heads that may be pruned cannot lie in pairs, and without pairs BERT's keys of 6 bit take 64 bytes for 48: "
        "that costs more than the heads save"
    )
    found = []
    for text, published, key, families, ours, options, cause in (
        ("cascade token and local value pruning, 30", 1.9, both, (), tokens(), "no tokens", each(tokens)),
        ("cascade token and local value pruning, 8 GPT-2", 3.8, both, GPT2, tokens(*GPT2), "no tokens", ""),
        ("cascade head pruning, 30", 1.1, "heads", (), heads(), "no heads", f"{each(heads)}; {no_pairs}"),
        ("progressive quantisation, 30", 5.1, "widths", (), widths(), "wide", f"{each(widths)}; {accesses}"),
    ):
        counted = geometric(row["counted_factors"][key] for row in results.rows(MAIN, *families))
        command = results.options(options)
        for how, value, by, why in (("counted", counted, COUNTED, ""), ("moved", ours, command, cause)):
            said = f"DRAM, {text}, K and V {how}"
            found.append(figure("3.1", said, "x", published, value, "calibrated", by, cause=why, evidence=False))
    return found


def _whole(results: Results) -> list[Row]:
    def ratio(name: str, *families: str) -> float:
        return geometric(row["ratio"][name] for row in results.rows(MAIN, *families))

    counted = geometric(row["counted_factors"]["all"] for row in results.rows(MAIN))
    kv = geometric(row["counted_factors"]["all"] * row_useful_kv(row) / kv_bytes(row) for row in results.rows(MAIN))
    work = geometric(_work(row) for row in results.rows(MAIN))
    queries = {row["name"]: row for row in results.rows("queries kept")}
    kept = geometric(_work(queries.get(row["name"], row)) for row in results.rows(MAIN))
    second = mean(row["second_pass_share"] for row in results.rows(MAIN, *GPT2))
    text, table = "DRAM, all techniques, 30, against 32 bit", results.command
    return [
        figure("3.1", f"{text}, K and V counted", "x", 10.0, counted, "calibrated", COUNTED, evidence=False),
        figure(
            "3.1", f"{text}, K and V moved", "x", 10.0, kv, "calibrated", table,
            cause="whole accesses, and heads that cannot lie in pairs, as above", evidence=False,
        ),
        figure(
            "3.1", f"{text}, with queries and outputs, moved", "x", 10.0, ratio("fp32"), "calibrated", table,
            cause=f"BERT {ratio('fp32', *BERT):.1f}, GPT-2 {ratio('fp32', *GPT2):.1f}: queries are words of 12 and "
            "outputs of 16 bit here, half of BERT's numbers; the release writes no outputs, and the paper gives no "
            f"width of queries. Against fp16 {ratio('fp16'):.2f}, against int8 {ratio('int8'):.2f}",
            evidence=False,
        ),
        figure(
            "3.1", "computation, all techniques, 30", "x", 2.1, work, "calibrated", table,
            cause="2.1 is 1.9 x 1.1, linear in tokens; of a sentence, queries go with their tokens, so work falls with "
            f"the square. With the queries of pruned tokens computed (--without query-pruning) it is {kept:.2f}",
        ),
        figure(
            "1.4", "rows with a second pass, mean of 8 GPT-2", "%", 5.9, 100 * second, "derived", table, evidence=False,
            cause="an input, no evidence: 5.9 % where nothing else is known, 7.0 % and none in the two traces",
        ),
    ]  # fmt: skip


def row_useful_kv(row: Row) -> float:
    """Bytes of K and V that were asked for, at their widths."""
    useful = row["dram_useful_bytes"]
    return float(useful["k_msb"] + useful["k_lsb"] + useful["v"])


def _work(row: Row) -> float:
    return float(row["operations"]["dense"] / row["operations"]["without_second_passes"])


def _traces() -> list[Row]:
    """Totals of the published traces, recounted from the rows that the benchmarks run."""
    found = []
    small, medium = find_benchmarks(["gpt2-small-wikitext-2", "gpt2-medium-wikitext-2"])
    dense = Variant.of(("token-pruning", "value-pruning", "head-pruning", "quantisation"))
    for one, title, variant, total_MB, done_G, dense_G in (
        (small, "GPT-2 Small WikiText-2", Variant(), 83.7, 0.197, 1.190),
        (medium, "GPT-2 Medium WikiText-2", Variant(), 714.8, 1.023, 3.173),
        (small, "GPT-2 Small, dense at 8+4", dense, 746.1, 1.190, 1.190),
        (medium, "GPT-2 Medium, dense at 8+4", dense, 1989.7, 3.173, 3.173),
    ):
        trace = row_trace(one, variant)
        total = sum(useful_bytes(as_release_testbench(trace), round_to=8).values())
        found += [
            figure("3.1", f"K and V of the trace, {title}", "MB", total_MB, total / 1e6, "trace", TRACE),
            figure("3.1", f"operations of the trace, {title}", "GOP", done_G, operations(trace) / 1e9, "trace", TRACE),
            figure("3.1", f"dense operations, {title}", "GOP", dense_G, dense_operations(trace) / 1e9, "trace", TRACE),
        ]
    return found
