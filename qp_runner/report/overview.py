"""A comparison of tasks: which order wins where."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from qp_runner.report.headline import headline
from qp_runner.report.rows import Row
from qp_runner.report.sections import Section


@dataclass(frozen=True)
class Standing:
    """The winners in one section.

    Attributes:
        plain: the float network.
        best: the compressed schedule with the best mean metric.
        densest: the compressed schedule with the highest mean performance density.
        answer: of the order effects, with their statistics; a best mean alone shows nothing.
    """

    section: Section
    plain: Row | None
    best: Row | None
    densest: Row | None
    answer: str


def overview(found: Sequence[Section]) -> list[Standing]:
    """A line for each section with figures, if these are from several tasks; else none."""
    finished = [section for section in found if section.finished]
    if len({section.task for section in finished}) < 2:
        return []
    return [_standing(section) for section in finished]


def float_row(section: Section) -> Row | None:
    """The uncompressed network."""
    return next((row for row in section.finished if row.is_float), None)


def best_compressed(section: Section) -> Row | None:
    """The compressed schedule with the best mean metric."""
    compressed = [row for row in section.finished if not row.is_float]
    return max(compressed, key=lambda row: section.metric.sign * row.metric.mean, default=None)


def _standing(section: Section) -> Standing:
    dense = [row for row in section.finished if not row.is_float and math.isfinite(row.density.mean)]
    return Standing(
        section=section,
        plain=float_row(section),
        best=best_compressed(section),
        densest=max(dense, key=lambda row: row.density.mean, default=None),
        answer=headline(section).answer,
    )
