"""The register map: nothing overlaps, and each rendering says the same."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from accel.arch import archs, load_arch
from accel.registers import (
    COUNTERS,
    PAGE_BYTES,
    PARAMETERS,
    REGISTERS,
    ErrorCode,
    as_c_header,
    as_dict,
    as_markdown,
    constant_words,
    parameter_values,
    register,
)
from accel.units.engine import EngineUnit


def test_registers_and_fields_do_not_overlap() -> None:
    words = [r.offset + 4 * i for r in REGISTERS for i in range(r.words)]
    assert len(set(words)) == len(words)
    assert all(word % 4 == 0 and 0 <= word < PAGE_BYTES for word in words)
    assert len({r.name for r in REGISTERS}) == len(REGISTERS)
    for r in REGISTERS:
        bits = [f.low + i for f in r.fields for i in range(f.bits)]
        assert len(set(bits)) == len(bits)
        assert all(bit < 32 * r.words for bit in bits)
        assert all(f.bits > 32 or f.low // 32 == (f.low + f.bits - 1) // 32 for f in r.fields)


def test_offsets_that_drivers_know() -> None:
    """Software outside relies on them: a new place needs a new version of the map."""
    names = ("ID", "VERSION", "CONTROL", "STATUS", "ERROR", "PROGRAM_ADDRESS", "INTERRUPT_ENABLE", "INTERRUPT_STATUS")
    assert [register(n).offset for n in names] == [0x00, 0x04, 0x08, 0x0C, 0x10, 0x18, 0x20, 0x24]
    assert (register("MAX_CONTEXT").offset, register("CYCLES").offset) == (0x40, 0x80)
    assert [code.value for code in ErrorCode] == list(range(len(ErrorCode)))
    assert all(code.meaning and "\n" not in code.meaning for code in ErrorCode)


@pytest.mark.parametrize("name", archs())
def test_every_parameter_has_a_value(name: str) -> None:
    unit = EngineUnit.of(load_arch(name))
    assert list(parameter_values(unit)) == [parameter for parameter, _ in PARAMETERS]
    words = constant_words(unit)
    assert words[register("MAX_HEADS").offset] == unit.arch.max_heads
    assert words[0] == int.from_bytes(b"SPAT", "little")
    assert all(0 <= value < 1 << 32 for value in words.values())


def test_renderings_name_everything() -> None:
    data, markdown, header = json.loads(json.dumps(as_dict())), as_markdown(), as_c_header()
    assert [r["offset"] for r in data["registers"]] == [r.offset for r in REGISTERS]
    defines = {m[1]: int(m[2], 0) for m in re.finditer(r"#define (\w+) (\w+)u\b", header)}
    for r in REGISTERS:
        assert f"| 0x{r.offset:02x} | `{r.name}` |" in markdown
        assert defines[f"SPAT_{r.name}_OFFSET"] == r.offset
    for code in ErrorCode:
        assert f"| {code.value} | `{code.name}` |" in markdown
        assert defines[f"SPAT_ERROR_{code.name}"] == code.value
    assert len(data["errors"]) == len(ErrorCode)
    assert defines["SPAT_STATUS_ERROR_MASK"] == 4
    assert defines["SPAT_STATUS_ERROR_SHIFT"] == 2
    assert defines["SPAT_ERROR_JOB_OFFSET"] == 0x14
    assert defines["SPAT_ERROR_JOB_MASK"] == 0xFFFFFFFF
    assert defines["SPAT_CYCLES_HIGH_OFFSET"] == 0x84
    assert len(COUNTERS) == 14


@pytest.mark.skipif(shutil.which("gcc") is None, reason="no C compiler")
def test_the_header_compiles(tmp_path: Path) -> None:
    (tmp_path / "registers.h").write_text(as_c_header())
    (tmp_path / "main.c").write_text(
        '#include "registers.h"\n#include "registers.h"\n_Static_assert(SPAT_PROGRAM_ADDRESS_OFFSET == 0x18, "");\n'
        "int main(void) { return (int)((SPAT_STATUS_ERROR_MASK >> SPAT_STATUS_ERROR_SHIFT) - 1u); }\n"
    )
    subprocess.run(
        ["gcc", "-std=c11", "-Wall", "-Werror", "-pedantic", "-o", tmp_path / "main", tmp_path / "main.c"], check=True
    )
    subprocess.run([tmp_path / "main"], check=True)
