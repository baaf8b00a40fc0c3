"""Weights out of a CTranslate2 file (`model.bin`), version 6. No library but CTranslate2's own engine reads it.

Layout, little-endian (CTranslate2, python/ctranslate2/specs/model_spec.py): version u32, name of the architecture,
revision u32; number of variables u32, and for each one its name, rank u8, sizes u32, type u8, bytes u32, data
row-major; number of aliases u32, and for each one its name and the variable's. A text is its length u16 and that many
bytes, a zero byte at the end included.
"""

import struct
from pathlib import Path

import numpy as np

from accel.errors import UserError
from workloads.nets.tensor_file import NamedTensors

VERSION = 6
# Type numbers of the file; 5, bfloat16, is not supported.
TYPES = {0: "<f4", 1: "<i1", 2: "<i2", 3: "<i4", 4: "<f2"}


def read_ctranslate2(path: Path, architecture: str, network: str) -> NamedTensors:
    """All variables of the file, aliases under both names. Raises UserError when it is damaged or holds another model.

    The arrays look into the file's bytes; `NamedTensors.take` makes float32 copies of them.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error
    reader = _Reader(data)
    try:
        version, found = reader.number("I"), reader.text()
        if version != VERSION or found != architecture:
            raise UserError(
                f"{path}: version {version} of {found!r}; supported is version {VERSION} of {architecture!r}"
            )
        reader.number("I")  # revision of the architecture: later ones add variables
        arrays = dict(reader.variable() for _ in range(reader.number("I")))
        for _ in range(reader.number("I")):
            alias = reader.text()
            arrays[alias] = arrays[reader.text()]
    except (struct.error, ValueError, KeyError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not a readable CTranslate2 file, perhaps cut short ({error})") from error
    return NamedTensors(path, arrays, network)


class _Reader:
    def __init__(self, data: bytes) -> None:
        self._data, self._place = data, 0

    def number(self, code: str) -> int:
        (value,) = struct.unpack_from(f"<{code}", self._data, self._place)
        self._place += struct.calcsize(f"<{code}")
        return int(value)

    def _bytes(self, count: int) -> memoryview:
        if self._place + count > len(self._data):
            raise ValueError(f"{count} bytes at {self._place}, but the file has {len(self._data)}")
        self._place += count
        return memoryview(self._data)[self._place - count : self._place]

    def text(self) -> str:
        return bytes(self._bytes(self.number("H"))).rstrip(b"\0").decode("utf-8")

    def variable(self) -> tuple[str, np.ndarray]:
        name = self.text()
        shape = [self.number("I") for _ in range(self.number("B"))]
        kind = TYPES[self.number("B")]
        return name, np.frombuffer(self._bytes(self.number("I")), dtype=kind).reshape(shape)
