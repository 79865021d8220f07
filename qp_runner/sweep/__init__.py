from qp_runner.sweep.batch import Batch, Batches
from qp_runner.sweep.parent import ParentRun, Sweep, SweepPlan

__all__ = ["Batch", "Batches", "ParentRun", "Sweep", "SweepPlan"]
