"""Places in Amaranth's Verilog where one change makes a wrong machine, and the text that holds many of them at once.

The text that Yosys writes has one operator per line, so a line is read by its tokens. A changed line chooses between
right and wrong by ``engine.mutant``, a port that is added to the top: one build serves all mutants, and 0 is the engine
as it is.
"""

import re
from collections import defaultdict
from typing import NamedTuple

import numpy as np

TOP = "engine"
PORT = "mutant"
PROBES = "probes__"  # outputs for a bench, no part of the machine
_TOKEN = re.compile(
    r"\\\S+\s|[A-Za-z_$][\w$]*|\d+'s?[bodh][0-9a-fA-Fxz?]+|\d+|"
    r">>>|<<<|[<>=!]==?|<<|>>|&&|\|\||[-+*/%&|^~!<>?:(){}\[\],;=]|\.|\S"
)
_NAME = re.compile(r"\\\S+(?=\s)|(?<![\w$'\\.])[A-Za-z_$][\w$]*")
_CONSTANT = re.compile(r"^(\d+)'(s?)h([0-9a-f]+)$")
_KEYWORDS = {
    "assign", "always", "posedge", "begin", "end", "if", "else", "casez", "endcase", "default", "wire", "reg", "input",
    "output",
}  # fmt: skip
_SWAPPED = {
    "+": "-", "-": "+", "*": "+", "&": "|", "|": "&", "^": "|", "==": "!=", "!=": "==", "<": "<=", "<=": "<",
    ">": ">=", ">=": ">", "<<": ">>", ">>": "<<", ">>>": "<<",
}  # fmt: skip
_UNARY = {"~": "", "!": "|", "|": "&", "&": "|", "-": ""}
_INDENT_OF_CHOICE = 6  # what is deeper stands under an if or a case


class Site(NamedTuple):
    """One wrong line: ``line`` (0-based) of the text, the unit and module it is in, what kind of change, both texts."""

    line: int
    unit: str
    module: str
    kind: str
    right: str
    wrong: str

    def __str__(self) -> str:
        return f"{self.module} line {self.line + 1}, {self.kind}: {self.right.strip()}  ->  {self.wrong.strip()}"


def unit_of(module: str) -> str:
    """The box of the block diagram that a module belongs to."""
    parts = [re.sub(r"(_\d+)+$|\$\d+$", "", part) for part in module.split(".")][1:]
    if not parts:
        return "top"
    if parts[0].endswith("arrivals"):
        return "arrivals"
    wide = {"softmax_path", "pv_path", "state", "fetcher", "sequencer"}
    if parts[-1] in ("queue", "fifo") and len(parts) == 2:
        return parts[0]
    if parts[0] in wide and len(parts) > 1:
        return ".".join(parts[:2])
    return parts[0]


def modules_of(lines: list[str]) -> dict[str, tuple[int, int]]:
    """Module name -> its first and last line."""
    found, name, start = {}, "", 0
    for i, line in enumerate(lines):
        if line.startswith("module "):
            name, start = line[7:].split("(")[0].strip().lstrip("\\"), i
        elif line.startswith("endmodule"):
            found[name] = (start, i)
    return found


def _names(text: str) -> list[str]:
    found = [name.lstrip("\\") for name in _NAME.findall(text + " ")]
    return [name for name in found if name not in _KEYWORDS and not name.startswith("$signed")]


class _Graph:
    """Which names of which modules an output of the top depends on, by name, not by bit."""

    def __init__(self, lines: list[str], modules: dict[str, tuple[int, int]]) -> None:
        self._from: dict[tuple[str, str], set[tuple[str, str]]] = defaultdict(set)
        self._outputs: dict[str, set[str]] = {}
        for module, (start, end) in modules.items():
            outputs = (_names(line)[-1] for line in lines[start:end] if line.startswith("  output "))
            self._outputs[module] = set(outputs)
        for module, (start, end) in modules.items():
            self._read(module, lines[start + 1 : end], modules)
        self.live: set[tuple[str, str]] = set()
        waiting = [(TOP, name) for name in self._outputs[TOP] if not name.startswith(PROBES)]
        while waiting:
            node = waiting.pop()
            if node not in self.live:
                self.live.add(node)
                waiting += self._from[node]

    def _read(self, module: str, body: list[str], modules: dict[str, tuple[int, int]]) -> None:
        block: list[str] = []  # of an always: all that is assigned depends on all that is read
        child = ""
        for line in [*body, "  // end"]:
            two = line.startswith("  ") and not line.startswith("   ")
            if two and block and line.strip() != "end":
                self._block(module, block)
                block = []
            if child:
                if (at := re.match(r"    \.(\\\S+\s|[\w$]+)\((.*)\),?$", line)) is not None:
                    port, names = at[1].strip().lstrip("\\"), _names(at[2])
                    if port in self._outputs[child]:
                        for name in names:
                            self._from[module, name].add((child, port))
                    else:
                        self._from[child, port].update((module, name) for name in names)
                elif two:
                    child = ""
                continue
            if line.startswith("  assign "):
                left, right = line[9:].split(" = ", 1)
                for name in _names(left):
                    self._from[module, name].update((module, other) for other in _names(right))
            elif line.startswith("  always "):
                block = [line]
            elif block:
                block.append(line)
            elif two and (first := line.split()[0].lstrip("\\")) in modules and line.rstrip().endswith("("):
                child = first

    def _block(self, module: str, block: list[str]) -> None:
        read, written = set(), set()
        for line in block[1:]:
            if (at := re.match(r"\s+(\\\S+\s|[\w$]+)\s*(\[[^=]*\])? *<?= (.*);$", line)) is not None:
                written.add(at[1].strip().lstrip("\\"))
                read.update(_names((at[2] or "") + at[3]))
            else:
                read.update(_names(line))
        for name in written:
            self._from[module, name].update((module, other) for other in read)


