"""qp_runner: in which order, and when, should pruning and quantization enter training?"""

import getpass
import os
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from qp_runner.compress import Compressor
    from qp_runner.run.loading import Loaded, load
    from qp_runner.schedule import Schedule

__all__ = ["Compressor", "Loaded", "Schedule", "load"]

__version__ = "0.1.0"

HOMES = {
    "Compressor": "qp_runner.compress",
    "Loaded": "qp_runner.run.loading",
    "Schedule": "qp_runner.schedule",
    "load": "qp_runner.run.loading",
}

try:
    getpass.getuser()
except (KeyError, OSError):  # a container's user without a name, for which torch can't be imported
    os.environ["USER"] = str(os.getuid())


def __getattr__(name: str) -> object:
    """What this package offers as a library; imported when asked for, since a command needs only parts of it."""
    if name not in HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(HOMES[name]), name)
