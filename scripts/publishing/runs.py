"""The kept summary.csv files as tables of the report."""

from collections.abc import Set
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import pandas as pd

from qp_runner.report.effect import Effect
from qp_runner.report.forest import CONTROLLED, PUBLISHED, ForestRow, family_of, forest, pruned
from qp_runner.report.kept import read_csv
from qp_runner.report.phase import Cell, phase
from qp_runner.report.read import Records
from qp_runner.report.rows import Row
from qp_runner.report.sections import Section, sections
from qp_runner.report.stats import Paired, holm, paired

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


def without(effect: Effect, seeds: Set[int]) -> Effect:
    """The effect of the other seeds."""
    left = tuple(difference for seed, difference in by_seed(effect).items() if seed not in seeds)
    return replace(effect, differences=left, paired=paired(left))


def gap(section: Section, target: str, left_out: Set[int] = frozenset()) -> Paired | None:
    """How much more the advantage of pruning first is at the published than at the controlled times, seed by seed."""
    found = effects_of(section)
    sides = [found[family, target] for family in (PUBLISHED, CONTROLLED) if (family, target) in found]
    if len(sides) < 2:
        return None
    one, other = map(by_seed, sides)
    seeds = (one.keys() & other.keys()) - left_out
    return paired([one[seed] - other[seed] for seed in sorted(seeds)])


def by_seed(effect: Effect) -> dict[int, float]:
    """The differences of the seeds that both orders have."""
    seeds = sorted(effect.first.by_seed.keys() & effect.second.by_seed.keys())
    return dict(zip(seeds, effect.differences, strict=True))


def forest_rows(folders: tuple[Path, ...]) -> list[ForestRow]:
    """The order effects of several folders."""
    return forest([section_of(folder / "summary.csv") for folder in folders])


def cells_of(section: Section) -> list[tuple[Cell, float]]:
    """The cells of a map over sparsity and bits, each with its p value after Holm's correction for their number."""
    found = phase(section)
    if found is None:
        raise KeyError("no sweep of sparsity and bits")
    adjusted = holm([each.effect.paired.p or 1.0 for each in found.cells])
    return list(zip(found.cells, adjusted, strict=True))