def _tokens(text: str) -> list[tuple[str, int]]:
    """Tokens with the depth of brackets that they stand in; an opening bracket is outside what it opens."""
    found, depth = [], 0
    for token in _TOKEN.findall(text + " "):
        depth -= token in ")}]"
        found.append((token.strip(), depth))
        depth += token in "({["
    return found


def _join(tokens: list[str]) -> str:
    return " ".join(tokens) + " "


def _next_constant(token: str, step: int) -> str | None:
    if (at := _CONSTANT.match(token)) is None:
        return None
    width = int(at[1])
    return f"{width}'{at[2]}h{(int(at[3], 16) + step) % (1 << width):x}"


def wrong_expressions(right: str, step: int = 1) -> list[tuple[str, str]]:
    """(kind, expression) of each way to get an expression of one operator wrong; constants move by ``step``."""
    tokens = _tokens(right)
    words = [token for token, _ in tokens]
    top = [i for i, (token, depth) in enumerate(tokens) if depth == 0 and token not in "(){}[]"]
    out: list[tuple[str, str]] = []
    questions = [i for i in top if words[i] == "?"]
    if questions:
        q = questions[0]
        colon = next(i for i in top if words[i] == ":" and i > q)
        yes, no = _join(words[q + 1 : colon]), _join(words[colon + 1 :])
        out += [("condition", f"{_join(words[:q])}? {no}: {yes}"), ("condition", yes), ("condition", no)]
    elif words[0] in _UNARY:
        out.append(("operator", f"{_UNARY[words[0]]} {_join(words[1:])}"))
    else:
        operators = [i for i in top if words[i] in _SWAPPED]
        if len(operators) == 1:
            i = operators[0]
            out.append(("operator", _join([*words[:i], _SWAPPED[words[i]], *words[i + 1 :]])))
            if words[i] in "+-&|^":
                out.append(("operator", _join(words[:i])))
    if len(words) > 1:
        for i in top:
            if (other := _next_constant(words[i], step)) is not None:
                out.append(("constant", _join([*words[:i], other, *words[i + 1 :]])))
    return out


def _written(lines: list[str], always: int) -> list[str]:
    """Names that the always of this line assigns."""
    out: list[str] = []
    for line in lines[always + 1 :]:
        if re.match(r"  \S", line):
            return out
        if (at := re.match(r"\s+(\\\S+\s|[\w$]+)\s*(\[[^=]*\])? *<?= .*;$", line)) is not None:
            out.append(at[1].strip().lstrip("\\"))
    return out


def _of_line(line: str, clocked: bool, step: int, initial: dict[str, str]) -> list[tuple[str, str]]:
    """(kind, wrong text) of one line; a register that is not updated stays at its initial value."""
    if (at := re.match(r"(  assign .*?) = (.*);$", line)) is not None:
        return [(kind, f"{at[1]} = {wrong};") for kind, wrong in wrong_expressions(at[2], step)]
    if (at := re.match(r"(\s+(?:end else )?if) \((.*)\)( begin)?$", line)) is not None:
        kind, condition = ("reset" if at[2] == "rst" else "condition"), at[2]
        if condition.startswith("\\$auto"):
            return []
        wrongs = ["1'h0"] if kind == "reset" else [f"! ({condition})", "1'h0", "1'h1"]
        return [(kind, f"{at[1]} ({wrong}){at[3] or ''}") for wrong in wrongs]
    if (at := re.match(r"(\s+)(\\\S+ |[\w$]+)( ?\[.*?\])? *(<?=) (.*);$", line)) is not None:
        name, now, value = f"{at[2]}{at[3] or ''} ", at[4], at[5]
        if clocked:
            if at[3] or name.strip() not in initial:
                return []
            return [("register", f"{at[1]}{name} {now} {initial[name.strip()]};")]
        if len(at[1]) < _INDENT_OF_CHOICE:
            return []
        out = [("assignment", f"{at[1]}{name} {now} ({value}) ^ 1'h1;")]
        if (other := _next_constant(value, step)) is not None:
            out.append(("constant", f"{at[1]}{name} {now} {other};"))
        return out
    return []


