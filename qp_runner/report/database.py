"""A store that is a database, read directly: nothing is migrated, added or filled, as MLflow would when it opens one.

It is also quick: MLflow reads one run and one metric at a time. The tables are those of MLflow since 1.2.
"""

import math
import re
import sqlite3
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from sqlalchemy import Connection, NullPool, bindparam, create_engine, text
from sqlalchemy.exc import SQLAlchemyError

from qp_runner.report.source import PICTURES, StoredRun
from qp_runner.tracking.records import ID_TAG
from qp_runner.tracking.store import ARTIFACTS

SQLITE = "sqlite:///"
AT_ONCE = 500  # runs asked for in one statement: databases limit its parameters
OWN = "(SELECT o.run_uuid FROM tags o WHERE o.key = :own)"
RUNS = f"""SELECT r.run_uuid, r.status, r.start_time, r.end_time FROM runs r
    JOIN experiments e ON e.experiment_id = r.experiment_id
    WHERE r.lifecycle_stage = 'active' AND e.lifecycle_stage = 'active' AND r.run_uuid IN {OWN}"""
TAGS = f"SELECT t.run_uuid, t.key, t.value FROM tags t WHERE t.run_uuid IN {OWN} AND t.key NOT LIKE 'mlflow.note.%'"
PARAMS = f"SELECT p.run_uuid, p.key, p.value FROM params p WHERE p.key IN :wanted AND p.run_uuid IN {OWN}"
LATEST = f"SELECT m.run_uuid, m.key, m.value, m.is_nan FROM latest_metrics m WHERE m.run_uuid IN {OWN}"
HISTORY = """SELECT m.run_uuid, m.key, m.step, m.value, m.timestamp, m.is_nan FROM metrics m
    WHERE m.key IN :names AND m.run_uuid IN :runs"""


class Database:
    """The store in an SQLite file or on a database server.

    Args:
        store: a path, or any URI that MLflow takes.
        params: names of the parameters that are read.
    """

    def __init__(self, store: str, *, params: Sequence[str]) -> None:
        self._params = list(params)
        self._file = Path(store.removeprefix(SQLITE)).resolve() if is_file(store) else None
        connect: dict[str, Any] = {} if self._file is None else {"creator": self._open}
        self._engine = create_engine(store if self._file is None else "sqlite://", poolclass=NullPool, **connect)

    def _open(self) -> sqlite3.Connection:
        """Without making the file. SQLite itself may have to undo what a writer that was killed has left half done."""
        assert self._file is not None
        opened = sqlite3.connect(f"{self._file.as_uri()}?mode=rw", uri=True, timeout=60)
        opened.execute("PRAGMA query_only = ON")
        return opened

    def runs(self) -> list[StoredRun]:
        """See `Source`."""
        with self._engine.connect() as connection:
            tags = _by_run(connection, TAGS)
            params = _by_run(connection, PARAMS, wanted=self._params)
            metrics: dict[str, dict[str, float]] = defaultdict(dict)
            for run_id, key, value, is_nan in connection.execute(text(LATEST), {"own": ID_TAG}):
                metrics[run_id][key] = math.nan if is_nan else value
            return [
                StoredRun(run_id, status, start, end, tags[run_id], params[run_id], metrics[run_id])
                for run_id, status, start, end in connection.execute(text(RUNS), {"own": ID_TAG})
            ]

    def history(self, wanted: Mapping[str, Sequence[str]]) -> Iterator[tuple[str, str, int, float, int]]:
        """See `Source`."""
        statement = text(HISTORY).bindparams(bindparam("names", expanding=True), bindparam("runs", expanding=True))
        known: dict[str, str] = {}  # one object for each name: there are many rows
        with self._engine.connect() as connection:
            for names, runs in _alike(wanted):
                for start in range(0, len(runs), AT_ONCE):
                    found = connection.execute(statement, {"names": names, "runs": runs[start : start + AT_ONCE]})
                    for run_id, key, step, value, time, is_nan in found:
                        run_id, key = known.setdefault(run_id, run_id), known.setdefault(key, key)
                        yield run_id, key, step, math.nan if is_nan else value, time

    def pictures(self, run_id: str) -> dict[str, bytes]:
        """See `Source`. Files of a store that was moved are looked for beside its database."""
        with self._engine.connect() as connection:
            where = connection.execute(text("SELECT artifact_uri FROM runs WHERE run_uuid = :run"), {"run": run_id})
            place = str(where.scalar_one())
        if urlsplit(place).scheme not in ("", "file"):
            from qp_runner.report.server import downloaded  # here: MLflow takes seconds to import

            return downloaded(f"{place}/{PICTURES}")
        folder = Path(unquote(urlsplit(place).path))
        _, found, below = folder.as_posix().rpartition(f"/{ARTIFACTS}/")
        if self._file is not None and found and not folder.exists():
            folder = self._file.parent / ARTIFACTS / below
        return {path.stem: path.read_bytes() for path in sorted((folder / PICTURES).glob("*.png"))}

    def is_of_older_mlflow(self) -> bool:
        """Whether the tables are those of an older MLflow than the installed one."""
        try:
            with self._engine.connect() as connection:
                version = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
        except SQLAlchemyError:
            return True
        return version in _superseded()


def is_file(store: str) -> bool:
    """Whether a store is named by its SQLite file."""
    return store.startswith(SQLITE) or "://" not in store


def _by_run(connection: Connection, statement: str, **values: list[str]) -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = defaultdict(dict)
    expanding = text(statement).bindparams(*(bindparam(name, expanding=True) for name in values))
    for run_id, key, value in connection.execute(expanding, {"own": ID_TAG, **values}):
        found[run_id][key] = value
    return found


def _alike(wanted: Mapping[str, Sequence[str]]) -> Iterator[tuple[list[str], list[str]]]:
    """Names together that are wanted of the same runs."""
    groups: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for name, runs in wanted.items():
        groups[tuple(runs)].append(name)
    yield from ((names, list(runs)) for runs, names in groups.items())


def _superseded() -> set[str]:
    """Versions of MLflow's tables that have a later one, from its own migrations."""
    spec = find_spec("mlflow")
    assert spec is not None
    assert spec.origin is not None
    files = (Path(spec.origin).parent / "store/db_migrations/versions").glob("*.py")
    found = (re.search(r"^down_revision\b.*?= *['\"](\w+)", path.read_text("utf-8"), re.MULTILINE) for path in files)
    return {match.group(1) for match in found if match}
