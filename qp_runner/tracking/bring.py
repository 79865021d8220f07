"""One run, from its files into an MLflow store: what is new since the last time, as often as one likes.

Whatever moment the process is killed at, the next call goes on: a run is found again by its tag `qp_runner.id`, and
rows, parameters and files that MLflow has already may be sent again (its stores drop equal rows).
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from qp_runner.tracking.client import key, param, patiently, tags, user
from qp_runner.tracking.color import PARENT, color
from qp_runner.tracking.marker import Marker
from qp_runner.tracking.records import ID_TAG, Record, Row, artifact_files, milliseconds, read_rows
from qp_runner.tracking.store import Store

if TYPE_CHECKING:
    from mlflow.entities import Metric, Run

PARAMS_PER_CALL, METRICS_PER_CALL = 100, 1000  # MLflow's limits
ERROR_LENGTH = 500


@dataclass(frozen=True)
class Parent:
    """The run in MLflow that another one stands under, and the experiment of both."""

    run_id: str
    experiment: str


def bring(
    store: Store,
    folder: Path,
    record: Record,
    marker: Marker,
    *,
    parent: Parent | None,
    save: Callable[[Marker], object] = lambda _: None,
) -> Marker:
    """Brings what MLflow lacks of a run; returns what it has then.

    Args:
        store: must be prepared.
        folder: the run's.
        record: its run.json.
        marker: what MLflow has, so far as is known. If it tells of an earlier attempt in the same folder that did not
            finish, that run is deleted.
        parent: the run to stand under.
        save: is given the marker whenever MLflow has more.
    """
    if not marker.is_of(record) or status_of(store, marker.run_id) is None:
        marker = _start(store, record, marker, parent, save)
    before = asdict(marker)
    if marker.end not in ("", record.end):  # it went on, or was taken for dead
        _open_again(store, marker.run_id)
    _bring_rows(store, folder, record, marker, save)
    if record.end not in ("", marker.end):
        _end(store, record, marker.run_id)
    _bring_files(store, folder, record, marker, save)  # last: where artifacts can't be kept, numbers and status can
    marker.end = record.end
    if asdict(marker) != before:
        save(marker)
    return marker


def status_of(store: Store, run_id: str) -> str | None:
    """The status of a run in MLflow; None for one that is not there, or was deleted."""
    from mlflow.exceptions import MlflowException

    if not run_id:
        return None
    try:
        run: Run = patiently(lambda: store.client.get_run(run_id))
    except MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            return None
        raise
    return str(run.info.status) if run.info.lifecycle_stage == "active" else None


def _start(
    store: Store, record: Record, earlier: Marker, parent: Parent | None, save: Callable[[Marker], object]
) -> Marker:
    """Finds or makes the run, with its tags and parameters."""
    from mlflow.entities import Param

    experiment = store.experiment(parent.experiment if parent else record.experiment)
    if earlier.id and earlier.id != record.id and earlier.store == record.store:
        _delete_unfinished(store, earlier, experiment)
    marker = Marker(record.id, record.store)
    save(marker)  # a run that was made a moment before the process was killed can be found by the next attempt
    marker.run_id = find(store, experiment, record.id) or _create(store, record, experiment, parent)
    params = {key(name): param(str(value)) for name, value in record.params.items()}
    for batch in _batches([Param(name, value) for name, value in params.items()], PARAMS_PER_CALL):
        patiently(partial(store.client.log_batch, marker.run_id, params=batch))
    save(marker)
    return marker


def find(store: Store, experiment: str, attempt: str) -> str | None:
    """MLflow's identifier of the run of an attempt, if it has one that was not deleted."""
    where = f"tags.`{ID_TAG}` = '{attempt}'"
    found = patiently(lambda: store.client.search_runs([experiment], where, max_results=1))
    return str(found[0].info.run_id) if found else None


