"""Factor files: every number has a source, scaled numbers follow the stated rule, a new technology is a new file."""

import shutil

import pytest
import yaml
from pydantic import BaseModel

from accel.cost import factors
from accel.cost.factors import Figure, load_technology, memories, published, technologies
from accel.cost.sram_regenerate import KV_MACROS, USES, cacti_configuration
from accel.errors import UserError

# Stillmaker and Baas, Integration 2017: energy polynomial in V, and area, by node.
ENERGY = {45: (1.103, -0.362, 0.2767), 32: (0.9559, -0.7823, 0.471), 20: (0.373, -0.1582, 0.04104)}
AREA = {45: 1.0, 32: 0.46, 20: 0.21}


def at(node_nm, table):
    """Linear in nm between the nodes of the table."""
    if node_nm in table:
        return table[node_nm]
    above, below = min(n for n in table if n > node_nm), max(n for n in table if n < node_nm)
    return table[below] + (table[above] - table[below]) * (node_nm - below) / (above - below)


def figures(model, where=""):
    if isinstance(model, Figure):
        yield where, model
    elif isinstance(model, BaseModel):
        for name in type(model).model_fields:
            yield from figures(getattr(model, name), f"{where}.{name}")
    elif isinstance(model, dict):
        for name, child in model.items():
            yield from figures(child, f"{where}.{name}")


@pytest.mark.parametrize("node_nm", technologies())
def test_every_factor_has_a_source(node_nm):
    technology = load_technology(node_nm)
    found = list(figures(technology)) + list(figures(dict(memories()))) + list(figures(dict(published())))
    assert len(found) > 25
    for where, figure in found:
        assert figure.source.strip(), where
    assert technology.sram.source.startswith("CACTI 7")
    assert technology.logic.scaling.source.startswith("Stillmaker")


@pytest.mark.parametrize("node_nm", technologies())
def test_scaled_factors_follow_the_stated_rule(node_nm):
    energy = {node: a * 0.9**2 + b * 0.9 + c for node, (a, b, c) in ENERGY.items()}
    scaled = [(w, f) for w, f in figures(load_technology(node_nm).logic) if f.scaled_from_nm is not None]
    assert scaled
    for where, figure in scaled:
        table = AREA if figure.unit == "um2" else energy
        ratio = at(node_nm, table) / at(figure.scaled_from_nm, table)
        assert figure.value == pytest.approx(figure.scaled_from_value * ratio, rel=2e-3), where


def test_the_starting_points_are_the_published_tables():
    """12 bit lies on the power law between the 8- and 32-bit multipliers of Horowitz's table."""
    node45, node40 = load_technology(45).logic.primitives, load_technology(40).logic.primitives
    twelve, sixteen = node45["multiply_12"].energy.value, node45["multiply_16"].energy.value
    assert 0.2 < twelve < sixteen < 3.1
    assert sixteen / 0.2 == pytest.approx((3.1 / 0.2) ** 0.5, rel=1e-3)  # 16 is half-way from 8 to 32 in octaves
    assert node45["add_32"].energy.value == 0.1
    assert node40["multiply_12"].aladdin_energy.value == pytest.approx(12.68 * (12 / 32) ** 2, rel=1e-3)
    assert node40["register_bit"].area.value == 5.98


@pytest.mark.parametrize("node_nm", technologies())
def test_sram_tables_hold_every_macro_of_the_script(node_nm):
    table = load_technology(node_nm).sram
    for use, macros in USES.items():
        assert [(row.bytes, row.width_bits) for row in table.macros[use].rows] == [m[:2] for m in macros]
    kv = table.macros["kv"].rows
    assert [row.area_mm2 for row in kv] == sorted(row.area_mm2 for row in kv)
    assert [row.read_pJ for row in kv] == sorted(row.read_pJ for row in kv)
    assert all(row.cycle_ns < 1 for rows in table.macros.values() for row in rows.rows)  # usable at 1 GHz
    assert table.configuration_of_first_macro == cacti_configuration(KV_MACROS[0], node_nm)


def test_published_dram_share():
    spatten = published()["spatten"]
    assert spatten["dram_power_W"].value / spatten["power_W"].value == pytest.approx(0.688, abs=1e-3)
    parts = sum(spatten[f"{part}_power_W"].value for part in ("dram", "logic", "sram"))
    assert parts == pytest.approx(spatten["power_W"].value, abs=0.011)  # 8.31, the paper rounds


def test_a_new_technology_is_two_new_files(tmp_path):
    for kind in ("factors", "sram"):
        text = (factors.HERE / f"{kind}_40nm.yaml").read_text()
        (tmp_path / f"{kind}_22nm.yaml").write_text(text.replace("technology_nm: 40", "technology_nm: 22"))
    assert technologies(tmp_path) == [22]
    assert load_technology(22, tmp_path).logic.technology_nm == 22
    (tmp_path / "sram_22nm.yaml").unlink()
    load_technology.cache_clear()
    with pytest.raises(UserError, match=r"sram_22nm\.yaml: no such file"):
        load_technology(22, tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda data: data["primitives"]["add_32"]["energy"].pop("source"), r"add_32\.energy\.source"),
        (lambda data: data["primitives"]["add_32"]["energy"].update(source=""), r"add_32\.energy\.source"),
        (lambda data: data["primitives"]["add_32"]["energy"].update(unit="nJ"), r"add_32\.energy\.unit"),
        (lambda data: data["primitives"]["add_32"]["energy"].update(value=-1), r"add_32\.energy\.value"),
        (lambda data: data["primitives"].pop("shift_32"), r"primitives\.shift_32 is missing"),
        (lambda data: data.update(technology_nm=45), "technology_nm is 45, but the file name says 40"),
    ],
)
def test_a_broken_factor_file_is_refused(tmp_path, change, message):
    data = yaml.safe_load((factors.HERE / "factors_40nm.yaml").read_text())
    change(data)
    (tmp_path / "factors_40nm.yaml").write_text(yaml.safe_dump(data))
    shutil.copy(factors.HERE / "sram_40nm.yaml", tmp_path)
    with pytest.raises(UserError, match=message):
        load_technology(40, tmp_path)
