"""Lines, fetched queries and handed-on sums of causal rows, tile by tile; retention's parallel and chunkwise forms."""

from typing import NamedTuple

import numpy as np

from accel.arch import Arch
from accel.lower.attention import parts


class CausalWork(NamedTuple):
    """Of one head of one column block: ``lines`` of either array, ``query_rows`` fetched (a row once per tile that it
    sees), ``handed_on``: rows whose sums go through memory to the next tile; ``tiles`` of keys.
    """

    lines: int
    query_rows: int
    handed_on: int
    tiles: int


def causal_work(arch: Arch, length: int, dim: int, window: int | None = None) -> CausalWork:
    """Row n sees keys n - window + 1 ... n (all before it with None), in tiles of what the SRAMs hold."""
    tile, per_line = arch.tile_keys(dim), arch.keys_per_line(dim)
    lines = rows_fetched = handed_on = 0
    for part in parts(length, length, tile, 0):
        rows = part.first_query + np.arange(part.queries)
        last = np.minimum(rows, part.first_key + part.keys - 1)
        first = np.maximum(part.first_key, 0 if window is None else rows - window + 1)
        keys = np.maximum(0, last - first + 1)
        lines += int((-(-keys // per_line)).sum())
        rows_fetched += int((keys > 0).sum())
        handed_on += 0 if part.ends else int((keys > 0).sum())
    return CausalWork(lines * arch.pv_fold(dim), rows_fetched, handed_on, -(-length // tile))
