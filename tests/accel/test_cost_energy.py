"""Energy: units are pJ, every line is count x factor, parts add up, nothing comes from nothing, bad input is named."""

import copy
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from accel.arch import load_arch
from accel.cost.energy import PARTS, energy, run_energy
from accel.cost.factors import load_technology, memories, technologies
from accel.errors import UserError

ZERO = {
    "rows": 0,
    "dram_read_bytes": {"q": 0, "k_msb": 0, "k_lsb": 0, "v": 0, "weights": 0},
    "dram_write_bytes": 0,
    "dram_commands": {"act": 0, "pre": 0, "rd": 0, "wr": 0, "ref": 0},
    "macs": {"qk": 0, "pv": 0},
    "sram_read_bytes": {"k": 0, "v": 0, "score": 0},
    "sram_write_bytes": {"k": 0, "v": 0, "score": 0},
    "softmax": {"exponentials": 0, "reciprocals": 0, "normalisations": 0},
    "topk": {"comparisons": 0, "elements": 0, "counted": 0, "exchanges": 0, "moves": 0},
    "importance_updates": 0,
    "crossbar_bytes": {"address": 0, "data": 0},
    "output_values": 0,
}
PAID = [  # every count that costs something
    *(f"dram_read_bytes.{stream}" for stream in ("q", "k_msb", "k_lsb", "v", "weights")),
    "dram_write_bytes", "dram_commands.act", "dram_commands.ref", "macs.qk", "macs.pv",
    *(f"sram_{way}_bytes.{which}" for way in ("read", "write") for which in ("k", "v", "score")),
    "softmax.exponentials", "softmax.reciprocals", "softmax.normalisations", "topk.comparisons", "topk.elements",
    "topk.counted", "topk.exchanges", "topk.moves",
    "importance_updates", "crossbar_bytes.address", "crossbar_bytes.data", "output_values",
]  # fmt: skip
MACHINE = {
    "technology_nm": 40, "memory": "ddr4", "cycles": 1000, "clock_MHz": 1000.0,
    "k_sram_bytes": 196608, "v_sram_bytes": 196608,
}  # fmt: skip


def counts(**changes):
    """ZERO with dotted names (dots as double underscores) set."""
    result = copy.deepcopy(ZERO)
    for name, value in changes.items():
        *path, last = name.split("__")
        node = result
        for step in path:
            node = node[step]
        node[last] = value
    return result


def one(name, value):
    return counts(**{name.replace(".", "__"): value})


def test_no_counts_cost_nothing():
    for memory in memories():
        for technology_nm in technologies():
            report = energy(ZERO, **MACHINE | {"memory": memory, "technology_nm": technology_nm})
            assert set(report.energy_pJ.values()) == {0.0}


def test_one_activation_and_one_bit_are_in_picojoules():
    """O'Connor: 909 pJ per opened row, 3.48 pJ per transferred bit; a slip to nJ or to bytes shows here."""
    hbm2 = MACHINE | {"memory": "hbm2"}
    assert energy(one("dram_commands.act", 1), **hbm2).energy_pJ["dram_activation"] == 909
    assert energy(one("dram_read_bytes.v", 1), **hbm2).energy_pJ["dram_transfer"] == pytest.approx(8 * 3.48)
    # A row of 1 KiB read whole costs 909 / 8192 = 0.111 pJ/bit on top of the transfer.
    row = counts(dram_commands__act=1, dram_read_bytes__k_msb=1024)
    assert energy(row, **hbm2).energy_pJ["total"] / 8192 == pytest.approx(0.111 + 3.48, abs=1e-3)


