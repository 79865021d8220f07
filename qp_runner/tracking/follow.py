"""The process that follows a command's run folders and brings them into MLflow: `python -m qp_runner.tracking.follow`.

It is the only one of a command that writes to the store. On standard input it is given a line of JSON (`Task`), later
the folder to follow; the end of the input is the end of the command. On standard output it says, in a line of JSON,
whether the store can be used: `{}` or `{"error": reason}`.
"""

import json
import logging
import math
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from qp_runner.errors import ConfigError
from qp_runner.tracking.client import first_words
from qp_runner.tracking.folders import bring_folder, end_if_dead, left_behind
from qp_runner.tracking.probe import check_answers
from qp_runner.tracking.records import RUN, run_folders
from qp_runner.tracking.store import Store, prepare, store_key

log = logging.getLogger(__name__)

POLL_S, RETRY_S = 2.0, 15.0
FAILING_S = 60.0  # that a command's end may take after the store has failed
STUCK_S = 30.0  # without progress, after which the store is asked whether it still answers
DYING_S = 3.0  # that the processes of jobs may take to end after their command was killed


@dataclass(frozen=True)
class Task:
    """For which store and experiment runs are followed, and the folder that has those of other commands too."""

    uri: str
    experiment: str
    results: str


class FolderFollower:
    """Brings the runs in a folder and below it and, before or after, what earlier commands left in the results folder.

    A store that fails hurts nobody: it is a warning, once, and everything is tried again later.
    """

    def __init__(self, store: Store, task: Task, folder: Path) -> None:
        self._store, self._uri = store, task.uri
        self._folder, self._results = folder.resolve(), Path(task.results).resolve()
        self._key = store_key(task.uri, self._results) or ""
        self._left = left_behind(self._results, store_key=self._key, but=self._folder)
        self._whole: dict[Path, int] = {}  # run.json's time of change, of runs that MLflow has everything of
        self._warned = False
        self._progress, self._failure = time.monotonic(), math.inf

    def bring_own(self) -> bool:
        """Brings what is new in the folder; returns False where the store fails."""
        for folder in run_folders(self._folder):
            try:
                changed = (folder / RUN).stat().st_mtime_ns
            except FileNotFoundError:
                continue
            if self._whole.get(folder) == changed:
                continue
            failed, whole = self._try_to_bring(folder)
            if whole:
                self._whole[folder] = changed
            if failed and not self._store_answers():
                return False
        return True

    def bring_left(self, *, enough: Callable[[], bool] = lambda: False) -> bool:
        """Brings runs of earlier commands, until it is enough; returns False where the store fails."""
        while not enough() and (folder := next(self._left, None)) is not None:
            failed, _ = self._try_to_bring(folder)
            if failed and not self._store_answers():
                return False
        return True

    def finish(self) -> None:
        """Brings everything after the command's end. Runs that were killed are marked so, in both."""
        patience = time.monotonic() + DYING_S
        while [each for each in run_folders(self._folder) if end_if_dead(each)] and time.monotonic() < patience:
            time.sleep(0.1)
        if self.bring_own():
            self.bring_left()

    def _try_to_bring(self, folder: Path) -> tuple[bool, bool]:
        """Whether it failed, and whether MLflow has everything of the run."""
        try:
            whole = bring_folder(
                self._store, folder, results=self._results, store_key=self._key, progress=self._note_progress
            )
        except Exception as error:
            self._failure = min(self._failure, time.monotonic())
            self._warn(error)
            return True, False
        return False, whole

    def _note_progress(self) -> None:
        self._progress = time.monotonic()

    def takes_too_long(self, *, since: float) -> bool:
        """Whether to give up, at this moment, when the command ended at the moment `since`."""
        now = time.monotonic()
        if now > max(since, self._failure) + FAILING_S:
            return True
        return now > max(since, self._progress) + STUCK_S and not self._store_answers()

    def _store_answers(self) -> bool:
        """Whether the store as such is there: then it is one run alone that it does not take."""
        try:
            check_answers(self._uri)
            self._store.client.search_experiments(max_results=1)
        except Exception:
            return False
        return True

    def _warn(self, error: Exception) -> None:
        if not self._warned:
            self._warned = True
            reason = first_words(error)
            log.warning("MLflow fails (%s); the runs' files have everything, the next command tries again", reason)


def main() -> None:
    """Follows until the command has ended, and all is brought."""
    for number in (signal.SIGINT, signal.SIGTERM):  # they are for the command, whose end is seen here
        signal.signal(number, signal.SIG_IGN)
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what libraries print is no answer
    lines = _lines()
    task = Task(**json.loads(next(lines)))
    try:
        store = prepare(task.uri, task.experiment, results=Path(task.results))
    except ConfigError as error:
        _answer(answers, {"error": error.allowed})
        return
    _answer(answers, {})
    folder = next(lines, None)
    if folder is not None:  # else the command has ended before it had one
        ended = threading.Event()
        threading.Thread(target=_wait_for_end, args=(lines, ended), daemon=True).start()
        follow(FolderFollower(store, task, Path(folder)), ended)


def follow(follower: FolderFollower, ended: threading.Event) -> None:
    """Looks for what is new every few seconds, then once more when the command has ended."""
    done = threading.Event()
    threading.Thread(target=_give_up, args=(follower, ended, done), daemon=True).start()
    while not ended.is_set():
        next_look = time.monotonic() + POLL_S

        def is_time(moment: float = next_look) -> bool:
            return ended.is_set() or time.monotonic() > moment

        went_well = follower.bring_own() and follower.bring_left(enough=is_time)
        ended.wait(max(next_look - time.monotonic(), POLL_S / 4) if went_well else RETRY_S)
    follower.finish()
    done.set()


def _give_up(follower: FolderFollower, ended: threading.Event, done: threading.Event) -> None:
    """Ends the process where the store keeps it for too long after the command's end: files and marker are whole."""
    ended.wait()
    since = time.monotonic()
    while not done.wait(POLL_S):
        if follower.takes_too_long(since=since):
            log.warning("MLflow takes too long: the next command brings the rest")
            os._exit(0)


def _lines() -> Iterator[str]:
    """The lines of standard input. Not by sys.stdin: Python can't exit while a thread waits for it."""
    text = b""
    while data := os.read(0, 1 << 16):
        *whole, text = (text + data).split(b"\n")
        yield from (line.decode() for line in whole)


def _wait_for_end(lines: Iterator[str], ended: threading.Event) -> None:
    for _ in lines:
        pass
    ended.set()


def _answer(answers: TextIO, answer: dict[str, str]) -> None:
    try:
        print(json.dumps(answer), file=answers, flush=True)
    except OSError:  # the command was killed meanwhile
        log.debug("nobody waits for the answer")


if __name__ == "__main__":
    main()
