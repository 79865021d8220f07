"""Jobs that run side by side on one machine each take a GPU of their own, as long as there is one."""

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from qp_runner.config import Config
from qp_runner.locking import try_lock

MPS = "nvidia-cuda-mps-control"  # of CUDA's Multi-Process Service


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


def advice(config: Config, at_once: int) -> str:
    """What a person may do where so many jobs at once share a GPU, in one line; empty if there is nothing to say.

    Without CUDA's Multi-Process Service only one process at a time has kernels on a GPU.
    """
    device = config.trainer.device
    gpus = torch.cuda.device_count() if device == "auto" else int(device.startswith("cuda"))
    if not 0 < gpus < at_once or shutil.which(MPS) is None or _serves():
        return ""
    where = "the GPU" if gpus == 1 else f"{gpus} GPUs"
    return f"{at_once} jobs at once take turns on {where}; they run side by side once `{MPS} -d` was called"


def _serves() -> bool:
    """Whether the Multi-Process Service runs; true where it can't be asked, as there is no advice to give then."""
    try:
        asked = subprocess.run([MPS], input="get_server_list\n", capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return True
    return asked.returncode == 0 and "cannot find" not in (asked.stdout + asked.stderr).lower()


def _lock_file(gpu: int) -> Path:
    """One file for each GPU and user. Processes that see only some of the GPUs number them otherwise."""
    visible = [each for each in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if each]
    name = re.sub(r"\W", "_", visible[gpu] if gpu < len(visible) else str(gpu))
    return Path(tempfile.gettempdir()) / f"qp_runner-{getattr(os, 'getuid', int)()}-gpu-{name}.lock"