def sites(text: str, step: int = 1) -> list[Site]:
    """All places that an output of the engine depends on, in the order of the text."""
    lines = text.split("\n")
    modules = modules_of(lines)
    live = _Graph(lines, modules).live
    out = []
    for module, (start, end) in modules.items():
        clocked = resetting = False
        declared = (re.match(r"  reg (?:\[.*?\] )?(\S+)\s+= (\S+);$", line) for line in lines[start:end])
        initial = {at[1]: at[2] for at in declared if at is not None}
        written: list[str] = []  # by the always that a line is in
        for i in range(start, end):
            line = lines[i]
            if line.startswith("  always "):
                clocked = "posedge" in line
                written = _written(lines, i)
            if "if (rst) begin" in line or line.strip() == "end":
                resetting = "(rst)" in line
            for kind, wrong in _of_line(line, clocked, step, initial):
                kind = "reset" if resetting else kind
                names = _names(line[9:].split(" = ")[0])[:1] if line.startswith("  assign ") else written
                changed = "".join(wrong.split()) != "".join(line.split())
                if changed and any((module, name) in live for name in names):
                    out.append(Site(i, unit_of(module), module, kind, line, wrong))
    return out


def choose(found: list[Site], count: int, seed: int) -> list[Site]:
    """``count`` sites: units in turn, in each a kind at random, of it a place at random; no line twice."""
    rng = np.random.default_rng(seed)
    of_unit: dict[str, dict[str, list[Site]]] = defaultdict(lambda: defaultdict(list))
    for site in found:
        of_unit[site.unit][site.kind].append(site)
    chosen: list[Site] = []
    taken: set[int] = set()
    units = sorted(of_unit)
    while units and len(chosen) < count:
        for unit in list(units):
            kinds = of_unit[unit]
            left = {kind: [site for site in places if site.line not in taken] for kind, places in kinds.items()}
            left = {kind: places for kind, places in left.items() if places}
            if not left:
                units.remove(unit)
                continue
            names = sorted(left)
            weights = np.array([0.2 if name == "reset" else 1.0 for name in names])
            places = left[names[rng.choice(len(names), p=weights / weights.sum())]]
            site = places[rng.integers(len(places))]
            taken.add(site.line)
            chosen.append(site)
            if len(chosen) == count:
                break
    return chosen


def _both(site: Site, number: int) -> str:
    """The line that is right but for its mutant."""
    this = f"({TOP}.{PORT} == 16'd{number})"
    condition = re.compile(r"(\s+(?:end else )?if) \((.*)\)( begin)?$")
    if (right := condition.match(site.right)) is not None:
        wrong = condition.match(site.wrong)
        assert wrong is not None
        return f"{right[1]} ({this} ? {wrong[2]} : {right[2]}){right[3] or ''}"
    sign = " <= " if re.match(r"\s+(\\\S+ |[\w$]+) *<= ", site.right) else " = "
    left, right_value = site.right.split(sign, 1)
    wrong_value = site.wrong.split(sign, 1)[1]
    return f"{left}{sign}{this} ? ({wrong_value.rstrip(';')}) : ({right_value.rstrip(';')});"


def with_mutants(text: str, chosen: list[Site]) -> str:
    """The text with all of them, numbered from 1, and a 16-bit input ``mutant`` at the top."""
    lines = text.split("\n")
    for number, site in enumerate(chosen, 1):
        lines[site.line] = _both(site, number)
    at = modules_of(lines)[TOP][0]
    lines[at] = lines[at].replace(f"{TOP}(", f"{TOP}({PORT}, ", 1)
    first = next(i for i in range(at, len(lines)) if lines[i].rstrip().endswith(");"))
    lines.insert(first + 1, f"  input [15:0] {PORT};\n  wire [15:0] {PORT};")
    return "\n".join(lines)


def broken(text: str, site: Site) -> str:
    """The text with this one wrong, and nothing else changed."""
    lines = text.split("\n")
    lines[site.line] = site.wrong
    return "\n".join(lines)
