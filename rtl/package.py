"""Everything that goes with an engine's Verilog: register map, names, an example of its use, the machine itself."""

import json
import re
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from pydantic import BaseModel

from accel.arch import Arch
from accel.errors import UserError
from accel.registers import COUNTERS, WORD_BYTES, as_c_header, as_dict, as_markdown, register
from rtl.verilog import engine_verilog, write_whole

__all__ = ["EVENTS", "TOP", "Package", "Port", "engine_package", "write_package"]

TOP = "engine"
#: What is worth looking at first in a waveform: a name, the signal below ``engine``, what it is 1 for (or carries).
EVENTS = {
    "program_start": ("registers.start", "cycle 0 of a program"),
    "program_done": ("registers.done", "the program has ended; error_code and error_job beside it"),
    "dispatch": ("sequencer.dispatch__valid", "a job is handed to all units; dispatch__payload beside it"),
    "format_change": ("sequencer.format_change", "the job dispatched is of another format, rings begin anew"),
    "operation": ("state.op__valid", "an operation on tokens or heads, taken when op__ready"),
    "operation_done": ("state.done", "it is done"),
    "row_start": ("qk_issue.passes__valid", "a pass of a row begins; passes__payload beside it"),
    "k_line_msb": ("qk_issue.issue_msb", "a K line of a first pass goes to the QK array"),
    "k_line_lsb": ("qk_issue.issue_lsb", "a K line of a second pass goes to the QK array"),
    "scores": ("qk.scores__valid", "scores leave the QK array; scores__payload beside it"),
    "lsb_request": ("softmax_path.lsb_request__valid", "a row needs its LSB plane"),
    "query_release": ("softmax_path.query_release", "a row's scores are final"),
    "weight_line": ("softmax_path.line__valid", "weights and probabilities of a line; line__payload beside it"),
    "second_pass": ("softmax_path.weights__valid", "a row's second pass begins; weights__payload beside it"),
    "pv_line": ("pv_path.issue", "the PV array takes a line"),
    "row_finished": ("pv_path.row_finished", "a row's last V line was issued"),
    "row_written": ("pv_path.row_written", "a row's outputs have been written"),
    "job_retired": ("pv_path.retired", "a job's last output has been written"),
}


class Port(NamedTuple):
    """A port of the top: name, input or output, bits."""

    name: str
    direction: str
    bits: int


class Package(NamedTuple):
    """Files by name, and the top's ports."""

    texts: dict[str, str]
    ports: list[Port]


def engine_package(arch: Arch) -> Package:
    """All files of a machine, as texts.

    Raises UserError as :func:`rtl.verilog.engine_verilog`.
    """
    verilog = engine_verilog(arch)
    modules = _modules(verilog)
    ports = _ports(modules[TOP])
    texts = {
        f"{TOP}.v": verilog,
        f"{TOP}_example.v": _example(arch, ports),
        "registers.md": f"# Registers of the engine\n\nOffsets in bytes, 32-bit words. Generated.\n\n{as_markdown()}",
        "registers.h": as_c_header(),
        "names.json": json.dumps(_names(arch, modules, ports), indent=1) + "\n",
        "arch.yaml": _arch_yaml(arch),
    }
    return Package(texts, ports)


def write_package(arch: Arch, folder: Path) -> Package:
    """Write all files of a machine into ``folder``, or none.

    Raises UserError as :func:`engine_package`, and if they cannot be written.
    """
    package = engine_package(arch)
    try:
        write_whole(package.texts, folder)
    except OSError as error:
        raise UserError(f"{folder}: cannot be written ({error.strerror or error})") from error
    return package


# ---- what is in the Verilog -----------------------------------------------------------------------------------------
def _modules(verilog: str) -> dict[str, str]:
    """Bodies by module name, as Yosys writes them: ``module NAME (`` and ``endmodule`` begin a line."""
    found = re.finditer(r"^module (\S+) ?\(.*?^endmodule$", verilog, re.M | re.S)
    return {match[1].lstrip("\\"): match[0] for match in found}


def _ports(body: str) -> list[Port]:
    """Clock and reset first, then port by port and in each by name."""
    found = re.findall(r"^  (input|output) (?:reg )?(?:signed )?(?:\[(\d+):0\] )?(\w+)", body, re.M)
    ports = [Port(name, direction, int(top or 0) + 1) for direction, top, name in found]
    return sorted(ports, key=lambda port: (port.name not in ("clk", "rst"), "__" in port.name, _in_order(port.name)))


def _in_order(name: str) -> list[tuple[int, str]]:
    """Numbers in a name count as numbers: port 2 comes before port 10."""
    return [(int(part) if part.isdigit() else 0, part) for part in name.split("__")]


