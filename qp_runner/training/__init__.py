"""The training loop, how a step is executed, and a run's state: captured, identified and stored."""

from qp_runner.training.checkpoints import CheckpointStore, RunCheckpoints
from qp_runner.training.content import Content, content_of
from qp_runner.training.digester import Tensors
from qp_runner.training.early_stop import EarlyStop
from qp_runner.training.executors import resolve_executor
from qp_runner.training.graph_step import GraphStep
from qp_runner.training.identity import Identity, numerics
from qp_runner.training.learning_rates import LearningRate, MakeSchedule
from qp_runner.training.optim import MakeOptimizer, build_optimizers, constant_then_linear
from qp_runner.training.progress import Bar, ProgressView, Silent
from qp_runner.training.seeding import choose_device, seed_everything, set_numerics, set_threads
from qp_runner.training.shared_step import SharedStep
from qp_runner.training.step import StepOptions
from qp_runner.training.trainer import Recorder, Trainer, TrainerSettings, TrainingDivergedError

__all__ = [
    "Bar",
    "CheckpointStore",
    "Content",
    "EarlyStop",
    "GraphStep",
    "Identity",
    "LearningRate",
    "MakeOptimizer",
    "MakeSchedule",
    "ProgressView",
    "Recorder",
    "RunCheckpoints",
    "SharedStep",
    "Silent",
    "StepOptions",
    "Tensors",
    "Trainer",
    "TrainerSettings",
    "TrainingDivergedError",
    "build_optimizers",
    "choose_device",
    "constant_then_linear",
    "content_of",
    "numerics",
    "resolve_executor",
    "seed_everything",
    "set_numerics",
    "set_threads",
]
