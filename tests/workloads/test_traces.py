"""The importer keeps published rows as they are, fills in only what is not set, and refuses what cannot be a trace."""

import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from accel.errors import UserError
from workloads.traces import (
    COLUMNS,
    RowTrace,
    as_release_testbench,
    dense_bytes,
    dense_operations,
    issue_cycles,
    load_trace,
    operations,
    useful_bytes,
)

DATA = Path(__file__).parents[1] / "data" / "traces"
PRUNED = DATA / "tiny-pruned.csv"
PUBLISHED = Path("/work/shared/traces")
HEADER = ",".join(COLUMNS)
ROW = "0,0,0,64.0,21,21,6,16,0.05,False,4,12,6,True,False,False,-1"


def written(tmp_path: Path, text: str | bytes, name: str = "trace.csv") -> Path:
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def edited(tmp_path: Path, line: int, column: str, value: str) -> Path:
    """tiny-pruned.csv with one cell changed; lines count from 1, as in messages."""
    lines = PRUNED.read_text().split("\n")
    cells = lines[line - 1].split(",")
    cells[list(COLUMNS).index(column)] = value
    lines[line - 1] = ",".join(cells)
    return written(tmp_path, "\n".join(lines))


def refusal(path: Path | str, **options: int) -> str:
    with pytest.raises(UserError) as caught:
        load_trace(path, **options)
    message = str(caught.value)
    assert "\n" not in message
    return message


def same_rows(a: RowTrace, b: RowTrace) -> bool:
    return all(np.array_equal(x, y) for (_, x), (_, y) in zip(a.columns(), b.columns(), strict=True))


def test_rows_are_kept_as_they_stand() -> None:
    trace = load_trace(PRUNED)
    assert (trace.name, trace.rows, trace.iterations, trace.layers, trace.heads) == ("tiny-pruned", 12, 2, 2, 3)
    assert trace.config == "configs/tiny/pruned.yml"
    assert trace.notes == ()
    assert trace.source.sha256 == hashlib.sha256(PRUNED.read_bytes()).hexdigest()
    assert trace.keys.tolist() == [21] * 6 + [16] * 3 + [9] * 3
    assert trace.values.tolist() == [12] * 6 + [8] * 3 + [4] * 3
    assert trace.live_tokens.tolist() == [21] * 6 + [22] * 6
    assert np.flatnonzero(trace.lsb_pass).tolist() == [0, 1, 2, 3, 6, 7, 8]
    assert {r: int(trace.token_topk[r]) for r in np.flatnonzero(trace.token_topk != -1)} == {5: 16, 8: 9}
    assert np.flatnonzero(trace.rescale_importance).tolist() == [5]
    assert np.flatnonzero(~trace.accumulate_importance).tolist() == [9, 10, 11]
    widths = (trace.key_msb_bits, trace.key_lsb_bits, trace.query_bits, trace.value_bits, trace.lsb_threshold)
    assert [set(column.tolist()) for column in widths] == [{6}, {4}, {16}, {6}, {0.05}]
    assert (trace.keys.dtype, trace.lsb_pass.dtype) == (np.int32, np.bool_)
    with pytest.raises(ValueError, match="read-only"):
        trace.keys[0] = 1


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda t: t.replace("\n", "\r\n"), id="CRLF"),
        pytest.param(lambda t: t.replace("\n", "\r"), id="CR"),
        pytest.param(lambda t: t.rstrip("\n"), id="no newline at the end"),
        pytest.param(lambda t: t + "\n\n  \n" + "," * 16 + "\n", id="blank lines at the end"),
        pytest.param(lambda t: t.replace("\n1,0,0", "\n\n , \n \n1,0,0"), id="blank line in the middle"),
        pytest.param(lambda t: "\ufeff" + t, id="byte order mark"),
        pytest.param(lambda t: "\n" + t, id="blank line at the start"),
        pytest.param(lambda t: t.split("configs")[0] + "  \n,,\n", id="blank lines and no configuration line"),
        pytest.param(lambda t: t.replace(",", " , "), id="spaces"),
        pytest.param(lambda t: t.replace("True", "TRUE").replace("False", "0"), id="other flags"),
        pytest.param(lambda t: t.replace(",21,21,", ",21.0,2.1e1,"), id="whole numbers as floats"),
        pytest.param(lambda t: t.replace("yml" + "," * 16, "yml"), id="configuration line without commas"),
        pytest.param(lambda t: "\n".join(",".join(reversed(x.split(","))) for x in t.split("\n")[:-2]), id="reversed"),
    ],
)
def test_other_ways_to_write_the_same_rows(tmp_path: Path, change: Callable[[str], str]) -> None:
    assert same_rows(load_trace(written(tmp_path, change(PRUNED.read_text()))), load_trace(PRUNED))


