"""What a search found, for the terminal."""

from collections.abc import Mapping, Sequence

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from qp_runner.metric import Metric
from qp_runner.report.words import column, listed, metric_number, number, plural, with_unit
from qp_runner.search.trials import Trial, best, firsts, hypervolume
from qp_runner.shares import percent

SHOWN_REASONS = 3
WIDE, PER_VALUE = 64, 12  # columns: the narrowest terminal on which values are shown, and what each of them adds


def show_search(
    console: Console, trials: Sequence[Trial], *, metric: Metric, reference: Mapping[str, float] | None
) -> None:
    """Prints the front as a table, how many trials there were, and why some were infeasible or failed."""
    front = best(trials, metric)
    if front:
        console.print()
        console.print(front_table(front, metric=metric, width=console.width))
        for trial in front if not _has_room(front, console.width) else ():
            values = ", ".join(f"{_short(key)} {value}" for key, value in trial.changes.items())
            console.print(f"  trial {trial.number}: {values}", highlight=False, style="dim")
    if reference:
        figures = f"{with_unit(metric, reference['metric'])} at {number(reference['footprint'])} Mb"
        console.print(f"float: {figures} (test {with_unit(metric, reference['test'])})", highlight=False)
    covered = hypervolume(firsts(trials), metric)
    if covered == covered:
        console.print(f"The front dominates {percent(covered)} of the box of all figures.", highlight=False)
    for line in summary(trials, reference):
        console.print(line, soft_wrap=True)


def front_table(front: Sequence[Trial], *, metric: Metric, width: int) -> Table:
    """The trials of the front. Test figures are shown, but chose nothing."""
    table = Table(
        title="Pareto front", title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True
    )
    table.add_column("trial", justify="right")
    table.add_column("order", no_wrap=width >= WIDE)
    keys = list(front[0].changes) if _has_room(front, width) else []
    for heading in (*map(_heading, keys), f"val.\n{metric.name}", "size\nMb", f"test\n{metric.name}"):
        table.add_column(heading, justify="right", no_wrap=True)
    sizes = column([trial.figure("footprint") for trial in front])
    for trial, size in zip(front, sizes, strict=True):
        values = [trial.changes[key] for key in keys]
        figures = [metric_number(metric, trial.figure("metric")), size, metric_number(metric, trial.figure("test"))]
        table.add_row(str(trial.number), trial.order, *values, *figures)
    return table


def summary(trials: Sequence[Trial], reference: Mapping[str, float] | None) -> list[Text]:
    """How many trials there were of each kind, how many steps sharing saved, and the reasons of the unsuccessful."""
    counts = {state: sum(trial.state == state for trial in trials) for state in ("failed", "infeasible")}
    runs = firsts(trials)
    kinds = [f"{count} {state}" for state, count in counts.items() if count]
    repeated = sum(trial.job is not None for trial in trials) - len(runs)
    kinds += [f"{repeated} repeated, not trained again"] if repeated else []
    total = f"{plural(len(runs), 'run')} in {plural(len(trials), 'trial')}"
    lines = [Text(total + (f" ({', '.join(kinds)})" if kinds else ""))]
    finished = [trial.figures for trial in runs if trial.state == "finished"] + ([reference] if reference else [])
    asked, computed = (sum(figures.get(name, 0.0) for figures in finished) for name in ("steps", "computed"))
    if computed:
        who = "they and the float run" if reference else "they"
        ratio = f"{asked / computed:.2f} × less"
        lines.append(Text(f"{who} asked for {asked:,.0f} training steps; {computed:,.0f} were computed ({ratio})"))
    return lines + reasons(trials)


def reasons(trials: Sequence[Trial]) -> list[Text]:
    """The reasons of infeasible and failed trials, the most frequent first."""
    by_reason: dict[tuple[str, str], list[str]] = {}
    for trial in trials:
        if trial.reason:
            by_reason.setdefault((trial.state, trial.reason), []).append(str(trial.number))
    ranked = sorted(by_reason.items(), key=lambda item: -len(item[1]))
    lines = [
        Text(f"  {state}, trial{'s' if len(numbers) > 1 else ''} {listed(numbers)}: {reason}", "dim")
        for (state, reason), numbers in ranked[:SHOWN_REASONS]
    ]
    left = len(ranked) - len(lines)
    return lines + ([Text(f"  and {plural(left, 'other reason')}, in search.csv", "dim")] if left else [])


def _has_room(front: Sequence[Trial], width: int) -> bool:
    """Whether a terminal has room for a column per value."""
    return width >= WIDE + PER_VALUE * len(front[0].changes)


def _heading(key: str) -> str:
    """`schedule.events.prune_weight.to` on three lines."""
    return _short(key).replace("_", "\n").replace(".", "\n")


def _short(key: str) -> str:
    return key.removeprefix("schedule.events.")
