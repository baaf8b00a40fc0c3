"""Cycle-level simulator in numba: one file per hardware unit, named as in ``rtl``.

Compiled code is cached per *state of the sources*. Numba alone looks only at the file of the function itself, so
after a change in ``sim/dram.py`` it would go on running the old memory inside ``sim/engine.py``. The cache therefore
lies in a folder named by a hash of everything that is compiled in; set ``NUMBA_CACHE_DIR`` to put it elsewhere.
"""

import hashlib
import os
import shutil
from pathlib import Path

import numba

_KEPT_CACHES = 16


def _cache_folder() -> Path:
    root = Path(__file__).parent.parent
    digest = hashlib.sha256()
    for folder in ("sim", "accel/units", "accel/numerics"):
        for path in sorted((root / folder).rglob("*.py")):
            digest.update(path.read_bytes())
    base = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "accel" / "compiled"
    cache = base / digest.hexdigest()[:16]
    if not cache.is_dir():
        try:
            cache.mkdir(parents=True, exist_ok=True)
            oldest_first = sorted(base.iterdir(), key=lambda p: p.stat().st_mtime)
            for old in oldest_first[:-_KEPT_CACHES]:
                shutil.rmtree(old, ignore_errors=True)
        except OSError:
            pass  # read-only home: numba falls back or compiles anew each time
    return cache


if "NUMBA_CACHE_DIR" not in os.environ:
    numba.config.CACHE_DIR = str(_cache_folder())  # type: ignore[attr-defined]
