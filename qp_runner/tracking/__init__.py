"""Records of runs: plain files always, an MLflow store beside them. Importing this package does not import MLflow."""

from qp_runner.tracking.base import RunInfo, Status, Tracker, Trackers
from qp_runner.tracking.files import FileTracker
from qp_runner.tracking.mlflow_tracker import MlflowTracker
from qp_runner.tracking.store import finish_parent, log_parent, prepare, reopen_parent, start_parent

__all__ = [
    "FileTracker",
    "MlflowTracker",
    "RunInfo",
    "Status",
    "Tracker",
    "Trackers",
    "finish_parent",
    "log_parent",
    "prepare",
    "reopen_parent",
    "start_parent",
]
