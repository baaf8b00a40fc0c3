"""The mutation campaign's own tools: what is broken, how, and that a proof of equivalence is one."""

import pytest

from tests.campaign.mutation_sites import Site, broken, choose, sites, unit_of, with_mutants, wrong_expressions

TEXT = r"""
module engine(clk, rst, a, b, y);
  input clk;
  wire clk;
  input rst;
  wire rst;
  input [3:0] a;
  wire [3:0] a;
  input b;
  wire b;
  output [3:0] y;
  wire [3:0] y;
  wire [3:0] \$1 ;
  wire \$2 ;
  wire \$3 ;
  reg [3:0] \$4 ;
  reg [3:0] count = 4'h0;
  wire [1:0] \count.low ;
  assign \$1  = count + 1'h1;
  assign \$2  = b & a[0];
  assign \$3  = b | a[1];
  always @(posedge clk)
    count <= \$4 ;
  always @* begin
    if (\$auto$verilog_backend.cc:2355:dump_module$1 ) begin end
    \$4  = count;
    if (\$2 ) begin
      \$4  = \$1 ;
    end
    if (rst) begin
      \$4  = 4'h0;
    end
  end
  \engine.child  child (
    .i(count),
    .o(y),
    .unused(\$3 )
  );
  assign \count.low  = count[1:0];
endmodule

module \engine.child (i, unused, o);
  input [3:0] i;
  wire [3:0] i;
  input unused;
  wire unused;
  output [3:0] o;
  wire [3:0] o;
  assign o = i ? ~ i : 4'hf;
endmodule
"""


def wrong_of(text: str) -> set[str]:
    """Without blanks."""
    return {f"{site.kind}: {''.join(site.wrong.split())}" for site in sites(text)}


def test_every_way_to_be_wrong() -> None:
    found = wrong_of(TEXT)
    assert found == {
        r"operator: assign\$1=count-1'h1;", r"operator: assign\$1=count;", r"constant: assign\$1=count+1'h0;",
        r"operator: assign\$2=b|a[0];", r"operator: assign\$2=b;",
        "register: count<=4'h0;",
        r"condition: if(!(\$2))begin", "condition: if(1'h0)begin", "condition: if(1'h1)begin",
        r"assignment: \$4=(\$1)^1'h1;",
        "reset: if(1'h0)begin", r"reset: \$4=(4'h0)^1'h1;", r"reset: \$4=4'h1;",
        "condition: assigno=i?4'hf:~i;", "condition: assigno=~i;", "condition: assigno=4'hf;",
        "constant: assigno=i?~i:4'h0;",
    }  # fmt: skip


def test_what_no_output_depends_on_is_left_alone() -> None:
    """``$3`` goes into a child that does not look at it; until it does."""
    assert not any(r"\$3=" in wrong for wrong in wrong_of(TEXT))
    assert any(r"\$3=" in wrong for wrong in wrong_of(TEXT.replace("~ i :", "unused :")))


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        (r"\$1  <= \$2 [3:0]", {r"\$1 < \$2 [ 3 : 0 ]"}),
        (r"$signed(\$1 ) >>> shift", {r"$signed ( \$1 ) << shift"}),
        ("| word", {"& word"}),
        ("{ a, b }", set()),
        ("a", set()),
        ("{ a, 1'h0 } == 2'h3", {"{ a , 1'h0 } != 2'h3", "{ a , 1'h0 } == 2'h0"}),
    ],
)
def test_expressions(right: str, wrong: set[str]) -> None:
    assert {text.strip() for _, text in wrong_expressions(right)} == wrong


def test_units_in_turn_and_no_line_twice() -> None:
    found = sites(TEXT)
    chosen = choose(found, 100, 1)
    assert [site.unit for site in chosen[:2]] == ["child", "top"]
    assert len({site.line for site in chosen}) == len(chosen) == len({site.line for site in found})
    assert choose(found, 4, 1) == chosen[:4]
    assert unit_of("engine.converter_12") == "converter"
    assert unit_of("engine.pv_path.issue$114.rows.fifo") == "pv_path.issue"
    assert unit_of("engine.k_arrivals.arrived_0.own") == "arrivals"


def test_all_mutants_in_one_text() -> None:
    text = with_mutants(TEXT, sorted(choose(sites(TEXT), 100, 1)))
    assert "module engine(mutant, clk," in text
    assert "  input [15:0] mutant;" in text
    assert text.count("(engine.mutant == 16'd") == 8
    assert len({line.split("16'd")[1].split(")")[0] for line in text.splitlines() if "16'd" in line}) == 8


def test_equivalence_is_proved_or_not() -> None:
    pytest.importorskip("pyosys", reason="pip install 'accel-codesign[synth]'")
    from tests.campaign.mutation_proof import is_equivalent

    line = next(i for i, text in enumerate(TEXT.split("\n")) if r"\$2  =" in text)

    def site(wrong: str) -> Site:
        return Site(line, "top", "engine", "operator", TEXT.split("\n")[line], f"  assign \\$2  = {wrong};")

    assert r"a[0] & b" in broken(TEXT, site("a[0] & b"))
    assert is_equivalent(TEXT, site("a[0] & b"))
    assert not is_equivalent(TEXT, site("a[0] | b"))
