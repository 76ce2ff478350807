"""One progress bar for everything that takes more than a few seconds: count, rate, estimate."""

import contextlib
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

import rich.console
import rich.markup
import rich.progress

from uss_jax.separated import Progress

Item = TypeVar("Item")


class _Rate(rich.progress.ProgressColumn):
    def render(self, task: rich.progress.Task) -> str:
        return f"{task.speed:.1f}/s" if task.speed else ""


def _display(*columns: rich.progress.ProgressColumn) -> rich.progress.Progress:
    """On standard error; it says nothing where that is no terminal."""
    console = rich.console.Console(stderr=True)
    return rich.progress.Progress(*columns, console=console, disable=not console.is_terminal)


def bar() -> rich.progress.Progress:
    """A progress display that counts."""
    return _display(
        rich.progress.TextColumn("{task.description}"),
        rich.progress.BarColumn(),
        rich.progress.MofNCompleteColumn(),
        _Rate(),
        rich.progress.TimeRemainingColumn(),
    )


def track(items: Iterable[Item], description: str, total: int) -> Iterator[Item]:
    """Yields the items while a bar shows how far it is."""
    with bar() as display:
        yield from display.track(items, total=total, description=description)


@contextlib.contextmanager
def stages(name: str) -> Iterator[Callable[[Progress], None]]:
    """A bar for each stage of the separation of a recording; the block tells what it is given how far it is."""
    columns = (
        rich.progress.TextColumn("{task.description}"),
        rich.progress.BarColumn(),
        rich.progress.TaskProgressColumn(),
        rich.progress.TimeRemainingColumn(),
    )
    with _display(*columns) as display:
        tasks: dict[str, rich.progress.TaskID] = {}

        def watch(told: Progress) -> None:
            if told.stage not in tasks:
                tasks[told.stage] = display.add_task(rich.markup.escape(f"{name}: {told.stage}"), total=1.0)
            display.update(tasks[told.stage], completed=told.share)

        yield watch


@contextlib.contextmanager
def download(description: str, total: int | None) -> Iterator[Callable[[int, int | None], None]]:
    """A bar in bytes; the block calls what it is given with the bytes so far and the total, if known."""
    columns = (
        rich.progress.TextColumn("{task.description}"),
        rich.progress.BarColumn(),
        rich.progress.DownloadColumn(),
        rich.progress.TransferSpeedColumn(),
        rich.progress.TimeRemainingColumn(),
    )
    with _display(*columns) as display:
        task = display.add_task(description, total=total)
        yield lambda done, known: display.update(task, completed=done, total=known)
