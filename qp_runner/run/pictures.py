"""A finished run's sample pictures, as files among its artifacts."""

import logging
import re
import tempfile
from pathlib import Path

from PIL import Image

from qp_runner.tasks import Task
from qp_runner.tracking import Tracker

log = logging.getLogger(__name__)

FOLDER = "pictures"
UNSAFE = re.compile(r"[^-.\w]")


def save_pictures(task: Task, tracker: Tracker) -> None:
    """Hands what `task.pictures()` makes to the tracker, as `pictures/<name>.png`.

    Pictures are for looking at: whatever goes wrong with them is a warning, since the run's figures are complete.
    """
    try:
        with tempfile.TemporaryDirectory() as folder:
            for name, picture in task.pictures().items():
                path = Path(folder) / f"{UNSAFE.sub('_', name)}.png"
                Image.fromarray(picture.permute(1, 2, 0).contiguous().numpy()).save(path)
                tracker.artifact(path, FOLDER)
    except Exception as error:
        log.warning("the run's pictures could not be kept: %s: %s", type(error).__name__, error)
