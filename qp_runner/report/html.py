"""The report as one HTML file without external resources."""

import math
import os
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined

from qp_runner.report import words
from qp_runner.report.forest import forest, sentences
from qp_runner.report.phase import phase, prediction
from qp_runner.report.pictures import subjects
from qp_runner.report.plots.effects import effect_plot
from qp_runner.report.plots.forest import drawn, forest_plot
from qp_runner.report.plots.pareto import file_plot, pareto_plot
from qp_runner.report.plots.phase import phase_plot
from qp_runner.report.plots.style import Looks, assign_looks
from qp_runner.report.plots.training import curves, training_plot, value_range
from qp_runner.report.read import Records
from qp_runner.report.sections import Section, of_several_tasks
from qp_runner.report.verdict import caution, headline, verdict
from qp_runner.shares import percent

DRAWN = 30  # schedules with a panel, and pairs in the plot: more can neither be looked at nor drawn in seconds
COMPARED = 2  # order effects that a forest plot has at least
WIDTHS = {"wide": 940, "narrow": 390}  # pixels: pictures are drawn for a screen and for a phone, not scaled


def write_page(text: str, path: Path) -> None:
    """Writes the page atomically."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(".html.tmp")
    draft.write_text(text, encoding="utf-8")
    draft.replace(path)


def render(records: Records, found: Sequence[Section]) -> str:
    """The page's text."""
    looks = assign_looks([row for section in found for row in section.rows])
    environment = Environment(
        loader=PackageLoader("qp_runner.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals.update(
        words=words, percent=percent, verdict=verdict, caution=caution, headline=headline, looks=looks, drawn=DRAWN
    )
    return environment.get_template("report.html.j2").render(
        records=records,
        chapters=[_chapter(section, records, looks, f"s{i}") for i, section in enumerate(found) if section.finished],
        compared=of_several_tasks(found),
        forest=_forest(found),
        origin=_origin(records.runs),
        rest=[run for section in found if not section.finished for run in section.unfinished],
        now=_now(),
    )


def _chapter(section: Section, records: Records, looks: Looks, name: str) -> dict[str, Any]:
    """A section with its pictures; `name` makes their ids unique on the page."""
    finished, metric = section.finished, section.metric
    drawn = section.most_telling(DRAWN)
    histories = records.histories([run for row in drawn for run in row.run_ids], [row.run_ids[0] for row in drawn])
    found = [curves(row, histories) for row in drawn]
    plain = next((curve for row, curve in zip(drawn, found, strict=True) if row.is_float), None)
    panel = partial(training_plot, metric=metric, looks=looks, limits=value_range(found), reference=plain)
    kind = str(section.runs["footprint_kind"].iloc[0])
    pareto = partial(pareto_plot, finished, metric=metric, looks=looks, kind=kind)
    files = partial(file_plot, section.exported, metric=metric, looks=looks)
    effects = partial(effect_plot, section.effects[:DRAWN], metric=metric, looks=looks)
    shown, unreadable = subjects(drawn, records.pictures)
    return {
        "section": section,
        "headline": headline(section.effects),
        "kind": kind,
        "panels": [(row, panel(row, histories, name=f"{name}t{i}")) for i, row in enumerate(drawn)],
        "pareto": _both(pareto, f"{name}p"),
        "files": _both(files, f"{name}f") if section.exported else None,
        "effects": _both(effects, f"{name}e") if any(each.paired.n for each in section.effects) else None,
        "phase": _phase(section, f"{name}m"),
        "break_even": _break_even(section),
        "subjects": shown,
        "unreadable": unreadable,
    }


def _forest(found: Sequence[Section]) -> dict[str, Any] | None:
    """The order effects of all sections on one axis; None where there are no two of them."""
    rows = forest(found)
    if len(drawn(rows)) < COMPARED:
        return None
    return {"rows": rows, "sentences": sentences(rows), "picture": _both(partial(forest_plot, rows), "forest")}


def _phase(section: Section, name: str) -> dict[str, Any] | None:
    """The map of a section that sweeps sparsity and bits together; else None."""
    found = phase(section)
    if found is None:
        return None
    return {"picture": _both(partial(phase_plot, found), name), "prediction": prediction(found)}


def _both(draw: Callable[..., str], name: str) -> dict[str, str]:
    """A picture for a screen and one for a phone."""
    return {screen: draw(width=width, name=f"{name}{screen[0]}") for screen, width in WIDTHS.items()}


def _break_even(section: Section) -> float | None:
    """How PD alone could mislead: the metric at which the densest schedule would have the PD of the float network."""
    plain, densest = section.plain, section.densest
    if plain is None or densest is None or densest is plain or math.isnan(plain.density.mean):
        return None
    utility = plain.density.mean * densest.footprint.mean
    return utility if section.metric.higher_is_better else 1 / utility


def _origin(runs: pd.DataFrame) -> dict[str, list[str]]:
    """The origin of the figures, each value once."""
    names = ("command", "git_commit", "versions", "cpus")
    return {name: [value for value in runs[name].unique() if value] for name in names}


def _now() -> str:
    """The time, or SOURCE_DATE_EPOCH if set, so that a page can be reproduced exactly."""
    fixed = os.environ.get("SOURCE_DATE_EPOCH")
    now = datetime.now(UTC) if fixed is None else datetime.fromtimestamp(int(fixed), UTC)
    return now.strftime("%Y-%m-%d %H:%M UTC")
