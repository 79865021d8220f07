"""Starts the process that brings a command's runs into MLflow, and waits for it at the end.

Importing MLflow and making a store take seconds, and writing to it takes time from the interpreter that prepares the
next training step. In a process of its own that happens on another core, and what goes wrong there can't hurt a run.
"""

import json
import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from qp_runner.errors import ConfigError
from qp_runner.masking import masked, revealed

log = logging.getLogger(__name__)

SHORT_S = 5.0  # that a command's end takes without a word about it


class Follower:
    """The process, seen from the command that started it; no process where no store is used."""

    def __init__(self, uri: str | None, process: "subprocess.Popen[str] | None") -> None:
        self._uri, self._process, self._checked = uri, process, False

    def follow(self, folder: Path) -> None:
        """Has the runs in a folder and below it brought into MLflow from now on."""
        self._send(str(folder.resolve()))

    def check(self) -> None:
        """Waits until the store is known to be ready. Raises ConfigError (`tracking.uri`) where it can't be used."""
        if self._process is None or self._checked:
            return
        answer = _pipe(self._process.stdout).readline()
        reason = json.loads(answer).get("error") if answer else "an MLflow store that can be opened (its process died)"
        if reason is not None:
            raise ConfigError("tracking.uri", self._uri and masked(self._uri), reason)
        self._checked = True

    def _send(self, line: str) -> None:
        if self._process is not None:
            with suppress(OSError):  # it may have died; `check` and `close` see that
                _pipe(self._process.stdin).write(f"{line}\n")
                _pipe(self._process.stdin).flush()

    def close(self) -> None:
        """Says that the command has ended, and waits until the process has brought everything."""
        if self._process is None:
            return
        with suppress(OSError):
            _pipe(self._process.stdin).close()
        try:
            self._process.wait(SHORT_S)
        except subprocess.TimeoutExpired:
            print("qp-runner: bringing the rest into MLflow; Ctrl-C leaves that to the background", file=sys.stderr)
            self._process.wait()
        _pipe(self._process.stdout).close()
        if self._process.returncode and self._checked:
            log.warning("the process that follows the runs has died: the next command brings what MLflow lacks")


@contextmanager
def following(uri: str | None, *, experiment: str, results: Path) -> Iterator[Follower]:
    """Within, a process brings the runs of a folder (see `Follower.follow`) into the store at `uri`; at the end, all is
    there.

    It also brings what earlier commands have left below `results`. Its session is its own, so that Ctrl-C reaches the
    command alone; Ctrl-C while the command waits for it leaves it to finish by itself.
    """
    follower = Follower(uri, None if uri is None else _start())
    address = None if uri is None else revealed(uri)
    follower._send(json.dumps({"uri": address, "experiment": experiment, "results": str(results.resolve())}))
    try:
        yield follower
    finally:
        with suppress(KeyboardInterrupt):
            follower.close()


def _start() -> "subprocess.Popen[str]":
    """Starts the process: `-P`, since files in the working folder must not hide modules."""
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "qp_runner.tracking.follow"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in sys.path)},  # noqa: PTH109
        start_new_session=True,
    )


def _pipe(pipe: IO[str] | None) -> IO[str]:
    assert pipe is not None
    return pipe
