"""A finished run's sample pictures, as files among its artifacts."""

import logging
import re

from PIL import Image

from qp_runner.tasks import Task
from qp_runner.tracking import RunFiles

log = logging.getLogger(__name__)

UNSAFE = re.compile(r"[^-.\w]")


def save_pictures(task: Task, files: RunFiles) -> None:
    """Writes what `task.pictures()` makes as `pictures/<name>.png`.

    Pictures are for looking at: whatever goes wrong with them is a warning, since the run's figures are complete.
    """
    try:
        for name, picture in task.pictures().items():
            path = files.file(f"pictures/{UNSAFE.sub('_', name)}.png")
            Image.fromarray(picture.permute(1, 2, 0).contiguous().numpy()).save(path)
    except Exception as error:
        log.warning("the run's pictures could not be kept: %s: %s", type(error).__name__, error)
