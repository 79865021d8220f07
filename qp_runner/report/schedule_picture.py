"""A schedule's picture as the bytes of a file."""

import io
from functools import lru_cache

from qp_runner.schedule import Stage


@lru_cache(maxsize=64)
def schedule_png(stages: tuple[Stage, ...], steps_per_epoch: int, title: str) -> bytes:
    """The picture of `schedule_figure` as PNG. Drawing takes a tenth of a second, and a sweep's seeds share it."""
    from qp_runner.report.schedule_figure import schedule_figure  # here, for whoever draws imports matplotlib

    buffer = io.BytesIO()
    schedule_figure(stages, steps_per_epoch=steps_per_epoch, title=title).savefig(buffer, dpi=150)
    return buffer.getvalue()