def _instances(modules: dict[str, str], module: str, path: str) -> dict[str, str]:
    """Path of every instance below ``path``, to the module it is of."""
    below: dict[str, str] = {}
    for kind, name in re.findall(r"^  (\\\S+|\w+) +(\\\S+|\w+) +\($", modules[module], re.M):
        if (of := kind.lstrip("\\")) in modules:
            at = f"{path}.{name.lstrip(chr(92))}"
            below |= {at: of, **_instances(modules, of, at)}
    return below


def _names(arch: Arch, modules: dict[str, str], ports: list[Port]) -> dict[str, Any]:
    """See docs/integration.md."""
    instances = _instances(modules, TOP, TOP)
    units = {path.split(".")[1]: path for path in instances if path.count(".") == 1}
    events = {}
    for name, (signal, meaning) in EVENTS.items():
        unit, wire = signal.split(".")
        if not re.search(rf"^  (?:wire|reg|input|output)\b.* {wire}(?:;| =)", modules[instances[units[unit]]], re.M):
            raise AssertionError(f"{signal}: the engine has no such signal (rtl/package.py, EVENTS)")
        events[name] = {"signal": f"{units[unit]}.{wire}", "meaning": meaning}
    counters = {}
    for name, meaning in COUNTERS:
        offset = register(name.upper()).offset
        counters[name] = {"offset": offset, "offset_high": offset + WORD_BYTES, "meaning": meaning}
        counters[name]["signal"] = f"{units['registers']}.{'cycle' if name == 'cycles' else name}"
    return {
        "machine": arch.name,
        "top": TOP,
        "clock": "clk",
        "reset": "rst",
        "interrupt": "irq",
        "ports": {port.name: {"direction": port.direction, "bits": port.bits} for port in ports},
        "counters": counters,
        "register_map": as_dict(),
        "units": units,
        "signals": events,
        "instances": instances,
    }


# ---- an example of its use ------------------------------------------------------------------------------------------
def _bus_name(port: str) -> str:
    """``read__0__arvalid`` as ``m_axi_read0_arvalid``: what FPGA tools know a bus by."""
    *bus, signal = port.split("__")
    return f"{'s_axi' if bus[0] == 'registers' else 'm_axi'}_{''.join(bus)}_{signal}" if bus else port


def _example(arch: Arch, ports: list[Port]) -> str:
    """A module that has the engine in it, under the names that FPGA tools know buses by, its reset active low."""
    bits = {port.name: port.bits for port in ports}
    channels = arch.memory_spec.channels
    pins = [port for port in ports if port.name not in ("clk", "rst")]
    declared = [
        f"  {port.direction:<6} wire {f'[{port.bits - 1}:0]' if port.bits > 1 else '':<8} {_bus_name(port.name)}"
        for port in pins
    ]
    connected = [f"    .{port.name}({_bus_name(port.name)})" for port in pins]
    widths = {
        "s_axi_registers": f"AXI4-Lite, {bits['registers__rdata']} bit data; see registers.md",
        "m_axi_program": f"AXI4, read only, {bits['program__rdata']} bit data, bursts",
        f"m_axi_read0 to {channels - 1}": f"AXI4, read only, {bits['read__0__rdata']} bit data, single beats",
        "m_axi_write": f"AXI4, write only, {bits['write__wdata']} bit data, single beats",
        "irq": "a level; it falls when software clears it",
    }
    return "\n".join(
        [
            f"// How to use {TOP}.v ({arch.name}). All ports belong to aclk, of {arch.clock_MHz} MHz in the simulator.",
            f"// AXI4 addresses are byte addresses of {bits['program__araddr']} bits.",
            *(f"// {bus}: {what}." for bus, what in widths.items()),
            f"module {TOP}_example (",
            "  input  wire          aclk,",
            "  input  wire          aresetn, // active low; hold it for a cycle of aclk or more",
            ",\n".join(declared),
            ");",
            "  // The engine's reset is synchronous and active high.",
            "  reg reset = 1'b1;",
            "  always @(posedge aclk) reset <= ~aresetn;",
            "",
            f"  {TOP} the_{TOP} (",
            "    .clk(aclk),",
            "    .rst(reset),",
            ",\n".join(connected),
            "  );",
            "endmodule",
            "",
        ]
    )  # fmt: skip


# ---- the machine ----------------------------------------------------------------------------------------------------
def _arch_yaml(arch: Arch) -> str:
    """A file that ``--arch`` reads: the machine with all that was changed by ``--set``."""

    def tree(part: BaseModel) -> dict[str, Any]:
        lines: dict[str, Any] = {}
        for key, field in type(part).model_fields.items():
            value = getattr(part, key)
            extra = field.json_schema_extra
            if isinstance(value, BaseModel):
                lines[key] = tree(value)
            elif isinstance(extra, dict):
                lines[key] = {"value": value, "unit": extra["unit"], "source": "as this Verilog was made"}
            else:
                lines[key] = value
        return lines

    return yaml.safe_dump(tree(arch), sort_keys=False, width=120)
