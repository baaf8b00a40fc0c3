"""A progress bar on stderr, there only when somebody can see it."""

import contextlib
import sys
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn


@contextlib.contextmanager
def progress_bar(what: str) -> Iterator[Callable[[str, float], None]]:
    """A function to call with a text and the share done; it draws on a terminal and does nothing elsewhere."""
    if not sys.stderr.isatty():
        yield lambda text, share: None
        return
    columns = (SpinnerColumn(), TextColumn("{task.description}", markup=False), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(file=sys.stderr), transient=True) as progress:
        task = progress.add_task(what, total=1.0)
        yield lambda text, share: progress.update(task, description=f"{what}: {text}", completed=share)
