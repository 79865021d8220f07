"""The runs in a results folder, from their files into MLflow: which ones, and by which of several processes."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from qp_runner.locking import RUNNING, is_locked, try_lock
from qp_runner.tracking.bring import Parent, bring
from qp_runner.tracking.marker import Marker
from qp_runner.tracking.records import Record, now, parent_folder, run_folders
from qp_runner.tracking.store import Store

LOCK = ".mlflow.lock"
ABANDONED = "the process ended without a word (killed, or out of memory)"


def bring_folder(
    store: Store, folder: Path, *, results: Path, store_key: str, progress: Callable[[], object] = lambda: None
) -> bool:
    """Brings what MLflow lacks of the run in a folder, under its sweep's run; returns whether it has everything then.

    Calls `progress` whenever MLflow has more.

    A run that another process is bringing at this moment is left to it, and one that is meant for another store alone.
    """
    parent, above = None, parent_folder(folder, results)
    if above is not None:
        parent = _parent(above, store_key)
        if parent is None and _record(above, store_key) is not None:
            bring_folder(store, above, results=results, store_key=store_key, progress=progress)
            parent = _parent(above, store_key)
            if parent is None:
                return False
    lock = try_lock(folder / LOCK)
    if lock is None:
        return False

    def save(marker: Marker) -> None:
        marker.save(folder)
        progress()

    try:
        record, marker = _record(folder, store_key), Marker.load(folder)
        if record is None:
            return False
        if not marker.has_all(record):
            marker = bring(store, folder, record, marker, parent=parent, save=save)
        return marker.has_all(record)
    finally:
        lock.release()


def end_if_dead(folder: Path) -> bool:
    """Writes KILLED into the run.json of a run that was killed; returns whether the run is still at work."""
    record = Record.load(folder)
    if record is None or record.end:
        return False
    lock = try_lock(folder / RUNNING)
    if lock is None:
        return True
    try:
        record = Record.load(folder)  # its process may have ended it a moment ago
        if record is not None and not record.end:
            replace(record, status="KILLED", end_time=now(), error=ABANDONED).save(folder)
    finally:
        lock.release()
    return False


def left_behind(results: Path, *, store_key: str, but: Path) -> Iterator[Path]:
    """Folders of runs of earlier commands that MLflow lacks something of; those killed are marked as such.

    Not those in the folder `but`, and not those of a command that is at work: it brings its own.
    """
    for top in (results / "runs", results / "sweeps"):
        for folder in run_folders(top):
            record = _record(folder, store_key)
            if record is None or folder.is_relative_to(but) or Marker.load(folder).has_all(record):
                continue
            above = parent_folder(folder, results)
            if above is not None and is_locked(above / RUNNING):
                continue
            if not end_if_dead(folder):
                yield folder


def _record(folder: Path, store_key: str) -> Record | None:
    """The record of a run that is meant for this store."""
    record = Record.load(folder)
    return record if record is not None and record.store == store_key else None


def _parent(folder: Path, store_key: str) -> Parent | None:
    """The run in the store of a sweep's folder, if it is there already."""
    record, marker = Record.load(folder), Marker.load(folder)
    if record is None or not marker.run_id or (marker.id, marker.store) != (record.id, store_key):
        return None
    return Parent(marker.run_id, record.experiment)
