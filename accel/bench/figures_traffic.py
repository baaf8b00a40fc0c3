"""Section 3.1 of the published figures: traffic and computation."""

from accel.bench.figure import Results, Row, figure, geometric, kv_bytes, mean
from accel.bench.sets import BERT, GPT2, MAIN
from workloads.benchmarks import Variant, find_benchmarks
from workloads.benchmarks.rows import WIDEST_BITS, row_trace
from workloads.row_trace import as_release_testbench, dense_operations, operations, useful_bytes

FP32_BITS = 32
TRACE = "python -m pytest tests/workloads/test_benchmarks.py -k published_totals"


def traffic(results: Results) -> list[Row]:
    """Reductions of DRAM traffic and of work."""

    def tokens(*families: str) -> float:
        return results.gain("no tokens", MAIN, kv_bytes, *families)

    heads = results.gain("no heads", MAIN, kv_bytes)
    widths = (
        FP32_BITS
        / WIDEST_BITS
        * geometric(row_useful_kv(wide) / kv_bytes(row) for wide, row in results.pairs("wide", MAIN))
    )
    counted = {
        name: geometric(row["counted_factors"][name] for row in results.rows(MAIN))
        for name in ("tokens_and_values", "heads", "widths", "all")
    }
    gpt2_counted = geometric(row["counted_factors"]["tokens_and_values"] for row in results.rows(MAIN, *GPT2))
    all_kv = geometric(row["counted_factors"]["all"] * row_useful_kv(row) / kv_bytes(row) for row in results.rows(MAIN))
    moved = geometric(row["ratio"]["fp32"] for row in results.rows(MAIN))
    fp16, int8 = (geometric(row["ratio"][name] for row in results.rows(MAIN)) for name in ("fp16", "int8"))
    bert_moved = geometric(row["ratio"]["fp32"] for row in results.rows(MAIN, *BERT))
    gpt2_moved = geometric(row["ratio"]["fp32"] for row in results.rows(MAIN, *GPT2))
    work = geometric(_work(row) for row in results.rows(MAIN))
    bert_kept = {row["name"]: row for row in results.rows("queries kept")}
    kept = geometric(_work(bert_kept.get(row["name"], row)) for row in results.rows(MAIN))
    second = mean(row["second_pass_share"] for row in results.rows(MAIN, *GPT2))
    table = results.command
    return [
        figure(
            "3.1",
            "DRAM, cascade token and local value pruning, 30 (K and V moved)",
            "x",
            1.9,
            tokens(),
            "calibrated",
            results.options("no tokens"),
            evidence=False,
            cause=f"counted without whole accesses {counted['tokens_and_values']:.2f}",
        ),
        figure(
            "3.1",
            "the same, 8 GPT-2",
            "x",
            3.8,
            tokens(*GPT2),
            "calibrated",
            results.options("no tokens"),
            evidence=False,
            cause=f"counted without whole accesses {gpt2_counted:.2f}",
        ),
        figure(
            "3.1",
            "DRAM, cascade head pruning, 30 (K and V moved)",
            "x",
            1.1,
            heads,
            "calibrated",
            results.options("no heads"),
            evidence=False,
            cause=f"heads counted alone {counted['heads']:.2f}; the "
            "pruned heads are those of the late layers, where few tokens are left, but unpruned heads lie in pairs, "
            "which pruned ones cannot",
        ),
        figure(
            "3.1",
            "DRAM, progressive quantisation, 30 (K and V moved, against 32 bit)",
            "x",
            5.1,
            widths,
            "calibrated",
            results.options("wide"),
            evidence=False,
            cause=f"counted in bits {counted['widths']:.2f}; moved in accesses "
            "of 32 bytes, in which a row of 64 x 6 bit takes 64 unless two heads lie side by side, which BERT's "
            "pruned heads do not",
        ),
        figure(
            "3.1",
            "DRAM, all techniques, 30 (K and V, counted in bits, against 32 bit)",
            "x",
            10.0,
            counted["all"],
            "calibrated",
            table,
            evidence=False,
            cause="the factors of a benchmark are not independent of each other",
        ),
        figure(
            "3.1",
            "the same, K and V as moved",
            "x",
            10.0,
            all_kv,
            "calibrated",
            table,
            evidence=False,
            cause="whole accesses of 32 bytes, as above",
        ),
        figure(
            "3.1",
            "the same, with queries and outputs as moved",
            "x",
            10.0,
            moved,
            "derived",
            table,
            cause=f"BERT {bert_moved:.1f}, GPT-2 {gpt2_moved:.1f}: queries are words of 12 and outputs of 16 bit here, "
            "two thirds of BERT's numbers; the release writes no outputs, and the paper gives no width of queries. "
            f"Against fp16 {fp16:.2f}, against int8 {int8:.2f}",
        ),
        figure(
            "3.1",
            "computation, all techniques, 30",
            "x",
            2.1,
            work,
            "calibrated",
            table,
            cause=f"2.1 is 1.9 x 1.1, linear in tokens; of a sentence, queries go with their tokens, so work falls "
            f"with the square. With the queries of pruned tokens computed (--without query-pruning) it is {kept:.2f}",
        ),
        figure(
            "1.4",
            "rows with a second pass, mean of 8 GPT-2",
            "%",
            5.9,
            100 * second,
            "derived",
            table,
            evidence=False,
            cause="an input: 5.9 % where nothing else is known, 7.0 % and none in the two traces",
        ),
        *_traces(),
    ]


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
