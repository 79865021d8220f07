"""Jobs that run side by side on one machine each take a GPU of their own, as long as there is one."""

import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from qp_runner.config import Config
from qp_runner.locking import try_lock


@contextmanager
def reserve_gpu(config: Config, launch_index: int) -> Iterator[Config]:
    """Lock one free GPU for this job; if none is free, choose by launch index. Yields the configuration that names it.

    A device that the configuration names itself stays.
    """
    count = torch.cuda.device_count()
    if config.trainer.device != "auto" or count < 2:
        yield config
        return
    locks = ((gpu, try_lock(_lock_file(gpu))) for gpu in range(count))
    gpu, lock = next((each for each in locks if each[1] is not None), (launch_index % count, None))
    try:
        yield config.model_copy(update={"trainer": config.trainer.model_copy(update={"device": f"cuda:{gpu}"})})
    finally:
        if lock is not None:
            lock.release()


def _lock_file(gpu: int) -> Path:
    """One file for each GPU and user. Processes that see only some of the GPUs number them otherwise."""
    visible = [each for each in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if each]
    name = re.sub(r"\W", "_", visible[gpu] if gpu < len(visible) else str(gpu))
    return Path(tempfile.gettempdir()) / f"qp_runner-{getattr(os, 'getuid', int)()}-gpu-{name}.lock"
