"""The figures of a finished run."""

from collections.abc import Mapping
from pathlib import Path

from qp_runner.compress import Compressor, measure, performance_density
from qp_runner.config import Config
from qp_runner.run.build import Parts
from qp_runner.schedule import Stage, Target, first_event, recovery
from qp_runner.tasks import Task
from qp_runner.tracking.records import read_rows


def outcome(config: Config, parts: Parts, *, validation: Mapping[str, float], steps: int) -> dict[str, float]:
    """The figures of a finished run (see `figures`), and the lengths of its schedule.

    `steps` are those it took: fewer than planned if it ended early.
    """
    found = figures(config, parts.task, parts.compressor, validation=validation)
    return found | _lengths(parts.stages, parts.task.steps_per_epoch, steps)


def figures(config: Config, task: Task, compressor: Compressor, *, validation: Mapping[str, float]) -> dict[str, float]:
    """What networks reach on test data, and their size: metric, footprint, performance density, sparsity and bits."""
    test = task.evaluate("test")
    footprint = measure(compressor, kind=config.compress.footprint)
    utility = task.metric.utility(test[task.metric.name])
    values = {f"final/{name}": value for name, value in test.items()}
    values |= {f"final/val_{name}": value for name, value in validation.items()}
    for part in ("weight", "activation", "total"):
        megabits = getattr(footprint, part)
        values[f"final/footprint_{part}_mb"] = megabits
        values[f"final/pd_{part}"] = performance_density(utility, megabits)
    values["final/footprint_peak_mb"] = footprint.peak
    values["final/footprint_ideal_total_mb"] = measure(compressor, kind="ideal").total
    values["final/footprint_stored_total_mb"] = measure(compressor, kind="stored").total
    covered = compressor.coverage()
    values |= {"compress/coverage_weight": covered.weight, "compress/coverage_activation": covered.activation}
    for target in Target:
        state = compressor.state(target)
        values |= {f"final/sparsity_{target}": state.sparsity, f"final/bits_{target}": float(state.bits)}
    return values


def initial_figures(task: Task) -> dict[str, float]:
    """What networks that start from given weights reach before training and before any event."""
    figures = {f"initial/{name}": value for name, value in task.evaluate("test").items()}
    return figures | {f"initial/val_{name}": value for name, value in task.evaluate("val").items()}


def final_metrics(folder: Path) -> dict[str, float]:
    """The figures that a finished run has left in its folder, by the names they were recorded under."""
    found, end, start = dict[str, float](), 0, -1
    while end != start:
        start = end
        rows, end = read_rows(folder, start)
        found |= {row.name: row.value for row in rows if row.name.startswith(("final/", "time/"))}
    return found


def _lengths(stages: tuple[Stage, ...], steps_per_epoch: int, total: int) -> dict[str, float]:
    first, left_out = first_event(stages), stages[-1].last + 1 - total
    return {
        "final/recovery_steps": float(recovery(stages) - left_out),
        "final/first_event_step": float(total if first is None else first),
        "final/total_steps": float(total),
        "final/steps_per_epoch": float(steps_per_epoch),
    }
