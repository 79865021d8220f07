"""A schedule's figure as a file."""

import io
from functools import lru_cache
from pathlib import Path

from qp_runner.schedule import Stage


def save_schedule(path: Path, stages: tuple[Stage, ...], steps_per_epoch: int, title: str) -> None:
    """Writes `schedule_figure` as PNG."""
    path.write_bytes(_png(stages, steps_per_epoch, title))


@lru_cache(maxsize=64)
def _png(stages: tuple[Stage, ...], steps_per_epoch: int, title: str) -> bytes:
    """Cached, since drawing takes 0.1 s and the seeds of a sweep share it."""
    from qp_runner.report.schedule_figure import schedule_figure  # imports matplotlib

    buffer = io.BytesIO()
    schedule_figure(stages, steps_per_epoch=steps_per_epoch, title=title).savefig(buffer, dpi=150)
    return buffer.getvalue()
