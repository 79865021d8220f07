"""Records of runs: plain files always, an MLflow store beside them. Importing this package does not import MLflow."""

from qp_runner.tracking import store
from qp_runner.tracking.base import RunInfo, Status, Tracker, Trackers
from qp_runner.tracking.beside import later, where_mlflow_is
from qp_runner.tracking.files import FileTracker
from qp_runner.tracking.mlflow_beside import mlflow_tracker
from qp_runner.tracking.mlflow_tracker import MlflowTracker

prepare = where_mlflow_is(store.prepare)
start_parent = where_mlflow_is(store.start_parent)
reopen_parent = where_mlflow_is(store.reopen_parent)
log_parent = where_mlflow_is(store.log_parent)
finish_parent = where_mlflow_is(store.finish_parent)

__all__ = [
    "FileTracker",
    "MlflowTracker",
    "RunInfo",
    "Status",
    "Tracker",
    "Trackers",
    "finish_parent",
    "later",
    "log_parent",
    "mlflow_tracker",
    "prepare",
    "reopen_parent",
    "start_parent",
]
