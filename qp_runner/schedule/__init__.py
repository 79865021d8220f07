"""When pruning and quantization enter training, as data. Needs the standard library only."""

from qp_runner.schedule.event import FLOAT_BITS, Curve, Event, Op, Target
from qp_runner.schedule.naming import LETTERS
from qp_runner.schedule.schedule import Schedule
from qp_runner.schedule.stage import Stage, TargetState, first_event, recovery, starting_from, total_steps
from qp_runner.schedule.time import Time, Unit

__all__ = [
    "FLOAT_BITS",
    "LETTERS",
    "Curve",
    "Event",
    "Op",
    "Schedule",
    "Stage",
    "Target",
    "TargetState",
    "Time",
    "Unit",
    "first_event",
    "recovery",
    "starting_from",
    "total_steps",
]
