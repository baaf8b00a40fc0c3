"""AMBA AXI ports as wiring signatures: AXI4 read master, AXI4 write master, AXI4-Lite slave.

Members are plain signals with the standard's names in lower case. In Verilog, those of a top's member ``m0`` are called
``m0__arvalid`` and so on, those of an array's element ``read__0__arvalid``. cocotbext-axi finds them by the prefix with
one underscore less: ``AxiReadBus.from_prefix(dut, "m0_")``, ``AxiReadBus.from_prefix(dut, "read__0_")``. A top that
wants the usual ``m0_arvalid`` declares plain ports of those names and connects them.

Widths and codes after Arm IHI 0022 (AXI4). An engine port makes accesses of one beat and one ID, and everything but
address and data is constant: :func:`single_beat_reads`, :func:`single_beat_writes`. Responses come in order, so the ID
and the LAST that come back need not be looked at.
"""

from typing import Any

from amaranth.hdl import Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

__all__ = [
    "is_error",
    "lite_slave",
    "read_master",
    "single_beat_reads",
    "single_beat_writes",
    "write_master",
]

BURST_INCR = 1
CACHE_NORMAL = 0b0011  # normal memory, non-cacheable, bufferable: what DRAM is for a master without a cache
PROT_DATA = 0b000  # unprivileged, secure, data


def _address_channel(prefix: str, address_bits: int, id_bits: int) -> dict[str, wiring.Member]:
    return {
        f"{prefix}id": Out(id_bits),
        f"{prefix}addr": Out(address_bits),
        f"{prefix}len": Out(8),
        f"{prefix}size": Out(3),
        f"{prefix}burst": Out(2),
        f"{prefix}cache": Out(4),
        f"{prefix}prot": Out(3),
        f"{prefix}valid": Out(1),
        f"{prefix}ready": In(1),
    }


def read_master(address_bits: int, data_bits: int, id_bits: int = 1) -> wiring.Signature:
    """AR and R of AXI4, directions as the master sees them. ``data_bits``: 8 to 1024, a power of two."""
    return wiring.Signature(
        {
            **_address_channel("ar", address_bits, id_bits),
            "rid": In(id_bits),
            "rdata": In(data_bits),
            "rresp": In(2),
            "rlast": In(1),
            "rvalid": In(1),
            "rready": Out(1),
        }
    )


def write_master(address_bits: int, data_bits: int, id_bits: int = 1) -> wiring.Signature:
    """AW, W and B of AXI4, directions as the master sees them."""
    return wiring.Signature(
        {
            **_address_channel("aw", address_bits, id_bits),
            "wdata": Out(data_bits),
            "wstrb": Out(data_bits // 8),
            "wlast": Out(1),
            "wvalid": Out(1),
            "wready": In(1),
            "bid": In(id_bits),
            "bresp": In(2),
            "bvalid": In(1),
            "bready": Out(1),
        }
    )


def lite_slave(address_bits: int, data_bits: int = 32) -> wiring.Signature:
    """All five channels of AXI4-Lite, directions as the *master* sees them: a slave's port is ``In(lite_slave(...))``.

    ``data_bits``: 32 or 64. Protection bits are left out: the registers are the same for everybody.
    """
    return wiring.Signature(
        {
            "awaddr": Out(address_bits),
            "awvalid": Out(1),
            "awready": In(1),
            "wdata": Out(data_bits),
            "wstrb": Out(data_bits // 8),
            "wvalid": Out(1),
            "wready": In(1),
            "bresp": In(2),
            "bvalid": In(1),
            "bready": Out(1),
            "araddr": Out(address_bits),
            "arvalid": Out(1),
            "arready": In(1),
            "rdata": In(data_bits),
            "rresp": In(2),
            "rvalid": In(1),
            "rready": Out(1),
        }
    )


def _single_beat(port: Any, prefix: str, data_bits: int) -> list[Any]:
    constants = {
        "id": 0,
        "len": 0,  # beats - 1
        "size": (data_bits // 8).bit_length() - 1,  # log2 of the bytes of a beat
        "burst": BURST_INCR,
        "cache": CACHE_NORMAL,
        "prot": PROT_DATA,
    }
    return [getattr(port, prefix + name).eq(value) for name, value in constants.items()]


def single_beat_reads(port: Any) -> list[Any]:
    """What never changes on a read master (an interface of :func:`read_master`) whose reads are one whole beat each."""
    return _single_beat(port, "ar", len(port.rdata))


def single_beat_writes(port: Any) -> list[Any]:
    """What never changes on a write master whose writes are one beat each; the strobes are the caller's."""
    return [*_single_beat(port, "aw", len(port.wdata)), port.wlast.eq(1)]


def is_error(response: Value) -> Value:
    """Whether ``rresp`` or ``bresp`` is SLVERR or DECERR."""
    return response[1]
