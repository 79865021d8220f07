"""The MLflow store as a whole: made ready once, before any run is brought there."""

import hashlib
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from qp_runner.errors import ConfigError
from qp_runner.locking import locked
from qp_runner.tracking.client import client, patiently

if TYPE_CHECKING:
    from mlflow import MlflowClient

SQLITE = "sqlite:///"
DEFAULT = "default"


def store_key(uri: str | None, results: str | Path) -> str | None:
    """What run.json names a store by: `default` for mlflow.db in the results folder, else a digest of its address.

    The address goes in without user and password, so nothing can be learned about them.
    """
    if uri is None:
        return None
    database = _database(uri)
    if database == Path(results).resolve() / "mlflow.db":
        return DEFAULT
    parts = urlsplit(uri)
    address = f"{SQLITE}{database}" if database else parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
    return hashlib.sha256(address.encode()).hexdigest()[:16]


def prepare(uri: str, experiment: str) -> "Store":
    """Opens the store; makes it and the experiment where they are missing.

    Raises ConfigError (`tracking.uri`) where the store cannot be used: better now than after an hour of training.
    """
    try:
        with _alone(uri):
            _make_database(uri)
        store = Store(uri)
        store.experiment(experiment)
    except Exception as error:
        reason = " ".join(str(error).split())[:300]
        raise ConfigError("tracking.uri", uri, f"an MLflow store that can be opened ({reason})") from error
    return store


class Store:
    """A store that exists: its client, and its experiments by name."""

    def __init__(self, uri: str) -> None:
        self._uri = uri
        self.client: MlflowClient = client(uri)
        self._experiments: dict[str, str] = {}

    def experiment(self, name: str) -> str:
        """The identifier of an experiment, which is made where it is missing."""
        if name not in self._experiments:
            with _alone(self._uri):
                self._experiments[name] = self._find_or_make(name)
        return self._experiments[name]

    def _find_or_make(self, name: str) -> str:
        found = patiently(lambda: self.client.get_experiment_by_name(name))
        if found is None:
            database = _database(self._uri)  # files lie next to it, whatever the working folder
            place = None if database is None else (database.parent / "mlartifacts").as_uri()
            about = {
                "mlflow.experimentKind": "custom_model_development",
                "mlflow.note.content": f"Pruning and quantization during training, task **{name}**: one group a sweep.",
            }
            return str(patiently(lambda: self.client.create_experiment(name, artifact_location=place, tags=about)))
        if found.lifecycle_stage != "active":  # deleted in MLflow's pages; its name cannot be given again
            patiently(lambda: self.client.restore_experiment(found.experiment_id))
        return str(found.experiment_id)


def _database(uri: str) -> Path | None:
    """The file of an SQLite store; None for a tracking server, which looks after itself."""
    return Path(uri.removeprefix(SQLITE)).resolve() if uri.startswith(SQLITE) else None


def _alone(uri: str) -> AbstractContextManager[None]:
    """Holds, for an SQLite store, a lock that one process at a time can have: MLflow itself has none.

    Processes that make the tables of a fresh database at once destroy each other's.
    """
    database = _database(uri)
    return nullcontext() if database is None else locked(database.parent / f".{database.name}.lock")


def _make_database(uri: str) -> None:
    """Makes an SQLite store's database if it is missing; begins again where a process was killed while making it."""
    database = _database(uri)
    if database is None:
        return
    unfinished = database.parent / f".{database.name}.unfinished"
    if unfinished.exists():  # MLflow can't open a database that has some of its tables
        for end in ("", "-journal", "-wal", "-shm"):
            database.with_name(database.name + end).unlink(missing_ok=True)
    if not database.exists():
        unfinished.touch()
        client(uri)
    unfinished.unlink(missing_ok=True)
