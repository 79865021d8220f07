"""Records of runs: plain files, which a separate process brings into MLflow. Importing this does not import MLflow."""

from qp_runner.tracking.files import RunFiles
from qp_runner.tracking.follower import Follower, following
from qp_runner.tracking.records import Record, RunInfo, Status
from qp_runner.tracking.store import store_key

__all__ = ["Follower", "Record", "RunFiles", "RunInfo", "Status", "following", "store_key"]
