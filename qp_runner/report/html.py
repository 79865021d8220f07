"""The report as one HTML file without external resources."""

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined

from qp_runner.report import words
from qp_runner.report.effect_words import caution, verdict
from qp_runner.report.headline import Headline, headline
from qp_runner.report.overview import best_compressed, overview
from qp_runner.report.pictures import Subject, subjects
from qp_runner.report.plots import Looks, effect_plot, pareto_plot, training_plot
from qp_runner.report.plots.training import curves, value_range
from qp_runner.report.read import Records
from qp_runner.report.rows import Row
from qp_runner.report.sections import Section

WIDE, NARROW = 940, 390  # pixels: pictures are drawn for a screen and for a phone, not scaled


@dataclass(frozen=True)
class Picture:
    """A picture for wide and for narrow screens."""

    wide: str
    narrow: str


@dataclass(frozen=True)
class Chapter:
    """The page's content for one section."""

    section: Section
    headline: Headline
    panels: tuple[tuple[Row, str], ...]
    pareto: Picture
    effects: Picture | None
    density: "Density | None"
    subjects: tuple[Subject, ...]
    unfinished: tuple[dict[str, Any], ...]


@dataclass(frozen=True)
class Density:
    """How PD alone could mislead: at `value` of the metric, `densest` would still have the PD of the float network.

    `best` is the compressed schedule with the best metric.
    """

    densest: Row
    best: Row | None
    value: float | None


def write_page(records: Records, found: Sequence[Section], path: Path) -> None:
    """Writes the page atomically."""
    text = render(records, found)
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(".html.tmp")
    draft.write_text(text, encoding="utf-8")
    draft.replace(path)


def render(records: Records, found: Sequence[Section]) -> str:
    """The page's text."""
    rows = [row for section in found for row in section.rows]
    looks = Looks([row.schedule for row in rows], uncompressed=[row.schedule for row in rows if row.is_float])
    chapters = [_chapter(section, records, looks, f"s{i}") for i, section in enumerate(found) if section.finished]
    rest = [run for section in found if not section.finished for run in _unfinished(section)]
    environment = Environment(
        loader=PackageLoader("qp_runner.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals.update(words=words, verdict=verdict, caution=caution, looks=looks, nan=math.nan)
    template = environment.get_template("report.html.j2")
    return template.render(
        records=records,
        chapters=chapters,
        standings=overview(found),
        origin=_origin(records.runs),
        rest=rest,
        now=_now(),
    )


def _chapter(section: Section, records: Records, looks: Looks, name: str) -> Chapter:
    finished, metric, histories = section.finished, section.metric, records.histories
    found = [curves(row, histories) for row in finished]
    limits = value_range(found)
    reference = next((curve for row, curve in zip(finished, found, strict=True) if row.is_float), None)
    panel = partial(training_plot, histories=histories, metric=metric, looks=looks, limits=limits, reference=reference)
    kind = str(section.runs["footprint_kind"].iloc[0])
    pareto = partial(pareto_plot, finished, metric=metric, looks=looks, kind=kind)
    effect = partial(effect_plot, section.effects, metric=metric, looks=looks)
    return Chapter(
        section=section,
        headline=headline(section),
        panels=tuple((row, panel(row, name=f"{name}t{index}")) for index, row in enumerate(finished)),
        pareto=_picture(pareto, f"{name}p"),
        effects=_picture(effect, f"{name}e") if any(each.paired.n for each in section.effects) else None,
        density=_density(section),
        subjects=subjects(finished, records.pictures),
        unfinished=_unfinished(section),
    )


def _unfinished(section: Section) -> tuple[dict[str, Any], ...]:
    rest = section.runs[section.runs["status"] != "FINISHED"]
    return tuple(rest.to_dict("records"))  # type: ignore[arg-type]


def _picture(draw: "partial[str]", name: str) -> Picture:
    return Picture(draw(width=WIDE, name=f"{name}w"), draw(width=NARROW, name=f"{name}n"))


def _density(section: Section) -> Density | None:
    rows = [row for row in section.finished if math.isfinite(row.density.mean)]
    if not rows:
        return None
    densest = max(rows, key=lambda row: row.density.mean)
    best, plain = best_compressed(section), next((row for row in rows if row.is_float), None)
    if plain is None or densest is plain:
        return Density(densest, best, None)
    utility = plain.density.mean * densest.footprint.mean
    return Density(densest, best, utility if section.metric.higher_is_better else 1 / utility)


def _origin(runs: pd.DataFrame) -> dict[str, list[str]]:
    """The origin of the figures, each value once."""
    names = ("command", "git_commit", "versions", "cpus", "sweep")
    return {name: [value for value in dict.fromkeys(runs[name].astype(str)) if value] for name in names}


def _now() -> str:
    """The time, or SOURCE_DATE_EPOCH if set, so that a page can be reproduced exactly."""
    fixed = os.environ.get("SOURCE_DATE_EPOCH")
    now = datetime.now(UTC) if fixed is None else datetime.fromtimestamp(int(fixed), UTC)
    return now.strftime("%Y-%m-%d %H:%M UTC")
