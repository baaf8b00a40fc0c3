"""The engine's Verilog for the tests, made once per process and machine."""

import functools

from accel.arch import Arch
from accel.units.engine import EngineUnit


@functools.cache
def engine_verilog(arch: Arch) -> str:
    """Module ``engine``. Ten seconds for ``tiny``, minutes for the full-size preset."""
    from amaranth.back import verilog

    from rtl.engine import Engine

    return verilog.convert(Engine(EngineUnit.of(arch)), name="engine", emit_src=False, strip_internal_attrs=True)
