"""FPGA flow: what is counted, when a part is too small, the critical path; the tools once on a small design."""

from pathlib import Path
from typing import Any

import pytest

from accel.errors import UserError
from rtl import synth

SMALL = """
module small(input clk, input [17:0] a, input [17:0] b, output reg [35:0] p, output [7:0] word, input [5:0] at);
  reg [7:0] cells [127:0];
  reg [7:0] read;
  reg [17:0] x, y;
  assign word = read;
  always @(posedge clk) begin
    x <= a;
    y <= b;
    p <= x * y;
    read <= cells[at];
    cells[a[6:0]] <= b[7:0];
  end
endmodule
"""


def test_larger_memories_go_to_block_ram() -> None:
    text = "  reg [7:0] cells [127:0];\n  reg [7:0] cells [126:0];\n  reg [63:0] storage [63:0];\n"
    first, second, third = synth.with_block_rams(text).splitlines()
    assert first == '  (* ram_style = "block" *) reg [7:0] cells [127:0];'
    assert (second, third) == ("  reg [7:0] cells [126:0];", "  reg [63:0] storage [63:0];")


def test_the_deepest_memories_go_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of what is left for block RAM: 32 bits and 512 words each."""
    monkeypatch.setitem(synth.AVAILABLE, "block_rams", 4)
    monkeypatch.setattr(synth, "BLOCK_RAM_SHARE", 1.0)
    text = "reg [32:0] cells [31:0];\nreg [31:0] cells [513:0];\nreg [31:0] cells [63:0];\n"
    assert [line.split('"')[1] for line in synth.with_block_rams(text).splitlines()] == [
        "distributed",
        "block",
        "block",
    ]


def test_memories_and_carries_are_luts_too() -> None:
    """The numbers are those of nextpnr's "Logic utilisation before packing" for the engine of tiny."""
    cells = {"LUT4": 57_812, "CCU2C": 4_463, "TRELLIS_DPR16X4": 2_468, "TRELLIS_FF": 30_617, "DP16KD": 2}
    assert synth.used(cells) == {
        "luts": 81_546, "ram_luts": 9_872 + 4_936, "flip_flops": 30_617, "multipliers": 0, "block_rams": 2,
    }  # fmt: skip


def test_a_part_that_is_too_small() -> None:
    need = {"luts": 83_640, "flip_flops": 0, "multipliers": 156, "block_rams": 208}
    assert synth.shortage(need) == ""
    assert synth.shortage(need | {"luts": 90_000}) == "not supported: needs 90,000 LUT4, the part has 83,640"
    assert "157 MULT18X18D, the part has 156; 209" in synth.shortage(need | {"multipliers": 157, "block_rams": 209})


def test_the_critical_path_is_the_longest_between_registers() -> None:
    def path(start: str, end: str, *delays: float) -> dict[str, Any]:
        cells = ["first", *(f"cell{i}" for i in range(len(delays)))]
        steps = [
            {"delay": delay, "from": {"cell": a, "port": "Q"}, "to": {"cell": b, "port": "A"}, "type": "logic"}
            for delay, a, b in zip(delays, cells[:-1], cells[1:], strict=True)
        ]
        return {"from": start, "to": end, "path": steps}

    clock = "posedge clk"
    report = {
        "fmax": {"clk": {"achieved": 40.004, "constraint": 50.0}},
        "critical_paths": [
            path("<async>", clock, 90.0),
            path(clock, clock, 10.0, 14.996, 0.0),
            path(clock, clock, 3.0),
        ],
    }
    found = synth.timing(report)
    assert (found["fmax_MHz"], found["critical_ns"]) == (40.0, 25.0)
    assert (found["critical_from"], found["critical_to"]) == ("first", "cell2")
    assert [step["ns"] for step in found["critical_steps"]] == [10.0, 14.996, 0.0]


def test_missing_tools_are_told_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(synth, "_MODULES", {"no_such_module": "no-such-package"})
    with pytest.raises(
        UserError, match=r"^synth: no-such-package not installed; pip install 'accel-codesign\[fpga\]'$"
    ):
        synth.synthesise(SMALL, "small")


needs_pyosys = pytest.mark.skipif("synth.missing_tools() is not None", reason=str(synth.missing_tools()))


@needs_pyosys
def test_a_small_design_is_counted_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A multiplier, a block RAM; the second time nothing runs. A design that cannot be read says why."""
    monkeypatch.setenv("ACCEL_CACHE", str(tmp_path))
    told: list[str] = []
    first = synth.synthesise(SMALL, "small", told.append, place=False)
    assert (first["multipliers"], first["block_rams"], first["problem"]) == (1, 1, "")
    assert told[0] == "yosys: starting"
    assert len(told) > 10
    told.clear()
    assert synth.synthesise(SMALL, "small", told.append, place=False) == first
    assert not told
    with pytest.raises(UserError, match=r"yosys failed: .*ERROR"):
        synth.synthesise(SMALL.replace("endmodule", ""), "small", place=False)


@needs_pyosys
def test_interrupted_tools_do_not_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C while Yosys runs: it ends, and no result is left behind."""
    monkeypatch.setenv("ACCEL_CACHE", str(tmp_path))

    def interrupt(text: str) -> None:
        if "starting" not in text:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        synth.synthesise(SMALL, "small", interrupt, place=False)
    assert not list(tmp_path.rglob("netlist.json"))
    assert synth.synthesise(SMALL, "small", place=False)["multipliers"] == 1
