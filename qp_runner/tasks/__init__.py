"""Tasks: what is learned. A new task is one file here and one YAML in conf/task."""

from qp_runner.tasks.base import Task, evaluating
from qp_runner.tasks.classification import ClassificationTask
from qp_runner.tasks.detection import DetectionTask
from qp_runner.tasks.distillation import Distillation
from qp_runner.tasks.paired_translation import PairedTranslationTask
from qp_runner.tasks.super_resolution import SuperResolutionTask
from qp_runner.tasks.supervised import SupervisedTask
from qp_runner.tasks.unpaired_translation import UnpairedTranslationTask

__all__ = [
    "ClassificationTask",
    "DetectionTask",
    "Distillation",
    "PairedTranslationTask",
    "SuperResolutionTask",
    "SupervisedTask",
    "Task",
    "UnpairedTranslationTask",
    "evaluating",
]
