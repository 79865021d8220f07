"""Random state: what a run draws from is a function of its seed alone."""

import os
import random

import numpy as np
import torch


def seed_everything(seed: int) -> None:
    """Seeds Python, NumPy (its legacy global state) and torch on every device."""
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002 - third-party code may draw from the legacy global state
    torch.manual_seed(seed)


def set_numerics(*, deterministic: bool, threads: int | None, tf32: bool = False) -> None:
    """Makes torch choose reproducible kernels (or lets it choose freely) and bounds its CPU threads.

    `tf32` lets a GPU round the factors of float32 convolutions and matrix products to 10 bits, as torch does for
    convolutions unless told otherwise. Jobs of a sweep share a process, so all settings are written in full each time.
    """
    if deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS needs it to repeat its results
    torch.use_deterministic_algorithms(deterministic, warn_only=True)
    torch.backends.cudnn.benchmark = not deterministic
    torch.backends.cudnn.deterministic = deterministic
    torch.backends.cudnn.allow_tf32 = tf32
    torch.backends.cuda.matmul.allow_tf32 = tf32
    if threads is not None:
        torch.set_num_threads(threads)


def choose_device(name: str) -> torch.device:
    """`auto` is the first GPU where there is one, else the CPU; a GPU that is absent raises ValueError."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise ValueError("this machine has no CUDA device that torch can use; allowed here: auto, cpu")
    return torch.device(name)
