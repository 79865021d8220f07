"""The MLflow client, made quiet and patient, and names and values as MLflow accepts them."""

import getpass
import logging
import os
import posixpath
import random
import re
import sys
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from qp_runner.lasting import lasting
from qp_runner.masking import masked

if TYPE_CHECKING:
    from mlflow import MlflowClient

Result = TypeVar("Result")

KEY_LENGTH, PARAM_LENGTH, TAG_LENGTH = 250, 6000, 8000  # characters that an MLflow store takes
ERROR_LENGTH = 300
ATTEMPTS = 7  # with the store's own waiting, minutes: longer than any other writer holds a lock
SETTINGS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",  # with the password that may be in it
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",  # everything is tried again later anyway
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",  # seconds
    "PGCONNECT_TIMEOUT": "10",  # seconds, for PostgreSQL
}
"""Environment variables that MLflow and what is below it read, where the user has not set them: MLflow's own values
make a server that is gone cost minutes for each call.
"""

CUT = " … [cut: the whole value is in config.yaml]"


def client(uri: str) -> "MlflowClient":
    """A client of the store at `uri`."""
    warm_up()
    from mlflow import MlflowClient

    return patiently(partial(MlflowClient, tracking_uri=uri))


def warm_up() -> None:
    """Imports MLflow (seconds, the first time), without its chatter and telemetry."""
    if "mlflow" in sys.modules:
        return
    for name, value in SETTINGS.items():
        os.environ.setdefault(name, value)
    with lasting():
        import mlflow.store.tracking.sqlalchemy_store  # noqa: F401 - which a client would import when it is made
    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.CRITICAL)  # what goes wrong is raised, and reported once


def patiently(call: Callable[[], Result], *, first_pause_s: float = 0.1) -> Result:
    """The call's result; tries again, ever more slowly, while SQLite says that another process holds the database.

    Raises what the call raises: any other error at once, `database is locked` after the last attempt.
    """
    dice = random.Random()  # its own generator: jitter must not disturb the run's random numbers
    for attempt in range(ATTEMPTS):
        try:
            return call()
        except Exception as error:
            if "is locked" not in str(error) or attempt == ATTEMPTS - 1:
                raise
            time.sleep(first_pause_s * 2**attempt * dice.uniform(0.5, 1.5))
    raise AssertionError("unreachable")


def first_words(error: Exception) -> str:
    """What an error says, on one short line without passwords."""
    text = " ".join(str(error).split()).partition(" (Background on this error")[0]  # SQLAlchemy's advertisement
    return masked(text)[:ERROR_LENGTH]


def key(name: str) -> str:
    """The name with every character that MLflow refuses replaced by `_` (it takes letters, digits and `_-. :/`)."""
    return posixpath.normpath(re.sub(r"[^\w\-. :/]", "_", name)).lstrip("/.")[:KEY_LENGTH] or "_"


def param(value: str) -> str:
    """The value, cut to what MLflow takes with a mark that says so."""
    return _cut(value, PARAM_LENGTH, CUT)


def tags(values: Mapping[str, str]) -> dict[str, str]:
    """Tags as MLflow takes them."""
    return {key(name): _cut(str(value), TAG_LENGTH, " …") for name, value in values.items()}


def _cut(value: str, length: int, mark: str) -> str:
    return value if len(value) <= length else value[: length - len(mark)] + mark


def user() -> str:
    """The user's name."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user may have no name
        return "unknown"
