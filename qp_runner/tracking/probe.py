"""Whether a store's server answers: seconds, where MLflow itself would try for minutes and say nothing."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from urllib.parse import urlsplit

from qp_runner.tracking.client import client

DATABASES = ("postgresql", "mysql", "mssql")
PROBE_S = 10


def scheme(uri: str) -> str:
    """`postgresql` of `postgresql+psycopg2://…`."""
    return urlsplit(uri).scheme.partition("+")[0]


def check_answers(uri: str) -> None:
    """Asks a server once, and waits PROBE_S at most; files are not looked at. Raises whatever is wrong with it."""
    if scheme(uri) in DATABASES:
        from sqlalchemy import NullPool, create_engine

        timeout = {} if scheme(uri) == "mssql" else {"connect_timeout": PROBE_S}
        create_engine(uri, poolclass=NullPool, connect_args=timeout).connect().close()
    elif scheme(uri) in ("http", "https"):
        with _environment({"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0", "MLFLOW_HTTP_REQUEST_TIMEOUT": str(PROBE_S)}):
            client(uri).search_experiments(max_results=1)


@contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name)
            if value is not None:
                os.environ[name] = value