def _create(store: Store, record: Record, experiment: str, parent: Parent | None) -> str:
    own = {
        **record.tags,
        ID_TAG: record.id,
        "mlflow.runColor": PARENT if _is_sweep(record) else color(record.tags.get("schedule") or record.name),
        "mlflow.user": user(),
        "mlflow.source.name": "qp-runner",
        "mlflow.source.type": "LOCAL",
        "mlflow.note.content": _note(record),
    }
    if commit := record.tags.get("git_commit"):
        own["mlflow.source.git.commit"] = commit.removesuffix("-dirty")
    if parent is not None:
        own["mlflow.parentRunId"] = parent.run_id
    start = milliseconds(record.start_time)
    run: Run = patiently(
        lambda: store.client.create_run(experiment, start_time=start, run_name=record.name, tags=tags(own))
    )
    return str(run.info.run_id)


def _delete_unfinished(store: Store, earlier: Marker, experiment: str) -> None:
    """Deletes an earlier attempt's run (MLflow keeps deleted runs for a while) if it did not finish."""
    run_id = earlier.run_id or find(store, experiment, earlier.id)
    if run_id and status_of(store, run_id) not in (None, "FINISHED"):
        patiently(lambda: store.client.delete_run(run_id))


def _open_again(store: Store, run_id: str) -> None:
    patiently(lambda: store.client.update_run(run_id, status="RUNNING"))
    if "error" in patiently(lambda: store.client.get_run(run_id)).data.tags:
        patiently(lambda: store.client.delete_tag(run_id, "error"))


def _bring_rows(store: Store, folder: Path, record: Record, marker: Marker, save: Callable[[Marker], object]) -> None:
    while True:
        rows, end = read_rows(folder, marker.rows)
        current = Record.load(folder)
        if end == marker.rows or current is None or current.start_time != record.start_time:  # of a new attempt
            return
        for batch in _batches([_metric(row) for row in rows], METRICS_PER_CALL):
            patiently(partial(store.client.log_batch, marker.run_id, metrics=batch))
        marker.rows = end
        save(marker)


def _bring_files(store: Store, folder: Path, record: Record, marker: Marker, save: Callable[[Marker], object]) -> None:
    for path, name in artifact_files(folder, record):
        about = path.stat()
        state = [about.st_size, about.st_mtime_ns]
        if marker.files.get(name) != state:
            below = str(PurePosixPath(name).parent)
            store.client.log_artifact(marker.run_id, str(path), None if below == "." else below)
            marker.files[name] = state
            save(marker)


def _end(store: Store, record: Record, run_id: str) -> None:
    """Ends the run: with a tag `error` (its first line) and the whole error as `error.txt` if there is one."""
    error, end = record.error, milliseconds(record.end_time) if record.end_time else None
    if error:
        first = (error.strip().splitlines() or [""])[0][:ERROR_LENGTH]
        patiently(lambda: store.client.set_tag(run_id, "error", first))
        store.client.log_text(run_id, error, "error.txt")
    patiently(lambda: store.client.set_terminated(run_id, record.status, end))


def _metric(row: Row) -> "Metric":
    """A row as MLflow takes it: SQL has no infinity, and MLflow's stand-in 1.8e308 ruins every chart."""
    from mlflow.entities import Metric

    return Metric(key(row.name), math.nan if math.isinf(row.value) else row.value, row.time_ms, row.step)


def _batches(entities: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    return (entities[start : start + size] for start in range(0, len(entities), size))


def _is_sweep(record: Record) -> bool:
    return "jobs" in record.tags


def _note(record: Record) -> str:
    """The description on the run's page, in Markdown."""
    known = record.tags
    if _is_sweep(record):
        lines = [f"A sweep of {known['jobs']} runs, listed below this one."]
    else:
        facts = [
            f"{name} `{known[name]}`" for name in ("model", "data", "schedule", "seed", "variant") if known.get(name)
        ]
        lines = [f"**{known['order']}**" if known.get("order") else "", " · ".join(facts)]
    command = f"```\n{known['command']}\n```" if known.get("command") else ""
    return "\n\n".join(line for line in [*lines, command] if line)
