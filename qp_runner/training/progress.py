"""The progress bar of a run: epoch, loss, metric, stage and time left; shown on a terminal only."""

from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from rich.console import Console


class ProgressView(Protocol):
    """Where the trainer reports progress. Called at every step, so every method must be fast."""

    def advance(self, steps: int = 1) -> None:
        """Adds to the number of training steps done."""

    def describe(self, **values: str) -> None:
        """Replaces the named texts (epoch, loss, metric, stage)."""


class Silent:
    """Shows nothing."""

    def advance(self, steps: int = 1) -> None:
        """Does nothing."""

    def describe(self, **values: str) -> None:
        """Does nothing."""


class Bar:
    """A rich progress bar on standard error. Use as a context manager."""

    def __init__(self, *, title: str, total_steps: int, console: "Console | None" = None) -> None:
        from rich.console import Console  # imported here, because a run without a bar does not need it
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeElapsedColumn,
            TimeRemainingColumn,
        )

        console = console or Console(stderr=True)
        texts: dict[str, Any] = {"epoch": "", "loss": "", "metric": "", "stage": ""}
        self._progress = Progress(
            TextColumn("{task.description}", style="bold", markup=False),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[epoch]} {task.fields[loss]} {task.fields[metric]}", markup=False),
            TextColumn("{task.fields[stage]}", style="cyan", markup=False),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal,
            transient=True,
        )
        self._task = self._progress.add_task(title, total=total_steps, **texts)

    def __enter__(self) -> "Bar":
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def advance(self, steps: int = 1) -> None:
        """Adds to the number of training steps done."""
        self._progress.advance(self._task, steps)

    def describe(self, **values: str) -> None:
        """Replaces the named texts (epoch, loss, metric, stage)."""
        fields: dict[str, Any] = dict(values)
        self._progress.update(self._task, **fields)
