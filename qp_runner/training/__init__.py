from qp_runner.training.content import content_digest
from qp_runner.training.executors import chosen
from qp_runner.training.identity import Identity, numerics, source_digest, target_digest, targets
from qp_runner.training.optim import LearningRate, MakeOptimizer, MakeSchedule, build_optimizers, constant_then_linear
from qp_runner.training.progress import Bar, ProgressView, Silent
from qp_runner.training.recorder import Recorder
from qp_runner.training.seeding import choose_device, seed_everything, set_numerics
from qp_runner.training.settings import TrainerSettings, TrainingDivergedError
from qp_runner.training.store import Store
from qp_runner.training.trainer import Trainer
from qp_runner.training.trunk import Trunk

__all__ = [
    "Bar",
    "Identity",
    "LearningRate",
    "MakeOptimizer",
    "MakeSchedule",
    "ProgressView",
    "Recorder",
    "Silent",
    "Store",
    "Trainer",
    "TrainerSettings",
    "TrainingDivergedError",
    "Trunk",
    "build_optimizers",
    "choose_device",
    "chosen",
    "constant_then_linear",
    "content_digest",
    "numerics",
    "seed_everything",
    "set_numerics",
    "source_digest",
    "target_digest",
    "targets",
]
