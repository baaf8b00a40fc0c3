"""The bytes of memory that attend jobs read, and the rows that they leave there."""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from accel.arch import Arch
from accel.errors import UserError
from accel.lower.records import pack_lsb, pack_rows
from accel.numerics.quantise import WORD_BITS, split_planes
from accel.program import Flag, Fused, Jobs, Mode, Opcode, Side, records_of
from accel.units.fetcher import record_bytes, row_stride_bytes
from accel.units.softmax import OUTPUT_BITS

PAGE_BYTES = 4096
Words = NDArray[np.int16]


class Tensors(Protocol):
    """12-bit words (int16) of one attend job: ``q`` (rows, dim); ``k_msb``, ``k_full``, ``v`` (tokens, dim) by token
    number. :class:`sim.values.JobTensors` is one. Of mode STATE all are (tokens, dim), and ``decays`` are decay words.
    """

    @property
    def q(self) -> Words: ...
    @property
    def k_msb(self) -> Words: ...
    @property
    def k_full(self) -> Words: ...
    @property
    def v(self) -> Words: ...
    @property
    def decays(self) -> Words | None: ...


class Memory:
    """Bytes by address, in pages that exist once something is written to them; all other bytes are 0."""

    def __init__(self) -> None:
        self._pages: dict[int, bytearray] = {}

    def read(self, address: int, size: int) -> bytes:
        """``size`` bytes from ``address`` on."""
        page, at = divmod(address, PAGE_BYTES)
        if at + size <= PAGE_BYTES:
            held = self._pages.get(page)
            return bytes(held[at : at + size]) if held is not None else bytes(size)
        first = PAGE_BYTES - at
        return self.read(address, first) + self.read(address + first, size - first)

    def write(self, address: int, data: bytes, strobes: int = -1) -> None:
        """Store ``data`` from ``address`` on; byte i only if bit i of ``strobes`` is set."""
        everything = (1 << len(data)) - 1
        if strobes & everything != everything:
            old = self.read(address, len(data))
            data = bytes(new if strobes >> i & 1 else was for i, (new, was) in enumerate(zip(data, old, strict=True)))
        while data:
            page, at = divmod(address, PAGE_BYTES)
            part = data[: PAGE_BYTES - at]
            self._pages.setdefault(page, bytearray(PAGE_BYTES))[at : at + len(part)] = part
            address, data = address + len(part), data[len(part) :]

    def copy(self) -> "Memory":
        """A memory of its own with the same bytes."""
        other = Memory()
        other._pages = {page: bytearray(held) for page, held in self._pages.items()}
        return other

    def save(self, path: Path) -> None:
        """Write all pages to a .npz file."""
        held = np.frombuffer(b"".join(self._pages.values()), np.uint8).reshape(-1, PAGE_BYTES)
        np.savez(path, numbers=np.array(list(self._pages), np.int64), pages=held)

    @staticmethod
    def load(path: Path) -> "Memory":
        """Inverse of :meth:`save`."""
        memory = Memory()
        with np.load(path, allow_pickle=False) as file:
            for page, held in zip(file["numbers"].tolist(), file["pages"], strict=True):
                memory._pages[page] = bytearray(held.tobytes())
        return memory


class _Image:
    """A memory under construction: a byte may be given again, but not another value."""

    def __init__(self) -> None:
        self.memory, self.given = Memory(), Memory()

    def place(self, what: str, address: int, stride: int, rows: NDArray[np.uint8]) -> None:
        """Row i of ``rows`` to ``address + i * stride``."""
        size = rows.shape[1]
        for i, row in enumerate(rows):
            at, data = address + i * stride, row.tobytes()
            if given := int.from_bytes(self.given.read(at, size), "little"):
                differs = int.from_bytes(self.memory.read(at, size), "little") ^ int.from_bytes(data, "little")
                if differs & given:
                    byte = at + ((differs & given & -(differs & given)).bit_length() - 1) // 8
                    raise UserError(f"memory image: {what}, row {i}: byte {byte:#x} holds another value already")
            self.memory.write(at, data)
            self.given.write(at, b"\xff" * size)


