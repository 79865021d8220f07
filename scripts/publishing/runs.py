"""The kept summary.csv files as tables of the report."""

from functools import lru_cache
from pathlib import Path

import pandas as pd

from qp_runner.report.effect import Effect
from qp_runner.report.forest import ForestRow, family_of, forest, pruned
from qp_runner.report.kept import read_csv
from qp_runner.report.read import Records
from qp_runner.report.rows import Row
from qp_runner.report.sections import Section, sections

OLD_NAMES = (  # of schedules, in files that were kept before these were renamed
    (r"^published/classification/", ""),
    (r"^published/\w+/float$", "float"),
)


@lru_cache
def section_of(path: Path) -> Section:
    """The runs of a file, which may be compared with each other as its page says."""
    runs = read_csv(path)
    by_channel = runs["variant"].str.contains("granularity=channel").all() and not (runs["task"] == "detection").any()
    runs["variant"] = "by channel" if by_channel else ""
    for pattern, name in OLD_NAMES:
        runs["schedule"] = runs["schedule"].str.replace(pattern, name, regex=True)
    [section] = sections(Records(runs, lambda _measured, _compressed: pd.DataFrame(), str(path), path.parent.name))
    return section


def row_of(section: Section, schedule: str) -> Row:
    """The runs of a schedule. Raises KeyError for one that has none."""
    return {row.schedule: row for row in section.finished}[schedule]


def effects_of(section: Section) -> dict[tuple[str, str], Effect]:
    """The order effects, by family of event times and what is pruned: `("published", "w,f")`."""
    return {(family_of(each.first.schedule), pruned(each.first.signature)): each for each in section.effects}


def forest_rows(folders: tuple[Path, ...]) -> list[ForestRow]:
    """The order effects of several folders."""
    return forest([section_of(folder / "summary.csv") for folder in folders])