def test_unknown_columns_are_ignored_and_said(tmp_path: Path) -> None:
    first, *lines, _config, _end = PRUNED.read_text().split("\n")
    text = "\n".join(["seed," + first] + ["x," + line for line in lines])
    trace = load_trace(written(tmp_path, text))
    assert same_rows(trace, load_trace(PRUNED))
    assert trace.notes == ("columns not used: seed",)
    assert trace.config == ""


def test_widths_not_set_get_the_defaults_and_a_note() -> None:
    trace = load_trace(DATA / "tiny-unquantised.csv")
    assert set(trace.key_msb_bits) == set(trace.value_bits) == set(trace.query_bits) == {12}
    assert set(trace.key_lsb_bits) == {0}
    assert not trace.lsb_pass.any()
    assert "key width -1 (not set) in all rows: run at 12 bit without an LSB plane" in trace.notes
    assert "value width -1 (not set) in all rows: run at 12 bit" in trace.notes

    split = load_trace(DATA / "tiny-unquantised.csv", default_key_bits=8, default_lsb_bits=4, default_value_bits=8)
    assert (set(split.key_msb_bits), set(split.key_lsb_bits), set(split.value_bits)) == ({8}, {4}, {8})
    assert not split.lsb_pass.any()  # a plane that is there is not a pass that happened
    assert "key width -1 (not set) in all rows: run at 8 bit" in split.notes


def test_keys_listed_as_12_bit(tmp_path: Path) -> None:
    one_plane = load_trace(DATA / "tiny-wide-keys.csv")
    assert (set(one_plane.key_msb_bits), set(one_plane.key_lsb_bits)) == ({12}, {0})
    assert one_plane.notes == ("key width 12 without LSB passes in all rows: run at 12 bit without an LSB plane",)
    text = (DATA / "tiny-wide-keys.csv").read_text()
    with_width = load_trace(written(tmp_path, text.replace("False,-1,", "False,4,", 10)))  # no threshold, no pass
    assert same_rows(with_width, one_plane)
    assert with_width.notes == one_plane.notes
    with_threshold = load_trace(written(tmp_path, text.replace("-1,False,-1", "0.1,False,4")))
    assert (set(with_threshold.key_msb_bits), set(with_threshold.key_lsb_bits)) == ({8}, {4})
    split = load_trace(DATA / "tiny-wide-keys.csv", default_lsb_bits=4)
    assert (set(split.key_msb_bits), set(split.key_lsb_bits)) == ({8}, {4})
    assert "key width 12 with an LSB width of 4 in all rows: run as 8+4 bit" in split.notes


@pytest.mark.parametrize("lsb_width", ["-1", "0"])
def test_flagged_pass_without_an_lsb_width_gets_the_published_plane(tmp_path: Path, lsb_width: str) -> None:
    text = PRUNED.read_text().replace("True,4,", f"True,{lsb_width},").replace("False,4,", f"False,{lsb_width},")
    trace = load_trace(written(tmp_path, text))
    assert same_rows(trace, load_trace(PRUNED))  # the plane lies in memory for every row, flagged or not
    assert trace.notes == (
        "LSB pass flagged without an LSB width in 7 of 12 rows: an LSB plane of 4 bit is kept in all rows",
    )
    wide = load_trace(written(tmp_path, text.replace("6,16,", "12,16,")))
    assert (set(wide.key_msb_bits), set(wide.key_lsb_bits)) == ({8}, {4})
    assert wide.notes[1:] == ("key width 12 with an LSB width of 4 in all rows: run as 8+4 bit",)


