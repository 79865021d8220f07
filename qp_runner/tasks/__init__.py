"""Tasks: what is learned. A new one is one file here and one YAML in conf/task."""

from qp_runner.tasks.base import Metric, Task, evaluating
from qp_runner.tasks.classification import ClassificationTask
from qp_runner.tasks.detection import DetectionTask

__all__ = ["ClassificationTask", "DetectionTask", "Metric", "Task", "evaluating"]
