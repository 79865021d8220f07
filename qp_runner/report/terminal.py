"""The report's table and verdicts for the terminal, and its rows as CSV."""

import re
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from rich import box
from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from qp_runner.report import words
from qp_runner.report.effect import Effect
from qp_runner.report.forest import forest, sentences
from qp_runner.report.phase import phase, prediction
from qp_runner.report.rows import TARGETS
from qp_runner.report.sections import Section, of_several_tasks
from qp_runner.report.verdict import caution, headline, verdict
from qp_runner.shares import percent

WITH_NAMES = 100  # columns from which the table has room for the schedules' names
METRIC_WIDTH = 14


def show(console: Console, found: Sequence[Section]) -> None:
    """Prints a table for each section, the order effects, and unfinished runs."""
    for section in found:
        console.print()
        console.print(Text.assemble((section.task, "bold"), "  ", (section.setting, "dim")))
        if section.coverage:
            console.print(Text(f"in sites: {section.coverage}", "dim"))
        for text in section.left_out:
            console.print(Text(text, "yellow"))
        if section.finished:
            console.print(summary_table(section, width=console.width), effects(section))
        _show_failures(console, section)
    compared = of_several_tasks(found)
    if compared:
        console.print()
        console.print(overview_table(compared))
    rows = forest(found)
    if len(rows) > 1:
        console.print(Text(f"\nThe order effect, {words.plural(len(rows), 'pair')} of orders:", "bold"))
        for line in sentences(rows):
            console.print(Padding(Text(line), (0, 0, 0, 2)))


def _show_failures(console: Console, section: Section) -> None:
    if section.unfinished:
        console.print(Text(f"\n{words.plural(len(section.unfinished), 'run')} did not finish:", "bold red"))
    for name, status, error in section.unfinished:
        console.print(Text.assemble("  ", (status, "red"), f" {name}: {error}"))
    if section.failed_exports:
        console.print(Text("\nExported files that are not as they should be:", "bold red"))
    for name, error in section.failed_exports:
        console.print(Text(f"  {name}: {error}"))


def summary_table(section: Section, *, width: int) -> Table:
    """Schedules × figures: means over seeds, ± one standard deviation; fits 80 columns."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1), collapse_padding=True)
    table.add_column("order", no_wrap=True)
    named = width >= WITH_NAMES
    if named:
        table.add_column("schedule", style="dim", overflow="fold")
    metric = section.metric
    name = metric.name
    if len(name) > METRIC_WIDTH:  # on several lines
        name = re.sub(r"[ _]", "\n", re.sub(r"[()]", "", name))
    scored = f"{name}\n{metric.unit} {words.arrow(metric)}".replace("\n ", "\n")
    headings = ["n", scored, "spars.\nw f %", "bits\nw f", "size\nMb", "PD\n/Mb", "recov.\nep"]
    for heading in [*headings, *(["file\nMb"] if section.exported else [])]:
        table.add_column(heading, justify="right", no_wrap=True)
    footprints = words.column([row.footprint.mean for row in section.rows])
    densities = words.column([row.density.mean for row in section.rows])
    files = words.column([row.file_mb for row in section.rows])
    for row, footprint, density, file in zip(section.rows, footprints, densities, files, strict=True):
        table.add_row(
            row.order,
            *([row.schedule] if named else []),
            str(row.metric.n),
            words.spread(metric, row.metric.mean, row.metric.std),
            " ".join(percent(row.figure(f"sparsity_{target}")).removesuffix(" %") for target in TARGETS),
            " ".join(words.whole(row.figure(f"bits_{target}")) for target in TARGETS),
            footprint + (" ◆" if row.on_front else "  "),
            density,
            "–" if row.is_float else words.epochs(row.figure("recovery_steps"), row.figure("steps_per_epoch")),
            *([file + (" ✓" if row.is_verified else "  ")] if section.exported else []),
        )
    return table


def overview_table(compared: Sequence[Section]) -> Table:
    """Tasks × their winners; fits 80 columns."""
    table = Table(title="Which order wins where", title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in ("task", "float"):
        table.add_column(heading, no_wrap=True)
    for heading in ("best compressed", "highest PD", "in which order?"):
        table.add_column(heading)
    for section in compared:
        metric, plain = section.metric, section.plain
        won = [
            f"{row.order}\n{words.with_unit(metric, row.metric.mean)}\nPD {words.number(row.density.mean)}"
            if row
            else "–"
            for row in (section.best, section.densest)
        ]
        table.add_row(
            Text.assemble(section.task, (f"\n{section.model}\non {section.data}", "dim")),
            words.with_unit(metric, plain.metric.mean) if plain else "–",
            *won,
            headline(section.effects).answer,
        )
    return table


def effects(section: Section) -> RenderableType:
    """The headline, then each pair's verdict."""
    found = headline(section.effects)
    lines: list[RenderableType] = [Text("◆ on the Pareto front of metric against footprint", "dim"), Text()]
    lines.append(Text.assemble(("In which order? ", "bold"), (found.answer, "bold green")))
    for effect in section.effects:
        sides = [f"{side.order} ({side.schedule})" for side in (effect.first, effect.second)]
        said = "; ".join(filter(None, (verdict(effect), caution(effect))))
        lines.append(Padding(Text("  against  ".join(sides), "dim"), (0, 0, 0, 2)))
        lines += [Padding(Text(line), (0, 0, 0, 4)) for line in (_measured(effect), said)]
    mapped = phase(section)
    if mapped is not None:
        lines += [Text(), Text(prediction(mapped))]
    if not section.effects:
        lines += [Padding(Text(line), (0, 0, 0, 2)) for line in found.because]
    return Group(*lines)


def _measured(effect: Effect) -> str:
    """The basis of the verdict: the mean difference, its interval, the recovery of both sides."""
    mean, *ends = (
        words.metric_number(effect.metric, value, signed=True)
        for value in (effect.paired.mean, *(effect.paired.interval or ()))
    )
    interval = f", 95 % interval {' to '.join(ends)}" if ends else ""
    first, second = (words.whole(side.figure("recovery_steps")) for side in (effect.first, effect.second))
    return f"{mean} {words.points(effect.metric)}{interval}, recovery {first} against {second} steps"


def write_csv(runs: pd.DataFrame, path: Path) -> None:
    """One row per run, finished or not; missing figures are empty."""
    path.parent.mkdir(parents=True, exist_ok=True)
    runs.to_csv(path, index=False, lineterminator="\n")