@pytest.mark.parametrize(("column", "value", "right"), [
    ("iteration_id", "zero", "'zero' is not possible, a whole number is right"),
    ("layer_id", "0.5", "'0.5' is not possible, a whole number is right"),
    ("head_id", "-1", "-1 is not possible, 0 or more is right"),
    ("embedding_length_D", "0", "0 is not possible, 1 to 256 is right"),
    ("embedding_length_D", "512", "512 is not possible, 1 to 256 is right"),
    ("embedding_length_D", "32", "32 is not possible, 64 as in the rows before is right"),
    ("sentence_length_L", "nan", "'nan' is not possible, a whole number is right"),
    ("sentence_length_L", "-22", "-22 is not possible, 1 or more is right"),
    ("sentence_length_L", "99999999999", "a number up to 2147483647 is right"),
    ("key_fetch_num", "23", "23 is not possible, at most sentence_length_L (22) is right"),
    ("key_fetch_num", "-5", "-5 is not possible, 1 or more is right"),
    ("key_fetch_num", "", "'' is not possible, a whole number is right"),
    ("key_fetch_num", "1_6", "'1_6' is not possible, a whole number is right"),
    ("quant_key_bit", "24", "24 is not possible, 2 to 12, or -1 for not set, is right"),
    ("quant_query_bit", "0", "0 is not possible, 2 to 16, or -1 for not set, is right"),
    ("quant_value_bit", "-6", "-6 is not possible, 2 to 12, or -1 for not set, is right"),
    ("auto_requant_incre", "9", "9 is not possible, 0 to 8, or -1 for not set, is right"),
    ("auto_requant_thres", "1.5", "1.5 is not possible, a probability from 0 to 1, or -1 for none, is right"),
    ("auto_requant_thres", "low", "'low' is not possible, a number is right"),
    ("if_requant", "maybe", "'maybe' is not possible, True or False is right"),
    ("if_topk", "", "'' is not possible, True or False is right"),
    ("value_fetch_num", "17", "17 is not possible, at most key_fetch_num (16) is right"),
    ("value_fetch_num", "0", "0 is not possible, 1 or more is right"),
])  # fmt: skip
def test_a_wrong_cell_is_named(tmp_path: Path, column: str, value: str, right: str) -> None:
    path = edited(tmp_path, 9, column, value)
    assert refusal(path).startswith(f"{path}: line 9, column {column}: ")
    assert right in refusal(path)


def test_top_k_must_be_possible_where_it_runs_and_is_ignored_where_it_does_not(tmp_path: Path) -> None:
    path = edited(tmp_path, 10, "topk", "23")  # line 10 is flagged
    assert refusal(path).endswith("line 10, column topk: 23 is not possible, at most sentence_length_L (22) is right")
    assert "1 or more where if_topk is True is right" in refusal(edited(tmp_path, 10, "topk", "-1"))
    assert load_trace(edited(tmp_path, 9, "topk", "999")).token_topk[7] == -1


@pytest.mark.parametrize(("rows", "fault"), [
    (["0,0,0", "0,0,0"], "line 3: (iteration, layer, head) = (0, 0, 0) comes a second time"),
    (["0,0,1", "0,0,0"], "line 3: (iteration, layer, head) = (0, 0, 0) comes after (0, 0, 1)"),
    (["0,0,0", "0,1,0", "0,0,1"], "line 4: (iteration, layer, head) = (0, 0, 1) comes after (0, 1, 0)"),
    (["1,0,0", "0,1,0"], "line 3: (iteration, layer, head) = (0, 1, 0) comes after (1, 0, 0)"),
])  # fmt: skip
def test_rows_come_once_and_in_execution_order(tmp_path: Path, rows: list[str], fault: str) -> None:
    text = "\n".join([HEADER, *(row + ROW[5:] for row in rows)])
    assert fault in refusal(written(tmp_path, text))


def test_missing_columns_are_named(tmp_path: Path) -> None:
    text = PRUNED.read_text()
    assert "missing column key_fetch_num; is 'key_fetch_nun' meant for it?" in refusal(
        written(tmp_path, text.replace("key_fetch_num", "key_fetch_nun"))
    )
    assert "missing columns" in refusal(written(tmp_path, text.split("\n", 1)[1]))  # no header at all
    assert "missing columns" in refusal(written(tmp_path, text.replace(",", ";")))
    twice = HEADER + ",topk\n" + ROW + ",5\n"
    assert "line 1 names column topk 2 times" in refusal(written(tmp_path, twice))


