"""What the runs that confirm a search show: paired differences, in a table and a sentence."""

import math

import pandas as pd
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from qp_runner.metric import Metric
from qp_runner.report.stats import Paired, holm, paired, summarise
from qp_runner.report.words import listed, metric_number, number, p_value, plural, points, spread
from qp_runner.search.confirm import FOUND, Contender, Results
from qp_runner.search.trials import Trial

ALPHA = 0.05


def differences(results: Results, metric: Metric) -> dict[str, Paired]:
    """By contender: the found schedule's advantage over it, paired by seed; positive if the found one is better."""
    found = results.test[FOUND]
    return {
        name: paired([metric.sign * (found[seed] - test[seed]) for seed in sorted(found.keys() & test.keys())])
        for name, test in results.test.items()
        if name != FOUND
    }


def sentence(results: Results, metric: Metric) -> str:
    """Whether the found schedule beats all others at no more footprint, after Holm's correction."""
    compared = differences(results, metric)
    ps = [each.p for each in compared.values() if each.p is not None]
    if len(ps) < len(compared):
        return "No verdict: too few seeds, or no spread between them."
    adjusted = dict(zip(compared, holm(ps), strict=True))
    better = [name for name, each in compared.items() if each.mean > 0 and adjusted[name] < ALPHA]
    worse = [name for name, each in compared.items() if each.mean < 0 and adjusted[name] < ALPHA]
    each_n = listed([f"{_interval(each, metric)} against {name}" for name, each in compared.items()])
    measured = f"{each_n} (95 % intervals, {plural(min(each.n for each in compared.values()), 'fresh seed')})"
    if len(better) == len(compared):
        return f"The found schedule beats {listed(better)} {_sizes(results)}: {measured}."
    said = [f"is better than {listed(better)}"] if better else []
    said += [f"is worse than {listed(worse)}"] if worse else []
    rest = [name for name in compared if name not in (*better, *worse)]
    said += [f"is not shown to differ from {listed(rest)}"] if rest else []
    return f"The found schedule does not beat all of them: it {listed(said)}, {_sizes(results)}: {measured}."


def confirm_table(results: Results, metric: Metric) -> pd.DataFrame:
    """One row a run."""
    return pd.DataFrame(
        {
            "contender": each.name,
            "order": each.order,
            "trial": results.trial.number if each.name == FOUND else None,
            "seed": seed,
            f"test_{metric.name}": results.test[each.name].get(seed, math.nan),
            "footprint_total_mb": results.footprint[each.name],
            "folder": run,
        }
        for each in results.contenders
        for seed, run in each.runs.items()
    ).astype({"trial": "Int64"})


def read_confirmation(table: pd.DataFrame, scored: str) -> Results:
    """The results that `confirm_table` made a table of; `scored` is the column of the metric."""
    contenders, test, footprint = [], {}, {}
    for name, runs in table.groupby("contender", sort=False):
        contenders.append(
            Contender(str(name), str(runs["order"].iloc[0]), dict(zip(runs["seed"], runs["folder"], strict=True)))
        )
        known = runs.dropna(subset=[scored])
        test[str(name)] = dict(zip(known["seed"], known[scored], strict=True))
        footprint[str(name)] = float(runs["footprint_total_mb"].iloc[0])
    number_of_trial = int(table["trial"].dropna().iloc[0])
    return Results(Trial(number_of_trial, "finished", {}), contenders, test, footprint)


def show_confirmation(console: Console, results: Results, metric: Metric) -> None:
    """Prints the table and the sentence."""
    shown = Table(
        title=f"Confirmed with fresh seeds: trial {results.trial.number}",
        title_justify="left",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
    )
    shown.add_column("schedule")
    for heading in ("n", f"test {metric.name}", "size\nMb", "found − it", "p after\nHolm"):
        shown.add_column(heading, justify="right")
    compared = differences(results, metric)
    ps = {name: each.p for name, each in compared.items() if each.p is not None}
    adjusted = dict(zip(ps, holm(list(ps.values())), strict=True)) if ps else {}
    for each in results.contenders:
        test = summarise(list(results.test[each.name].values()))
        difference = compared.get(each.name)
        shown.add_row(
            f"{each.name}: {each.order}",
            str(test.n),
            spread(metric, test.mean, test.std),
            number(results.footprint[each.name]),
            "" if difference is None else metric_number(metric, difference.mean, signed=True),
            p_value(adjusted[each.name]) if each.name in adjusted else "",
        )
    console.print()
    console.print(shown)
    console.print(Text(sentence(results, metric)), soft_wrap=True)


def _sizes(results: Results) -> str:
    """The footprint of the found schedule is at most that of any other."""
    others = min(size for name, size in results.footprint.items() if name != FOUND)
    return f"at {number(results.footprint[FOUND])} Mb against {number(others)} Mb"


def _interval(found: Paired, metric: Metric) -> str:
    low, high = (metric_number(metric, end, signed=True) for end in found.interval or (found.mean, found.mean))
    return f"{low} to {high} {points(metric)}"