def memory_image(arch: Arch, jobs: Jobs, tensors: Sequence[Tensors]) -> Memory:
    """Memory as the engine must find it to work on ``tensors``, one entry per attend job of ``jobs``.

    What is stored are integers of the jobs' widths, so words may only have bits that their width can hold. Of planes
    10+4, which have two bits more than a word, the last two are 0.

    Raises:
        UserError: a tensor of another shape than its job, a word with bits below its width, an MSB word that is not the
            full one's, or two tensors that want different values in one byte.
    """
    attend = jobs[jobs["opcode"] == Opcode.ATTEND]
    if len(attend) != len(tensors):
        raise UserError(f"memory image: {len(tensors)} sets of tensors for {len(attend)} attend jobs")
    image, atom = _Image(), arch.memory_spec.access_bytes
    placed: set[tuple[int, int]] = set()  # (address, array): decode steps bring the same K and V again and again
    for number, (job, of) in enumerate(zip(attend, tensors, strict=True)):
        where = f"attend job {number}"
        dim, rows = int(job["head_dim"]), int(job["queries"]) * int(job["group"])
        msb_bits, lsb_bits, value_bits = (int(job[name]) for name in ("msb_bits", "lsb_bits", "value_bits"))
        if of.q.shape != (rows, dim) or {of.k_msb.shape[1:], of.k_full.shape[1:], of.v.shape[1:]} != {(dim,)}:
            raise UserError(f"memory image: {where}: tensors must be of {rows} rows and {dim} dimensions")
        if job["mode"] == Mode.STATE:
            _place_tokens(image, where, job, of)
            continue
        image.place(f"{where}, q", int(job["q_address"]), int(job["q_stride"]), pack_rows(of.q, WORD_BITS))
        has_k = job["mode"] != Mode.LINEAR
        if has_k and _new(placed, int(job["k_msb_address"]) + _side(job), of.k_msb):
            _place_msb(image, f"{where}, k_msb", job, _stored(where, "k_msb", of.k_msb, msb_bits), atom)
        if has_k and lsb_bits and _new(placed, int(job["k_lsb_address"]), of.k_full):
            full = _stored(where, "k_full", of.k_full, msb_bits + lsb_bits)
            upper, lower = split_planes(full, lsb_bits)
            if (upper != _stored(where, "k_msb", of.k_msb, msb_bits)).any():
                raise UserError(f"memory image: {where}: k_msb is not the upper {msb_bits} bits of k_full")
            stride = row_stride_bytes(dim, lsb_bits, atom)
            image.place(f"{where}, k_lsb", int(job["k_lsb_address"]), stride, pack_lsb(lower, lsb_bits))
        if _new(placed, int(job["v_address"]), of.v):
            stride = row_stride_bytes(dim, value_bits, atom)
            stored = _stored(where, "v", of.v, value_bits)
            image.place(f"{where}, v", int(job["v_address"]), stride, pack_rows(stored, value_bits))
    return image.memory


def _place_tokens(image: _Image, where: str, job: NDArray, of: Tensors) -> None:
    """Records of a state job: of each token k, v, its decay words and q."""
    words = {"k": of.k_full, "v": of.v}
    if of.decays is not None:
        unsigned = of.decays.astype(np.int64)
        words["decays"] = np.where(unsigned >> WORD_BITS - 1, unsigned - (1 << WORD_BITS), unsigned).astype(np.int16)
    words["q"] = of.q
    if len(words) != records_of(job) or any(tensor.shape != of.q.shape for tensor in words.values()):
        raise UserError(f"memory image: {where}: {records_of(job)} tensors of {of.q.shape} are due in mode state")
    stride = int(job["q_stride"])
    for number, (name, tensor) in enumerate(words.items()):
        address = int(job["q_address"]) + number * stride
        image.place(f"{where}, {name}", address, len(words) * stride, pack_rows(tensor, WORD_BITS))


def _new(placed: set[tuple[int, int]], address: int, array: Words) -> bool:
    key = (address, id(array))
    known = key in placed
    placed.add(key)
    return not known


def _side(job: NDArray) -> int:
    """0 and 1: first and second head of a pair, -1: alone."""
    if job["fused"] != Fused.SINGLE:
        return 0 if job["fused"] == Fused.FIRST else 1
    return int(job["side"]) - int(Side.FIRST)


def _stored(where: str, what: str, words: Words, bits: int) -> Words:
    """The integers of ``bits`` whose words these are."""
    if bits >= WORD_BITS:
        return words << (bits - WORD_BITS)
    if (words & ((1 << WORD_BITS - bits) - 1)).any():
        raise UserError(f"memory image: {where}: {what} has words with bits below its {bits}")
    return words >> (WORD_BITS - bits)


def _place_msb(image: _Image, what: str, job: NDArray, stored: Words, atom: int) -> None:
    """K rows of a head alone, or its share of a pair's rows: nibble planes of both heads, then both crumb planes."""
    dim, bits, address, side = int(job["head_dim"]), int(job["msb_bits"]), int(job["k_msb_address"]), _side(job)
    records = pack_rows(stored, bits)
    if side < 0:
        image.place(what, address, row_stride_bytes(dim, bits, atom), records)
        return
    stride = row_stride_bytes(dim, bits, atom, 2)
    nibbles = record_bytes(dim, bits // 4 * 4)
    crumbs = record_bytes(dim, bits) - nibbles
    image.place(what, address + side * nibbles, stride, records[:, :nibbles])
    image.place(what, address + 2 * nibbles + side * crumbs, stride, records[:, nibbles:])


def read_outputs(memory: Memory, jobs: Jobs) -> list[Words]:
    """What lies at the output rows of each attend job, int16 (rows, dim); no rows for a tile that is not the last.

    Later jobs may have written over the rows of earlier ones, and a job of a pruned head writes none.
    """
    out: list[Words] = []
    for job in jobs[jobs["opcode"] == Opcode.ATTEND]:
        dim, rows = int(job["head_dim"]), int(job["queries"]) * int(job["group"])
        rows = rows if job["flags"] & Flag.LAST_TILE else 0
        address, stride = int(job["output_address"]), int(job["output_stride"])
        data = b"".join(memory.read(address + r * stride, dim * OUTPUT_BITS // 8) for r in range(rows))
        out.append(np.frombuffer(data, "<i2").astype(np.int16).reshape(rows, dim))
    return out