@pytest.mark.parametrize("keep", [5, 20, 40, 50])
def test_a_row_cut_off_at_the_end_is_refused(tmp_path: Path, keep: int) -> None:
    message = refusal(written(tmp_path, f"{HEADER}\n{ROW}\n0,0,1{ROW[5:]}"[: len(HEADER) + len(ROW) + 2 + keep]))
    assert "line 3 has" in message
    assert "17 columns are named; the file looks cut off" in message


def test_a_short_or_long_row_is_named_by_its_line(tmp_path: Path) -> None:
    text = f"{HEADER}\n{ROW}\n\n0,0,1{ROW[5:]},7\n0,0,2{ROW[5:]}\n"
    assert refusal(written(tmp_path, text)).endswith("line 4 has 18 values, 17 columns are named")


def test_a_configuration_line_belongs_at_the_end_only(tmp_path: Path) -> None:
    text = PRUNED.read_text()
    twice = text + text.split("\n", 1)[1]
    assert "line 14, column iteration_id: 'configs/tiny/pruned.yml' is not possible" in refusal(
        written(tmp_path, twice)
    )


def test_a_short_last_iteration_is_said(tmp_path: Path) -> None:
    lines = PRUNED.read_text().split("\n")[:11]
    assert load_trace(written(tmp_path, "\n".join(lines))).notes == (
        "the last iteration has 4 rows, the one before 6: the file may be cut off",
    )


@pytest.mark.parametrize(("content", "fault"), [
    (b"", "the file is empty"),
    (b"\n , ,\n\n", "the file is empty"),
    (HEADER.encode(), "no rows below the column names"),
    (HEADER.encode() + b"\nconfigs/a.yml,,,\n", "no rows below the column names"),
    (bytes(range(256)) * 8, "not a text file"),
    (b"\x00" * 100, "not a text file"),
    (HEADER.encode("utf-16"), "not a text file"),
    (b"\x1f\x8b\x08\x00garbage", "not a text file"),
    (b"a" * 300_000, "not comma-separated text"),
    (b"{\"rows\": []}", "missing columns"),
])  # fmt: skip
def test_files_that_are_no_trace(tmp_path: Path, content: bytes, fault: str) -> None:
    path = written(tmp_path, content)
    message = refusal(path)
    assert message.startswith(f"{path}: {fault}")
    assert len(message) < 900


def test_paths_that_are_no_file(tmp_path: Path) -> None:
    written(tmp_path, "x", "gpt2.csv")
    assert refusal(tmp_path).endswith("this is a directory; name a file in it, such as gpt2.csv")
    assert f"did you mean {tmp_path / 'gpt2.csv'}?" in refusal(tmp_path / "gtp2.csv")
    assert "no such file" in refusal(tmp_path / "a" / "b.csv")
    assert "cannot be read" in refusal("a\0b")
    assert "default_key_bits: 16 is not possible, 2 to 12 is" in refusal(PRUNED, default_key_bits=16)


