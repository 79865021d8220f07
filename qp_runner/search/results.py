"""What a search leaves: all trials as CSV and the front as a picture, both in the parent run too, with key figures."""

import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.console import Console

from qp_runner.errors import ConfigError
from qp_runner.metric import Metric
from qp_runner.report.terminal import write_csv
from qp_runner.report.words import number, with_unit
from qp_runner.search.confirm import Results
from qp_runner.search.plot import save_trial_plot
from qp_runner.search.table import show_search
from qp_runner.search.trials import Trial, best, firsts, hypervolume, trial_table
from qp_runner.search.verdict import confirm_table, show_confirmation
from qp_runner.sweep.parent import ParentRun

TABLE, PICTURE, CONFIRMED = "search.csv", "search.png", "confirm.csv"


class SearchFailedError(RuntimeError):
    """No run of a search has finished."""


def report_progress(trials: Sequence[Trial], *, folder: Path, metric: Metric, wanted: int) -> None:
    """After each batch: writes search.csv, and one line on standard error."""
    write_csv(trial_table(trials, metric), folder / TABLE)
    console = Console(stderr=True, markup=False)
    runs, ends = firsts(trials), best(trials, metric)
    front = [f"{with_unit(metric, each.figure('metric'))} at {number(each.figure('footprint'))} Mb" for each in ends]
    infeasible = sum(trial.state == "infeasible" for trial in trials)
    span = f"; front of {len(front)}: " + " to ".join(dict.fromkeys((front[0], front[-1]))) if front else ""
    console.print(
        f"search: {len(runs)} of {wanted} runs, {infeasible} infeasible{span}", highlight=False, soft_wrap=True
    )


def keep(
    trials: Sequence[Trial], *, parent: ParentRun, title: str, metric: Metric, reference: Mapping[str, float]
) -> None:
    """Writes search.csv and search.png, records them and key figures in the parent run, and prints the front.

    Raises ConfigError where no trial was feasible, SearchFailedError where no run has finished.
    """
    table, picture = parent.folder / TABLE, parent.folder / PICTURE
    write_csv(trial_table(trials, metric), table)
    runs = firsts(trials)
    if not any(trial.state == "finished" for trial in trials):
        _nothing_found(trials)
    save_trial_plot(picture, trials, metric=metric, reference=reference or None, title=f"{title}: {len(runs)} runs")
    parent.files.metrics(_figures(trials, metric), step=len(runs))
    for path in (table, picture):
        parent.files.artifact(path.name)
    console = Console(markup=False)
    show_search(console, trials, metric=metric, reference=reference or None)
    console.print(f"\n{table}\n{picture}", style="dim", soft_wrap=True, highlight=False)


def keep_confirmation(results: Results, *, parent: ParentRun, metric: Metric) -> None:
    """Writes confirm.csv, records it in the parent run, and prints what it shows."""
    path = parent.folder / CONFIRMED
    write_csv(confirm_table(results, metric), path)
    parent.files.artifact(path.name)
    console = Console(markup=False)
    show_confirmation(console, results, metric)
    console.print(f"\n{path}", style="dim", soft_wrap=True, highlight=False)


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
