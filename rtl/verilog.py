"""From a unit's name to its Verilog, and from a machine to its engine's.

A unit is a module ``rtl.NAME`` that defines ``Parameters``, the frozen dataclass of ``accel.units.NAME``, and
``component(parameters, ...)``, which builds the hardware. There is no list of units to edit.
"""

import dataclasses
import difflib
import errno
import functools
import importlib
import importlib.util
import os
import pkgutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import rtl
from accel.arch import Arch
from accel.errors import UserError

NO_YOSYS = "verilog: Yosys is missing or too old; pip install 'accel-codesign[rtl]' brings one"


def _is_unit(name: str) -> bool:
    return hasattr(importlib.import_module(f"rtl.{name}"), "Parameters")


def _modules() -> list[str]:
    if importlib.util.find_spec("amaranth") is None:
        raise UserError("verilog: Amaranth is not installed; pip install 'accel-codesign[rtl]'")
    return sorted(module.name for module in pkgutil.iter_modules(rtl.__path__))


def unit_names() -> list[str]:
    """The units there are, sorted. Raises UserError if Amaranth is not installed."""
    return [name for name in _modules() if _is_unit(name)]


def _near(wrong: str, known: list[str]) -> str:
    close = difflib.get_close_matches(wrong, known, 1, 0.5)
    return f"did you mean {close[0]}? known: {', '.join(known)}" if close else f"known: {', '.join(known)}"


def _unit_module(name: str) -> ModuleType:
    if name not in _modules() or not _is_unit(name):
        raise UserError(f"unit {name}: there is no such unit; {_near(name, unit_names())}")
    return importlib.import_module(f"rtl.{name}")


def unit_parameters(name: str, **parameters: Any) -> Any:
    """The unit's parameter object, with its defaults for what is not given.

    Raises UserError for an unknown unit, an unknown parameter (with the nearest known one) or an impossible value.
    """
    kind = _unit_module(name).Parameters
    known = [field.name for field in dataclasses.fields(kind)]
    for parameter in parameters:
        if parameter not in known:
            raise UserError(f"unit {name}: no parameter {parameter}; {_near(parameter, known)}")
    try:
        return kind(**parameters)
    except TypeError as error:
        raise UserError(f"unit {name}: {str(error).split(') ')[-1]}") from error


def unit_verilog(name: str, **parameters: Any) -> str:
    """Verilog of one unit, top module ``name``; the same text each time for the same tools.

    Ports: clk, rst (synchronous, high) and, for each stream S, S__payload, S__valid, S__ready. A payload of several
    fields is one vector, the first field in its lowest bits.
    Raises UserError as ``unit_parameters``, and if Amaranth's Verilog writer is not installed.
    """
    unit = unit_parameters(name, **parameters)
    from amaranth import __version__
    from amaranth.back import verilog

    values = ", ".join(f"{field.name}={getattr(unit, field.name)}" for field in dataclasses.fields(unit))
    try:
        text = verilog.convert(_unit_module(name).component(unit), name=name, emit_src=False, strip_internal_attrs=True)
    except verilog.YosysError as error:
        raise UserError(NO_YOSYS) from error
    return f"// {name}: {values}\n// Written by rtl/verilog.py with Amaranth {__version__}.\n{text}"


@functools.cache
def engine_verilog(arch: Arch, probes: bool = False, shared: bool = True) -> str:
    """Verilog of the whole machine, top module ``engine``.

    Args:
        probes: with the ports of ``rtl.probes``.
        shared: equal components are instances of one module (``rtl.shared``), else each has a module of its own, for
            who wants to treat them apart; that takes minutes for the full-size machine.

    Ports: clk, rst (synchronous, high), and those of :class:`rtl.engine.Engine`, levels of names joined by two
    underscores. Seconds for ``tiny``, up to a minute or two for the full-size machine.
    Raises UserError for a machine that the hardware cannot be, and if Amaranth's Verilog writer is not installed.
    """
    from accel.units.engine import EngineUnit

    unit = EngineUnit.of(arch)
    from amaranth import __version__
    from amaranth.back import verilog

    from rtl.engine import Engine
    from rtl.shared import engine_rtlil

    try:
        rtlil = engine_rtlil(Engine(unit, probes), "engine", shared)
        text = verilog._convert_rtlil_text(rtlil, strip_internal_attrs=True)
    except verilog.YosysError as error:
        raise UserError(NO_YOSYS) from error
    return f"// engine: {arch.name}, see arch.yaml\n// Written by rtl/verilog.py with Amaranth {__version__}.\n{text}"


def write_unit(name: str, parameters: dict[str, Any], out_dir: Path | str) -> Path:
    """Write ``unit_verilog`` to out_dir/NAME.v, whole or not at all, and return the path."""
    text = unit_verilog(name, **parameters)
    path = Path(out_dir) / f"{name}.v"
    write_whole({path.name: text}, path.parent)
    return path


def write_whole(texts: Mapping[str, str], folder: Path) -> None:
    """Write the texts under their names: all of them, or none if they cannot all be written."""
    folder.mkdir(parents=True, exist_ok=True)
    drafts: dict[str, str] = {}
    try:
        for name, text in texts.items():
            handle, drafts[name] = tempfile.mkstemp(dir=folder, prefix=f".{name}.")
            with os.fdopen(handle, "w") as file:
                file.write(text)
            os.chmod(drafts[name], 0o644)
            if (folder / name).is_dir():  # which os.replace would find out when others have been replaced
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(folder / name))
        for name, draft in drafts.items():
            os.replace(draft, folder / name)
    finally:
        for draft in drafts.values():
            Path(draft).unlink(missing_ok=True)
