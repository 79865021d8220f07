from qp_runner.sweep.parent import ParentRun, Sweep, SweepPlan

__all__ = ["ParentRun", "Sweep", "SweepPlan"]