def test_published_traffic_lands_in_millijoules():
    """83.7 MB (published GPT-2-small trace) at the paper's all-in 3.97 pJ/bit is 2.66 mJ; in sequence less."""
    assert pytest.approx(2.66, abs=0.01) == 83.7e6 * 8 * 3.97 * 1e-9
    sequential = counts(dram_read_bytes__k_msb=83_700_000, dram_commands__act=83_700_000 // 1024)
    total_mJ = energy(sequential, **MACHINE | {"memory": "hbm2"}).energy_pJ["total"] * 1e-9
    assert total_mJ == pytest.approx(2.66 * 3.591 / 3.97, rel=0.003)


def test_ddr4_and_lpddr4_factors_follow_from_the_quoted_currents():
    """Independent arithmetic from data-sheet currents (mA, V, clocks) to pJ: catches a mistyped factor."""
    tck_ns, devices = 0.833, 8
    ddr4 = memories()["ddr4"]
    pin = 0.5 * 1.2**2 / (34 + 48) / 2.4e9 * 1e12
    assert ddr4.activation.value == pytest.approx(1.2 * (48 * 55 - 43 * 39 - 34 * 16) * tck_ns * devices, rel=1e-3)
    assert ddr4.read.value == pytest.approx(1.2 * (135 - 43) * 4 * tck_ns * devices / 512 + pin, rel=1e-3)
    assert ddr4.write.value == pytest.approx(1.2 * (123 - 43) * 4 * tck_ns * devices / 512 + pin, rel=1e-3)
    assert ddr4.refresh.value == pytest.approx(1.2 * (250 - 43) * 420 * tck_ns * devices, rel=1e-3)
    lpddr4 = memories()["lpddr4"]
    act_mA_ck = 1.1 * (45 * 97 - 30 * 68 - 27 * 29) + 1.8 * (3.5 * 97 - 2.25 * 68 - 2.0 * 29)
    assert lpddr4.activation.value == pytest.approx(act_mA_ck * 0.625 / 2, rel=1e-3)
    assert lpddr4.read.value == pytest.approx(1.1 * (275 - 30 + 150 - 0.75) * 5 / 512, rel=1e-3)
    assert lpddr4.write.value == pytest.approx(1.1 * (210 - 30 + 55 - 0.75) * 5 / 512, rel=1e-3)


def test_every_line_prints_its_own_product_and_a_source():
    report = energy(counts(macs__qk=10, dram_read_bytes__q=7, rows=3), **MACHINE, memory_channels=2)
    for line in report.lines:
        assert line.energy_pJ == pytest.approx(line.count * line.factor_pJ)
        assert len(line.source) > 20
        assert line.part in PARTS
    assert report.rows == 3


@given(st.dictionaries(st.sampled_from(PAID), st.integers(0, 10**12)), st.integers(0, 10**9))
@settings(max_examples=50)
def test_parts_add_up_and_counts_add_up(chosen, cycles):
    """Energy is linear: the total is the sum of parts, and of the energies of the counts taken one by one."""
    together = counts(**{name.replace(".", "__"): value for name, value in chosen.items()})
    report = energy(together, **MACHINE | {"cycles": cycles})
    parts = dict(report.energy_pJ)
    total = parts.pop("total")
    assert total == pytest.approx(math.fsum(parts.values()))
    alone = [energy(one(name, value), **MACHINE).energy_pJ["total"] for name, value in chosen.items()]
    assert total == pytest.approx(math.fsum(alone))


@pytest.mark.parametrize("name", PAID)
def test_each_paid_count_raises_the_energy(name):
    few, many = (energy(one(name, value), **MACHINE).energy_pJ["total"] for value in (1, 2))
    assert 0 < few < many


def test_smaller_nodes_and_smaller_macros_cost_less():
    work = counts(macs__qk=1, macs__pv=1, softmax__exponentials=1, sram_read_bytes__k=96, topk__elements=1)
    by_node = [energy(work, **MACHINE | {"technology_nm": nm}).energy_pJ["total"] for nm in (28, 40, 45)]
    assert by_node == sorted(by_node)
    by_macros = [energy(work, **MACHINE, k_sram_macros=n).energy_pJ["sram_k"] for n in (16, 8, 4, 2, 1)]
    assert by_macros == sorted(by_macros)
    assert by_macros[0] < by_macros[-1]


def test_background_is_time_times_channels_and_absent_without_a_source():
    ddr4 = energy(ZERO, **MACHINE, memory_channels=2)
    assert ddr4.energy_pJ["dram_background"] == pytest.approx(2 * 1000 * 412.8)  # 1000 cycles at 1 GHz = 1000 ns
    assert ddr4.power_mW["dram_background"] == pytest.approx(825.6)
    assert "dram_background" not in energy(ZERO, **MACHINE).energy_pJ
    hbm2 = energy(ZERO, **MACHINE | {"memory": "hbm2"}, memory_channels=16).energy_pJ
    assert not {"dram_background", "dram_refresh"} & set(hbm2)


def test_the_second_opinion_is_dearer_and_only_for_logic():
    work = counts(macs__qk=1, sram_read_bytes__k=1, dram_read_bytes__v=1)
    nominal, aladdin = (energy(work, **MACHINE, variant=variant).energy_pJ for variant in ("nominal", "aladdin"))
    assert aladdin["qk_array"] == pytest.approx(1.783 + 0.21 + 36 * 0.009)
    assert aladdin["qk_array"] > nominal["qk_array"]
    assert all(aladdin[part] == nominal[part] for part in ("sram_k", "dram_transfer"))


def test_a_machine_gives_its_own_sizes():
    work = counts(sram_read_bytes__k=96, macs__qk=64)
    report = run_energy(load_arch("spatten"), work, cycles=500)
    assert report.duration_ns == 500
    assert report.energy_pJ["sram_k"] == pytest.approx(load_technology(40).sram.smallest("kv", 12288).read_pJ)
    assert report.to_json()["energy_pJ"]["total"] == report.energy_pJ["total"]


@pytest.mark.parametrize("name", [*PAID, "rows"])
def test_a_missing_count_is_named(name):
    broken = copy.deepcopy(ZERO)
    *path, last = name.split(".")
    node = broken
    for step in path:
        node = node[step]
    del node[last]
    with pytest.raises(UserError, match=f"{name} is missing"):
        energy(broken, **MACHINE)


@pytest.mark.parametrize("value", [-1, float("nan"), float("inf"), "12", None, True, [1]])
def test_an_impossible_count_is_named(value):
    with pytest.raises(UserError, match=r"counts: macs\.qk"):
        energy(counts(macs__qk=value), **MACHINE)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"technology_nm": 41}, "technology_nm 41.*available: 28, 40, 45"),
        ({"memory": "hbm"}, "memory hbm.*did you mean hbm2.*available: hbm2, ddr4, lpddr4"),
        ({"variant": "alladin"}, "variant alladin.*aladdin"),
        ({"clock_MHz": 0}, "clock_MHz = 0"),
        ({"cycles": -1}, "cycles = -1"),
        ({"k_sram_macros": 0}, "k_sram_macros = 0"),
        ({"memory_channels": 0}, "memory_channels = 0"),
        ({"k_sram_bytes": 1 << 40}, "kv SRAM macro of .* bytes: the 40 nm table ends at 393216"),
    ],
)
def test_bad_machine_facts_are_one_line(change, message):
    with pytest.raises(UserError, match=message) as error:
        energy(ZERO, **MACHINE | change)
    assert "\n" not in str(error.value)
