"""The report's table and verdicts for the terminal, and its rows as CSV."""

import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from rich import box
from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from qp_runner.report.effect import Effect
from qp_runner.report.effect_words import caution, verdict
from qp_runner.report.headline import headline
from qp_runner.report.overview import Standing, overview
from qp_runner.report.read import FINAL
from qp_runner.report.rows import Row
from qp_runner.report.sections import Section
from qp_runner.report.words import (
    arrow,
    column,
    epochs,
    metric_number,
    number,
    percent,
    plural,
    points,
    spread,
    whole,
    with_unit,
)

WITH_NAMES = 100  # columns from which the table has room for the schedules' names
METRIC_WIDTH = 14
TARGETS = ("weight", "activation")


def show(console: Console, found: Sequence[Section]) -> None:
    """Prints a table for each section, the order effects, and unfinished runs."""
    for section in found:
        console.print()
        console.print(Text.assemble((section.task, "bold"), "  ", (section.setting, "dim")))
        if section.finished:
            console.print(summary_table(section, width=console.width), effects(section))
        for line in unfinished(section):
            console.print(line)
    standings = overview(found)
    if standings:
        console.print()
        console.print(overview_table(standings))


def summary_table(section: Section, *, width: int) -> Table:
    """Schedules × figures: means over seeds, ± one standard deviation; fits 80 columns."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1), collapse_padding=True)
    table.add_column("order", no_wrap=True)
    named = width >= WITH_NAMES
    if named:
        table.add_column("schedule", style="dim", overflow="fold")
    metric = section.metric
    unit = " ".join(part for part in (metric.unit, arrow(metric)) if part)
    for heading in (
        "n",
        f"{_folded(metric.name)}\n{unit}",
        "spars.\nw f %",
        "bits\nw f",
        "size\nMb",
        "PD\n/Mb",
        "recov.\nep",
    ):
        table.add_column(heading, justify="right", no_wrap=True)
    footprints = column([row.footprint.mean for row in section.rows])
    densities = column([row.density.mean for row in section.rows])
    for row, footprint, density in zip(section.rows, footprints, densities, strict=True):
        name = [row.schedule] if named else []
        table.add_row(row.order, *name, *_figures(row, section, footprint=footprint, density=density))
    return table


def _folded(name: str) -> str:
    """A long metric name on several lines, so that the table fits 80 columns."""
    return re.sub(r"[ _]", "\n", name.replace("(", "").replace(")", "")) if len(name) > METRIC_WIDTH else name


def overview_table(standings: Sequence[Standing]) -> Table:
    """Tasks × their winners; fits 80 columns."""
    table = Table(title="Which order wins where", title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("task", overflow="fold", min_width=20)
    table.add_column("float", no_wrap=True)
    for heading in ("best compressed", "highest PD", "in which order?"):
        table.add_column(heading)
    for standing in standings:
        metric, plain = standing.section.metric, standing.plain
        won = [
            f"{row.order}\n{with_unit(metric, row.metric.mean)}\nPD {number(row.density.mean)}" if row else "–"
            for row in (standing.best, standing.densest)
        ]
        section = standing.section
        first = Text.assemble(section.task, (f"\n{section.model} on {section.data}", "dim"))
        table.add_row(first, with_unit(metric, plain.metric.mean) if plain else "–", *won, standing.answer)
    return table


def _figures(row: Row, section: Section, *, footprint: str, density: str) -> list[str]:
    final = {**dict.fromkeys(FINAL, math.nan), **row.figures}
    recovery = "–" if row.is_float else epochs(final["recovery_steps"], final["steps_per_epoch"])
    sparsities = [percent(final[f"sparsity_{target}"]).removesuffix(" %") for target in TARGETS]
    return [
        str(row.metric.n),
        spread(section.metric, row.metric.mean, row.metric.std),
        " ".join(sparsities),
        " ".join(whole(final[f"bits_{target}"]) for target in TARGETS),
        footprint + (" ◆" if row.on_front else "  "),
        density,
        recovery,
    ]


def effects(section: Section) -> RenderableType:
    """The headline, then each pair's verdict."""
    found = headline(section)
    lines: list[RenderableType] = [Text("◆ on the Pareto front of metric against footprint", "dim"), Text()]
    lines.append(Text.assemble(("In which order? ", "bold"), (found.answer, "bold green")))
    for effect in section.effects:
        sides = [f"{side.order} ({side.schedule})" for side in (effect.first, effect.second)]
        pair = Text("  against  ".join(sides), "dim")
        text = "; ".join(filter(None, (verdict(effect, section.metric), caution(effect))))
        lines += [Padding(line, (0, 0, 0, indent)) for line, indent in ((pair, 2), (_measured(effect, section), 4))]
        lines.append(Padding(Text(text), (0, 0, 0, 4)))
    if not section.effects:
        lines += [Padding(Text(line), (0, 0, 0, 2)) for line in found.because]
    return Group(*lines)


def _measured(effect: Effect, section: Section) -> Text:
    """The basis of the verdict: the mean difference, its interval, the recovery of both sides."""
    found, metric = effect.paired, section.metric
    parts = [f"{metric_number(metric, found.mean, signed=True)} {points(metric)}"]
    if found.low is not None and found.high is not None:
        low, high = (metric_number(metric, end, signed=True) for end in (found.low, found.high))
        parts.append(f"95 % interval {low} to {high}")
    first, second = (whole(steps) for steps in effect.steps("recovery_steps"))
    return Text(", ".join([*parts, f"recovery {first} against {second} steps"]))


def unfinished(section: Section) -> list[Text]:
    """One line for each unfinished run, with its error."""
    rest = section.runs[section.runs["status"] != "FINISHED"]
    if rest.empty:
        return []
    lines = [Text(f"\n{plural(len(rest), 'run')} did not finish:", "bold red")]
    for run in rest.itertuples():
        lines.append(Text.assemble("  ", (str(run.status), "red"), f" {run.name!s}: {_error(run)}"))
    return lines


def _error(run: Any) -> str:
    return str(run.error) or (
        "still running, or ended without a record" if run.status == "RUNNING" else "no error recorded"
    )


def write_csv(runs: pd.DataFrame, path: Path) -> None:
    """One row per run, finished or not; missing figures are empty."""
    path.parent.mkdir(parents=True, exist_ok=True)
    runs.to_csv(path, index=False, lineterminator="\n")
