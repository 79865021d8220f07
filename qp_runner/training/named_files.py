"""The files that texts name: a path in an object's attribute stands for what lies there."""

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

MOST = 100_000  # in folders, all together


class NamedFiles:
    """Finds them for one object.

    Attributes:
        walk_folders: whether a folder stands for all files in it, or for nothing.
        named: the number of files found by their own names, those in folders left out.
    """

    def __init__(self) -> None:
        self.walk_folders = True
        self.named = 0
        self._in_folders = 0

    @property
    def too_many(self) -> bool:
        """Whether folders held more than `MOST` files, so that some were not looked at."""
        return self._in_folders > MOST

    def of(self, text: str) -> Iterator[tuple[str, int, int]]:
        """Name, size in bytes and time in nanoseconds of the file, or of all files of the folder, that a text names.

        None of `/` and the home folder, which texts name by chance.
        """
        with suppress(OSError, ValueError, RuntimeError):  # too long, of odd characters, another user's home
            place = Path(text).expanduser()
            if place.is_file():
                self.named += 1
                yield _described(place, place.name)
            elif self.walk_folders and place.is_dir() and place.resolve() not in (Path("/"), Path.home()):
                for folder, folders, names in os.walk(place):
                    folders.sort()
                    for each in sorted(names):
                        self._in_folders += 1
                        if self.too_many:
                            return
                        yield _described(Path(folder, each), Path(folder, each).relative_to(place).as_posix())


def _described(place: Path, name: str) -> tuple[str, int, int]:
    status = place.stat()
    return name, status.st_size, status.st_mtime_ns
