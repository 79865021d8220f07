"""Process-wide settings that decide a run's numbers: random generators, torch's numerics, the device."""

import os
import random
from typing import Any

import numpy as np
import torch
from threadpoolctl import threadpool_limits

TORCHS_THREADS = torch.get_num_threads()
"""The number of CPU threads that torch chooses by itself."""


def seed_everything(seed: int) -> None:
    """Seeds the global generators of Python, NumPy (the legacy one) and torch on every device."""
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002 - third-party code may draw from the legacy global state
    torch.manual_seed(seed)


def generator_states(device: torch.device) -> dict[str, Any]:
    """The states of the global generators: torch's on the CPU and on `device`, Python's, NumPy's legacy one."""
    version, numbers, gauss = random.getstate()
    legacy: Any = np.random.get_state(legacy=True)  # noqa: NPY002
    name, keys, position, has_gauss, cached = legacy
    return {
        "cpu": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state(device) if device.type == "cuda" else None,
        "python": [version, torch.tensor(numbers), gauss],
        "numpy": [str(name), torch.from_numpy(keys.astype(np.int64)), int(position), int(has_gauss), float(cached)],
    }


def set_generator_states(states: dict[str, Any], device: torch.device) -> None:
    """Restores what `generator_states` gave."""
    torch.set_rng_state(states["cpu"])
    if states["cuda"] is not None:
        torch.cuda.set_rng_state(states["cuda"], device)
    version, numbers, gauss = states["python"]
    random.setstate((version, tuple(numbers.tolist()), gauss))
    name, keys, *rest = states["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), *rest))  # noqa: NPY002


def set_numerics(*, deterministic: bool, threads: int | None, tf32: bool = False) -> None:
    """Sets whether torch uses deterministic kernels, how many CPU threads it has (None: its own choice), and TF32.

    `tf32` lets a GPU round the inputs of float32 convolutions and matrix products to 10 bits of mantissa. Since the
    jobs of a sweep share a process, every setting is written each time.
    """
    if deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # without it cuBLAS is not deterministic
    torch.use_deterministic_algorithms(deterministic, warn_only=True)
    torch.backends.cudnn.benchmark = not deterministic
    torch.backends.cudnn.deterministic = deterministic
    torch.backends.cudnn.allow_tf32 = tf32
    torch.backends.cuda.matmul.allow_tf32 = tf32
    set_threads(threads)


def set_threads(threads: int | None) -> None:
    """Sets how many CPU threads torch and the libraries below NumPy and SciPy use; None for torch's own choice."""
    count = TORCHS_THREADS if threads is None else threads
    torch.set_num_threads(count)
    threadpool_limits(count)


def choose_device(name: str) -> torch.device:
    """A torch device; `auto` is a GPU if there is one, else the CPU. Raises ValueError for CUDA without a GPU."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise ValueError("this machine has no CUDA device that torch can use; allowed here: auto, cpu")
    return torch.device(name)
