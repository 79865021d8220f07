"""What a processor offers, and what a file's compression would save: figures that stand beside times and sizes."""

import platform
import statistics
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

FLAGS = ("avx2", "avx512f", "avx_vnni", "avx512_vnni", "amx_int8", "asimddp", "i8mm")
"""What integer kernels use, as Linux names it."""

ZSTD_LEVEL = 19
REPEATS, WARMING = 30, 3


def processor() -> str:
    """The processor's name, and which of `FLAGS` it has."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return platform.processor() or platform.machine()
    lines = dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
    known = {name.strip(): value.strip() for name, value in lines.items()}
    given = known.get("flags", known.get("Features", "")).split()
    return f"{known.get('model name', platform.machine())} ({' '.join(f for f in FLAGS if f in given) or 'no flags'})"


def zstd_size(path: Path) -> int | None:
    """A file's size after zstd; None where `zstandard` is not installed."""
    if find_spec("zstandard") is None:
        return None
    import zstandard

    return len(zstandard.ZstdCompressor(level=ZSTD_LEVEL).compress(path.read_bytes()))


def milliseconds(calls: list[Callable[[], object]]) -> list[float]:
    """The median time of each call; they take turns, so that what disturbs the machine disturbs all."""
    times: list[list[float]] = [[] for _ in calls]
    for repeat in range(WARMING + REPEATS):
        for call, taken in zip(calls, times, strict=True):
            start = time.perf_counter()
            call()
            if repeat >= WARMING:
                taken.append(1000 * (time.perf_counter() - start))
    return [statistics.median(taken) for taken in times]