@given(st.binary(max_size=300) | st.text(alphabet='0123456789,-.\n"TruefalsxE', max_size=300).map(str.encode))
def test_garbage_never_escapes_as_another_error(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "garbage.csv"
    for text in (content, HEADER.encode() + b"\n" + ROW.encode() + b"\n" + content):
        path.write_bytes(text)
        try:
            said = "".join(load_trace(path).notes)
        except UserError as error:
            said = str(error)
        assert "\n" not in said


def test_long_files_keep_every_row_and_every_line_number(tmp_path: Path) -> None:
    body = [f"{i},{layer},0{ROW[5:]}" for i in range(4000) for layer in range(3)]
    trace = load_trace(written(tmp_path, "\n".join([HEADER, *body])))
    assert (trace.rows, trace.iterations) == (12_000, 4000)
    assert trace.iteration[-1] == 3999
    body[9876] = body[9876].replace("21,21", "21,many")
    body[5] = "\n" + body[5]
    assert "line 9879, column key_fetch_num: 'many'" in refusal(written(tmp_path, "\n".join([HEADER, *body])))


def test_counts_by_hand() -> None:
    trace = load_trace(PRUNED)  # keys 6 x 21, 3 x 16, 3 x 9; values 6 x 12, 3 x 8, 3 x 4; passes on 4 x 21 and 3 x 16
    assert issue_cycles(trace) == {"qk_msb": 6 * 3 + 3 * 2 + 3 * 2, "qk_lsb": 4 * 3 + 3 * 2, "pv": 6 * 2 + 3 + 3}
    assert issue_cycles(trace, keys_per_line=1) == {"qk_msb": 201, "qk_lsb": 132, "pv": 108}
    assert useful_bytes(trace) == {"key_msb": 201 * 48, "key_lsb": 132 * 32, "value": 108 * 48}
    assert useful_bytes(trace, round_to=8) == {"key_msb": 30 * 8 * 48, "key_lsb": 18 * 8 * 32, "value": 18 * 8 * 48}
    assert operations(trace) == 2 * 64 * (201 + 108)
    assert dense_operations(trace) == 4 * 64 * 6 * (21 + 22)
    assert dense_bytes(trace, 16) == 2 * 64 * 2 * 6 * (21 + 22)
    with pytest.raises(UserError, match="rows per line: 0"):
        issue_cycles(trace, keys_per_line=0)


def test_pruned_heads_count_in_the_dense_reference() -> None:
    trace = load_trace(DATA / "tiny-wide-keys.csv")
    assert trace.rows == 10
    assert dense_operations(trace) == 4 * 64 * 6 * (21 + 22)


def test_release_testbench_runs_wide_rows_in_two_passes() -> None:
    trace = load_trace(DATA / "tiny-unquantised.csv")
    view = as_release_testbench(trace)
    assert view.lsb_pass.all()
    assert useful_bytes(view)["key_msb"] == 2 * useful_bytes(view)["key_lsb"] == useful_bytes(view)["value"]
    assert same_rows(as_release_testbench(load_trace(PRUNED)), load_trace(PRUNED))  # 6+4 bit is what it knows


@pytest.mark.skipif(not PUBLISHED.is_dir(), reason="the published traces are not here")
class TestPublishedTraces:
    """Totals that were read off the published files independently of this importer."""

    def test_gpt2_small_pruned(self) -> None:
        trace = load_trace(PUBLISHED / "gpt2-small-wikitext2-pruned.csv")
        assert (trace.rows, trace.iterations, trace.layers, trace.heads) == (4608, 32, 12, 12)
        assert trace.notes == ()
        assert trace.config.startswith("configs/gpt2/wikitext2/gpt2_pp11")
        assert issue_cycles(trace) == {"qk_msb": 162_336, "qk_lsb": 33_767, "pv": 33_132}
        assert int(trace.lsb_pass.sum()) == 323
        assert int((trace.token_topk != -1).sum()) == 124
        assert int((~trace.accumulate_importance).sum()) == 72
        in_MB = {tensor: count / 1e6 for tensor, count in useful_bytes(trace, round_to=8).items()}
        assert in_MB == pytest.approx({"key_msb": 62.3, "key_lsb": 8.64, "value": 12.7}, rel=2e-3)
        assert sum(in_MB.values()) == pytest.approx(83.7, rel=1e-3)
        assert dense_bytes(trace, 32) / 1e6 == pytest.approx(2379, rel=1e-3)
        assert (operations(trace) / 1e9, dense_operations(trace) / 1e9) == pytest.approx((0.197, 1.190), rel=1e-3)

    def test_gpt2_medium_dense(self) -> None:
        trace = load_trace(PUBLISHED / "gpt2-medium-ptb-dense.csv")
        assert (trace.rows, trace.layers, trace.heads) == (12_288, 24, 16)
        assert operations(trace) == dense_operations(trace)
        assert dense_bytes(trace, 32) / 1e6 == pytest.approx(6345, rel=1e-3)
        in_MB = {tensor: n / 1e6 for tensor, n in useful_bytes(as_release_testbench(trace), round_to=8).items()}
        assert in_MB == pytest.approx({"key_msb": 795.9, "key_lsb": 397.9, "value": 795.9}, rel=1e-3)
