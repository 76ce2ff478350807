"""One progress bar for everything that takes more than a few seconds: count, rate, estimate."""

from collections.abc import Iterable, Iterator
from typing import TypeVar

import rich.console
import rich.progress

Item = TypeVar("Item")


class _Rate(rich.progress.ProgressColumn):
    def render(self, task: rich.progress.Task) -> str:
        return f"{task.speed:.1f}/s" if task.speed else ""


def bar() -> rich.progress.Progress:
    """A progress display on standard error; it says nothing where that is no terminal."""
    console = rich.console.Console(stderr=True)
    return rich.progress.Progress(
        rich.progress.TextColumn("{task.description}"),
        rich.progress.BarColumn(),
        rich.progress.MofNCompleteColumn(),
        _Rate(),
        rich.progress.TimeRemainingColumn(),
        console=console,
        disable=not console.is_terminal,
    )


def track(items: Iterable[Item], description: str, total: int) -> Iterator[Item]:
    """Yields the items while a bar shows how far it is."""
    with bar() as display:
        yield from display.track(items, total=total, description=description)
