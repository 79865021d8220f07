"""The MLflow store as a whole: made ready once, before any run is brought there."""

import hashlib
import sqlite3
from contextlib import AbstractContextManager, closing, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from qp_runner.errors import ConfigError
from qp_runner.locking import locked
from qp_runner.masking import masked
from qp_runner.tracking.client import client, first_words, patiently
from qp_runner.tracking.probe import DATABASES, check_answers, scheme
from qp_runner.tracking.records import ID_TAG

if TYPE_CHECKING:
    from mlflow import MlflowClient

SQLITE = "sqlite:///"
DEFAULT = "default"
ARTIFACTS = "mlartifacts"


def store_key(uri: str | None, results: str | Path) -> str | None:
    """What run.json names a store by: `default` for mlflow.db in the results folder, else a digest of its address.

    The address goes in without user and password, so nothing can be learned about them.
    """
    if uri is None:
        return None
    database = _database(uri)
    if database == Path(results).resolve() / "mlflow.db":
        return DEFAULT
    parts = urlsplit(masked(uri))
    address = f"{SQLITE}{database}" if database else parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
    return hashlib.sha256(address.encode()).hexdigest()[:16]


def prepare(uri: str, experiment: str, *, results: Path | None = None) -> "Store":
    """Opens the store; makes it and the experiment where they are missing.

    Raises ConfigError (`tracking.uri`) where the store cannot be used: better now than after an hour of training. A
    server that does not answer is one after seconds.
    """
    try:
        if "***" in uri:
            raise ValueError("*** stands for a user and a password, which records do not keep: give them again")
        check_answers(uri)
        with _alone(uri, results):
            _make_database(uri)
            store = Store(uri, results=results)
            _follow_move(uri)
        store.experiment(experiment)
    except Exception as error:
        reason = first_words(error)
        raise ConfigError("tracking.uri", masked(uri), f"an MLflow store that can be opened ({reason})") from error
    return store


class Store:
    """A store that exists: its client, and its experiments by name.

    Args:
        uri: of the store.
        results: where the files of runs in a database server's store lie, which has no place for files. None leaves
            that to MLflow.
    """

    def __init__(self, uri: str, *, results: Path | None = None) -> None:
        self._uri, self._results = uri, results
        self.client: MlflowClient = client(uri)
        self._experiments: dict[str, str] = {}

    def experiment(self, name: str) -> str:
        """The identifier of an experiment, which is made where it is missing."""
        if name not in self._experiments:
            with _alone(self._uri, self._results):
                self._experiments[name] = self._find_or_make(name)
        return self._experiments[name]

    def _find_or_make(self, name: str) -> str:
        found = patiently(lambda: self.client.get_experiment_by_name(name))
        if found is None:
            place = artifacts_of(self._uri, self._results)
            about = {
                "mlflow.experimentKind": "custom_model_development",
                "mlflow.note.content": f"Pruning and quantization during training, task **{name}**: one group a sweep.",
            }
            return str(patiently(lambda: self.client.create_experiment(name, artifact_location=place, tags=about)))
        if found.lifecycle_stage != "active":  # deleted in MLflow's pages; its name cannot be given again
            patiently(lambda: self.client.restore_experiment(found.experiment_id))
        return str(found.experiment_id)


def _database(uri: str) -> Path | None:
    """The file of an SQLite store; None for any server."""
    return Path(uri.removeprefix(SQLITE)).resolve() if uri.startswith(SQLITE) else None


def artifacts_of(uri: str, results: Path | None) -> str | None:
    """Where the runs' files lie: next to an SQLite database, below `results` for a database server.

    None for a tracking server, which decides that itself.
    """
    database = _database(uri)
    if database is not None:
        return (database.parent / ARTIFACTS).as_uri()
    return None if results is None or scheme(uri) not in DATABASES else (results.resolve() / ARTIFACTS).as_uri()


def _alone(uri: str, results: Path | None) -> AbstractContextManager[None]:
    """Holds, for a store that is a database, a lock that one process at a time can have: MLflow itself has none.

    Processes that make the tables of a fresh database at once destroy each other's.
    """
    database = _database(uri)
    if database is not None:
        return locked(database.parent / f".{database.name}.lock")
    return nullcontext() if results is None or scheme(uri) not in DATABASES else locked(results / ".store.lock")


def _make_database(uri: str) -> None:
    """Makes an SQLite store's database if it is missing: as a draft, since MLflow can't open one that is half made."""
    database = _database(uri)
    if database is None or (database.exists() and database.stat().st_size):
        return
    draft = database.with_name(f".{database.name}.draft")
    for end in ("", "-journal", "-wal", "-shm"):  # left where a process was killed while making it
        draft.with_name(draft.name + end).unlink(missing_ok=True)
    client(f"{SQLITE}{draft}")
    draft.replace(database)


def _follow_move(uri: str) -> None:
    """Has an SQLite database that was moved or copied find its runs' files beside it: MLflow stores whole paths."""
    database = _database(uri)
    if database is None:
        return
    here = (database.parent / ARTIFACTS).as_uri()
    own = f"experiment_id IN (SELECT r.experiment_id FROM runs r JOIN tags t USING (run_uuid) WHERE t.key = '{ID_TAG}')"
    moved = f"artifact_location LIKE 'file:%/{ARTIFACTS}' AND artifact_location != ? AND {own}"
    with closing(sqlite3.connect(database, timeout=60)) as opened, opened:
        found = opened.execute(f"SELECT experiment_id, artifact_location FROM experiments WHERE {moved}", (here,))
        for experiment, there in found.fetchall():
            opened.execute("UPDATE experiments SET artifact_location = ? WHERE experiment_id = ?", (here, experiment))
            opened.execute(
                "UPDATE runs SET artifact_uri = ? || substr(artifact_uri, ?) WHERE substr(artifact_uri, 1, ?) = ?",
                (here, len(there) + 1, len(there) + 1, f"{there}/"),
            )
