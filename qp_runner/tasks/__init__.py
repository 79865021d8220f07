"""Tasks: what is learned. A new one is one file here and one YAML in conf/task."""

from qp_runner.tasks.base import Metric, Task, evaluating
from qp_runner.tasks.classification import ClassificationTask

__all__ = ["ClassificationTask", "Metric", "Task", "evaluating"]
