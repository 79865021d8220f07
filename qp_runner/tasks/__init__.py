"""Tasks: what is learned. A new one is one file here and one YAML in conf/task."""

from qp_runner.tasks.base import Metric, Task, evaluating
from qp_runner.tasks.classification import ClassificationTask
from qp_runner.tasks.super_resolution import SuperResolutionTask

__all__ = ["ClassificationTask", "Metric", "SuperResolutionTask", "Task", "evaluating"]
