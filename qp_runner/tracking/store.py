"""The MLflow store as a whole: made ready once, before any job; the parent run that a sweep's runs stand under."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from qp_runner.errors import ConfigError
from qp_runner.tracking.base import Status
from qp_runner.tracking.client import client, key, patiently, system_tags, tags
from qp_runner.tracking.color import PARENT
from qp_runner.tracking.environment import git_commit, with_environment

if TYPE_CHECKING:
    from mlflow import MlflowClient

log = logging.getLogger(__name__)

SQLITE = "sqlite:///"
ABANDONED = "the process ended without a word (killed, or out of memory)"


def prepare(uri: str, experiment: str) -> str:
    """Makes the store and the experiment where they are missing; returns the experiment's identifier.

    Several processes that open a *fresh* SQLite database at once destroy each other's tables, an initialised one is
    safe. So this is called once before any job, and is itself guarded by a lock on a file beside the database.
    Raises ConfigError (`tracking.uri`) where the store cannot be used: better now than after an hour of training.
    """
    try:
        with _alone(uri):
            return _experiment(client(uri), uri, experiment)
    except Exception as error:
        reason = " ".join(str(error).split())[:300]
        raise ConfigError("tracking.uri", uri, f"an MLflow store that can be opened ({reason})") from error


def start_parent(uri: str, experiment: str, name: str, own: Mapping[str, str]) -> str:
    """Starts the run that a sweep's runs stand under; returns its identifier. The store must be prepared."""
    store = client(uri)
    found = patiently(lambda: store.get_experiment_by_name(experiment))
    if found is None:
        raise ValueError(f"{uri} has no experiment {experiment}: call prepare first")
    known = with_environment(own)
    known |= system_tags(note=_note(known), color=PARENT, commit=git_commit())
    run = patiently(lambda: store.create_run(found.experiment_id, run_name=name, tags=tags(known)))
    return str(run.info.run_id)


def reopen_parent(uri: str, run_id: str) -> bool:
    """Opens an earlier attempt's parent run again; False where the store no longer has it.

    Runs below it that did not finish are deleted (MLflow keeps deleted runs for a while): their jobs run again.
    """
    store = client(uri)
    try:
        run = patiently(lambda: store.get_run(run_id))
        if run.info.lifecycle_stage != "active":
            return False
        patiently(lambda: store.update_run(run_id, status="RUNNING"))
        where = f"tags.mlflow.parentRunId = '{run_id}' and attributes.status != 'FINISHED'"
        for below in patiently(lambda: list(store.search_runs([run.info.experiment_id], where, max_results=5000))):
            patiently(partial(store.delete_run, below.info.run_id))
    except Exception as error:
        log.warning("the MLflow store %s has no parent run %s to go on with (%s)", uri, run_id, error)
        return False
    return True


def finish_parent(uri: str, run_id: str, status: Status) -> None:
    """Ends the parent run; marks runs below it that never ended as KILLED. Warns where the store fails."""
    try:
        store = client(uri)
        _end_abandoned(store, run_id)
        patiently(lambda: store.set_terminated(run_id, status))
    except Exception as error:
        log.warning("the MLflow store %s fails: the parent run %s stays open (%s)", uri, run_id, error)


def log_parent(uri: str, run_id: str, values: Mapping[str, float], *, step: int, files: Sequence[Path]) -> None:
    """Adds numbers and files to a parent run; warns where the store fails, for the files have everything."""
    try:
        store = client(uri)
        for name, value in values.items():
            patiently(partial(store.log_metric, run_id, key(name), value, step=step))
        for path in files:
            patiently(partial(store.log_artifact, run_id, str(path)))
    except Exception as error:
        log.warning("the MLflow store %s fails: the parent run %s lacks its results (%s)", uri, run_id, error)


def _experiment(store: "MlflowClient", uri: str, name: str) -> str:
    found = patiently(lambda: store.get_experiment_by_name(name))
    if found is None:
        about = {
            "mlflow.experimentKind": "custom_model_development",
            "mlflow.note.content": f"Pruning and quantization during training, task **{name}**: one group a sweep.",
        }
        return str(patiently(lambda: store.create_experiment(name, artifact_location=_artifacts(uri), tags=about)))
    if found.lifecycle_stage != "active":  # deleted in MLflow's pages; its name cannot be given again
        patiently(lambda: store.restore_experiment(found.experiment_id))
    return str(found.experiment_id)


def _end_abandoned(store: "MlflowClient", parent_run_id: str) -> None:
    """All jobs are over when a parent ends: one that is still open was killed before it could say so."""
    experiment = patiently(lambda: store.get_run(parent_run_id)).info.experiment_id
    where = f"tags.mlflow.parentRunId = '{parent_run_id}' and attributes.status = 'RUNNING'"
    for run in patiently(lambda: list(store.search_runs([experiment], where, max_results=5000))):
        run_id = run.info.run_id
        patiently(partial(store.set_tag, run_id, "error", ABANDONED))
        patiently(partial(store.set_terminated, run_id, "KILLED"))


def _note(known: Mapping[str, str]) -> str:
    jobs = f"A sweep of {known['jobs']} runs" if "jobs" in known else "A sweep"
    return f"{jobs}, listed below this one.\n\n```\n{known['command']}\n```"


def _database(uri: str) -> Path | None:
    """The file of an SQLite store; None for a tracking server, which looks after itself."""
    return Path(uri.removeprefix(SQLITE)).resolve() if uri.startswith(SQLITE) else None


def _artifacts(uri: str) -> str | None:
    """Where the files of an SQLite store's runs lie: beside the database, whatever the working directory."""
    database = _database(uri)
    return None if database is None else (database.parent / "mlartifacts").as_uri()


@contextmanager
def _alone(uri: str) -> Iterator[None]:
    """Holds, for an SQLite store, the lock that one process at a time can have; makes the folder."""
    database = _database(uri)
    if database is None:
        yield
        return
    database.parent.mkdir(parents=True, exist_ok=True)
    with (database.parent / f".{database.name}.lock").open("w") as file, _locked(file.fileno()):
        yield


@contextmanager
def _locked(descriptor: int) -> Iterator[None]:
    try:
        import fcntl
    except ImportError:  # not on Windows: there, start the first run alone
        yield
        return
    fcntl.flock(descriptor, fcntl.LOCK_EX)  # released when the file is closed, also by a crash
    yield
