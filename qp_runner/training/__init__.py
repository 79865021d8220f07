from qp_runner.training.optim import (
    LearningRate,
    MakeOptimizer,
    MakeSchedule,
    build_optimizers,
    constant_then_linear,
)
from qp_runner.training.progress import Bar, ProgressView, Silent
from qp_runner.training.recorder import Recorder
from qp_runner.training.seeding import choose_device, seed_everything, set_numerics
from qp_runner.training.trainer import Trainer, TrainerSettings, TrainingDivergedError

__all__ = [
    "Bar",
    "LearningRate",
    "MakeOptimizer",
    "MakeSchedule",
    "ProgressView",
    "Recorder",
    "Silent",
    "Trainer",
    "TrainerSettings",
    "TrainingDivergedError",
    "build_optimizers",
    "choose_device",
    "constant_then_linear",
    "seed_everything",
    "set_numerics",
]
