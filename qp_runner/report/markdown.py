"""A section's figures as tables in Markdown."""

from collections.abc import Sequence

from qp_runner.report import words
from qp_runner.report.effect import Effect
from qp_runner.report.forest import ForestRow, family_of, pruned
from qp_runner.report.rows import TARGETS, Row
from qp_runner.report.sections import Section
from qp_runner.shares import percent


def schedules_table(section: Section) -> str:
    """Means over seeds ± one standard deviation, a row a schedule; footprint and events as recorded."""
    metric = section.metric
    scored = f"{words.label(metric)}, mean ± std"
    heads = ["order", "family", scored, "n", "sparsity w, f", "bits w, f", "footprint (stored), Mb", "PD per Mb"]
    footprints = words.column([row.footprint.mean for row in section.finished])
    densities = words.column([row.density.mean for row in section.finished])
    rows = [
        [
            row.order,
            "" if row.is_float else family_of(row.schedule),
            words.spread(metric, row.metric.mean, row.metric.std),
            str(row.metric.n),
            ", ".join(percent(row.figure(f"sparsity_{target}")) for target in TARGETS),
            ", ".join(words.whole(row.figure(f"bits_{target}")) for target in TARGETS),
            f"{footprint} ({words.number(row.figure('footprint_stored_total_mb'))})",
            density,
            _events(row),
        ]
        for row, footprint, density in zip(section.finished, footprints, densities, strict=True)
    ]
    return table([*heads, "first event, recovery, steps"], rows)


def effects_table(section: Section) -> str:
    """The advantage of pruning first, paired by seed, a row a pair; above zero it is better, whatever the metric.

    A pair is named by what is pruned, and by all its changes where sparsities or bit widths tell pairs apart.
    """
    metric = section.metric
    unit = section.plain.metric.std if section.plain else None
    heads = [
        "pruned",
        "family",
        f"advantage of P first, {words.points(metric)}",
        "95 % interval",
        "in std of float",
        "n",
    ]
    places = [(pruned(effect.first.signature), family_of(effect.first.schedule)) for effect in section.effects]
    rows = [
        [
            target if places.count((target, family)) == 1 else effect.first.signature,
            family,
            words.metric_number(metric, effect.paired.mean, signed=True),
            _interval(effect),
            words.number(effect.paired.mean / unit, signed=True) if unit else "–",
            str(effect.paired.n),
            "–" if effect.paired.p is None else words.p_value(effect.paired.p),
            "–" if effect.p_holm is None else words.p_value(effect.p_holm),
        ]
        for (target, family), effect in zip(places, section.effects, strict=True)
    ]
    return table([*heads, "p", "after Holm"], rows)


def forest_table(rows: Sequence[ForestRow]) -> str:
    """The rows of a forest plot; p values adjusted for all of them."""
    heads = ["task", "network and data", "pruned", "family", "advantage of P first", "95 % interval"]
    cells = [
        [
            row.section.task.replace("_", " "),
            row.section.setting.replace(" on ", ", ", 1),
            row.target,
            row.family,
            f"{words.metric_number(row.effect.metric, row.effect.paired.mean, signed=True)} "
            f"{words.points(row.effect.metric)}",
            _interval(row.effect),
            words.number(row.mean, signed=True),
            str(row.effect.paired.n),
            "–" if row.p_holm is None else words.p_value(row.p_holm),
        ]
        for row in rows
    ]
    return table([*heads, "in std of float", "n", "p after Holm, all rows"], cells)


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Lines of a Markdown table."""
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _interval(effect: Effect) -> str:
    ends = effect.paired.interval
    if ends is None:
        return "–"
    return " to ".join(words.metric_number(effect.metric, end, signed=True) for end in ends)


def _events(row: Row) -> str:
    if row.is_float:
        return "–"
    return ", ".join(words.whole(row.figure(name)) for name in ("first_event_step", "recovery_steps"))
