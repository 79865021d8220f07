"""Many files read side by side, with a progress bar, and digests of what they contain."""

import hashlib
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from qp_runner.errors import ConfigError

T = TypeVar("T")
Status = tuple[int, int, int]
"""A file's place on disk, size and time of change."""

PATIENCE_S = 1.0  # before a bar is shown
FILES, BYTES = 100_000, 1 << 30
"""Of a data set of which every file is read to digest it: more take too long at every start."""

_digests: dict[bytes, str] = {}
_bars = True


def show_bars(shown: bool) -> None:
    """Whether this process shows bars from now on, where standard error is a terminal."""
    global _bars
    _bars = shown


def side_by_side(read: Callable[[int], T], count: int, *, what: str) -> list[T]:
    """What `read` returns for 0 to count - 1, called in several threads."""
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        return list(_watched(pool.map(read, range(count)), total=count, what=what))


def status(path: Path | str, *, key: str) -> Status:
    """What changes with a file's content. ConfigError, of this key, for a file that has gone."""
    try:
        found = os.stat(path)  # noqa: PTH116 - a Path for each of many files takes longer than asking for all of them
    except OSError as error:
        raise ConfigError(key, str(path), f"can't be read: {error}") from error
    return found.st_ino, found.st_size, found.st_mtime_ns


def file_digest(path: Path, *, key: str) -> str:
    """Of a file's content; its name does not count. It is read again only where it is not what this process read."""
    return _digest([str(path)], [status(path, key=key)], key)


def files_digest(paths: Sequence[str], *, key: str) -> str:
    """Of the content of a data set's files, in this order; names don't count.

    They are read again only where one is not what this process read before (see `status`). Of more than `FILES`, or
    more than `BYTES`, none is read: sizes and times count.
    """
    found = [status(path, key=key) for path in paths]
    if len(found) > FILES or sum(size for _, size, _ in found) > BYTES:
        return hashlib.blake2b(repr([each[1:] for each in found]).encode()).hexdigest()
    return _digest(paths, found, key)


def _digest(paths: Sequence[str], found: Sequence[Status], key: str) -> str:
    known = hashlib.blake2b(repr([*zip(paths, found, strict=True)]).encode()).digest()
    if known not in _digests:
        contents = side_by_side(lambda index: _content(paths[index], key), len(paths), what="reading files once")
        _digests[known] = hashlib.blake2b(b"".join(contents)).hexdigest()
    return _digests[known]


def _content(path: str, key: str) -> bytes:
    try:
        with Path(path).open("rb") as file:
            return hashlib.file_digest(file, "blake2b").digest()
    except OSError as error:
        raise ConfigError(key, path, f"can't be read: {error}") from error


def _watched(items: Iterable[T], *, total: int, what: str) -> Iterator[T]:
    """The items. On a terminal, a bar on standard error shows how many of `total` there have been (see `show_bars`)."""
    if not (_bars and sys.stderr.isatty()):
        yield from items
        return
    from rich.console import Console  # imported here, because most runs need no bar
    from rich.progress import Progress

    bar, started, shown = Progress(console=Console(stderr=True), transient=True), time.monotonic(), False
    task = bar.add_task(what, total=total)
    try:
        for item in items:
            yield item
            bar.advance(task)
            if not shown and time.monotonic() - started > PATIENCE_S:
                bar.start()
                shown = True
    finally:
        if shown:
            bar.stop()
