"""What a search leaves: all trials as CSV, the front as a picture, both beside the figures in the parent run."""

import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.console import Console

from qp_runner.errors import ConfigError
from qp_runner.metric import Metric
from qp_runner.report.terminal import write_csv
from qp_runner.report.words import number, with_unit
from qp_runner.search.plot import save_trial_plot
from qp_runner.search.table import show_search
from qp_runner.search.trials import Trial, best, firsts, hypervolume, trial_table
from qp_runner.sweep import Sweep
from qp_runner.tracking import log_parent

TABLE, PICTURE = "search.csv", "search.png"


class SearchFailedError(RuntimeError):
    """Not one run of a search has finished."""


def say_progress(trials: Sequence[Trial], *, folder: Path, metric: Metric, wanted: int) -> None:
    """After each batch: writes search.csv, and one line on standard error."""
    write_csv(trial_table(trials, metric, root=folder), folder / TABLE)
    console = Console(stderr=True)
    runs = firsts(trials)
    ends = best(trials, metric)
    told = [f"{with_unit(metric, each.figure('metric'))} at {number(each.figure('footprint'))} Mb" for each in ends]
    infeasible = sum(trial.state == "infeasible" for trial in trials)
    span = f"; front of {len(told)}: " + (" to ".join(dict.fromkeys((told[0], told[-1])))) if told else ""
    console.print(
        f"[bold]search[/]: {len(runs)} of {wanted} runs, {infeasible} infeasible{span}", highlight=False, soft_wrap=True
    )


def keep(
    trials: Sequence[Trial], *, folder: Path, sweep: Sweep, metric: Metric, reference: Mapping[str, float]
) -> None:
    """Writes search.csv and search.png, logs them to the parent run and prints the front.

    Raises ConfigError where no trial was feasible, SearchFailedError where no run has finished.
    """
    table, picture = folder / TABLE, folder / PICTURE
    write_csv(trial_table(trials, metric, root=folder), table)
    runs = firsts(trials)
    if not any(trial.state == "finished" for trial in trials):
        _nothing_found(trials)
    title = f"{sweep.title}: {len(runs)} runs"
    save_trial_plot(picture, trials, metric=metric, reference=reference or None, title=title)
    if sweep.uri is not None and sweep.parent_run_id is not None:
        values = _figures(trials, metric)
        log_parent(sweep.uri, sweep.parent_run_id, values, step=len(runs), files=[table, picture])
    console = Console()
    show_search(console, trials, metric=metric, reference=reference or None)
    console.print(f"\n{table}\n{picture}", style="dim", soft_wrap=True, highlight=False)


def _figures(trials: Sequence[Trial], metric: Metric) -> dict[str, float]:
    runs = firsts(trials)
    values = {
        "search/runs": len(runs),
        "search/trials": len(trials),
        "search/infeasible": sum(trial.state == "infeasible" for trial in trials),
        "search/failed": sum(trial.state == "failed" for trial in runs),
        "search/front": len(best(trials, metric)),
        "search/hypervolume": hypervolume(runs, metric),
    }
    return {name: float(value) for name, value in values.items() if math.isfinite(value)}


def _nothing_found(trials: Sequence[Trial]) -> None:
    sys.stdout.flush()
    reason = next((trial.reason for trial in trials if trial.reason), "no trial was asked for")
    if all(trial.state == "infeasible" for trial in trials):
        raise ConfigError("search.space", f"({len(trials)} suggestions)", f"none is feasible, for example {reason}")
    raise SearchFailedError(f"no run of the search has finished: {reason}")
