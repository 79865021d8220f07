"""What a page's comment is replaced by: tables, pictures and sentences from the kept files."""

from collections.abc import Callable, Sequence
from pathlib import Path

import pandas as pd

from publishing import benches
from publishing.runs import cells_of, effects_of, forest_rows, gap, section_of
from qp_runner.metric import Metric
from qp_runner.report import markdown
from qp_runner.report.effect import ALPHA, starts_with
from qp_runner.report.forest import PUBLISHED, family_of, pruned, sentences
from qp_runner.report.phase import Cell, phase, prediction
from qp_runner.report.plots.forest import draw_forest, height
from qp_runner.report.plots.pareto import draw_pareto
from qp_runner.report.plots.phase import PANEL, draw_phase
from qp_runner.report.plots.style import assign_looks, save_png
from qp_runner.report.rows import Row
from qp_runner.report.stats import summarise
from qp_runner.report.words import label, metric_number, number, p_value, spread
from qp_runner.search.verdict import differences, read_confirmation, sentence

METRICS = {"test_accuracy": Metric("accuracy", higher_is_better=True, unit="%")}  # of kept confirmations
SIZE, WIDE = (760, 440), 940  # pixels
PAPER = Path(__file__).resolve().parents[2] / "results" / "published" / "paper.csv"
ALONE = ["pruning alone costs", "quantizing alone costs"]
SIX = {  # the paper's orders, by what is pruned and what comes first
    ("", "Q"): "Q8(w,f)",
    ("w", "P"): "P(w) → Q",
    ("w", "Q"): "Q → P(w)",
    ("w,f", "P"): "P(w,f) → Q",
    ("w,f", "Q"): "Q → P(w,f)",
}


def schedules(paths: Sequence[Path], _folder: Path, _draw: bool) -> str:
    """Figures by schedule."""
    return markdown.schedules_table(section_of(paths[0]))


def effects(paths: Sequence[Path], _folder: Path, _draw: bool) -> str:
    """The advantage of pruning first."""
    return markdown.effects_table(section_of(paths[0]))


def by_seed(paths: Sequence[Path], _folder: Path, _draw: bool) -> str:
    """The differences that the effects are means of, and how far the two families differ."""
    section = section_of(paths[0])
    metric, found = section.metric, effects_of(section)
    lines = []
    for (family, target), effect in found.items():
        each = ", ".join(metric_number(metric, value, signed=True) for value in effect.differences)
        lines.append(f"- {target} {family}, seed by seed: {each}.")
    for target in dict.fromkeys(target for _, target in found):
        both = gap(section, target)
        if both and both.interval:
            mean, low, high = (metric_number(metric, each, signed=True) for each in (both.mean, *both.interval))
            interval = f"95 % interval {low} to {high} (n={both.n})"
            lines.append(f"- {target}, published minus controlled, paired by seed: {mean}, {interval}.")
    return "\n".join(lines)


def beside_paper(paths: Sequence[Path], _folder: Path, _draw: bool) -> str:
    """The paper's orders beside its own figures."""
    section = section_of(paths[0])
    paper = pd.read_csv(PAPER, dtype=str)
    known = paper[paper["task"] == section.task].set_index("order")["figure"].to_dict()
    lines = []
    for row in section.finished:
        if (row.is_float or family_of(row.schedule) == PUBLISHED) and (column := _column(row)) in known:
            lines.append([row.order, spread(section.metric, row.metric.mean, row.metric.std), known[column]])
    return markdown.table(
        ["order", f"here: {label(section.metric)}", "as published (the paper's data and measure)"], lines
    )


def _column(row: Row) -> str:
    return "float" if row.is_float else SIX.get((pruned(row.signature), starts_with(row.order)), "")


def across(paths: Sequence[Path], folder: Path, _draw: bool) -> str:
    """The paper's orders at the published times over several folders, a row a folder."""
    lines = []
    for path in paths:
        section = section_of(path / "summary.csv")
        cells = {_column(row): row for row in section.finished if row.is_float or family_of(row.schedule) == PUBLISHED}
        means = [cells[name].metric if name in cells else None for name in ("float", *SIX.values())]
        seeds = sorted({each.n for each in means if each})
        name = f"[{section.model}, {section.data}]({path.relative_to(folder)}/README.md), {section.epochs} epochs"
        figures = ["" if each is None else spread(section.metric, each.mean, each.std) for each in means]
        lines.append([name, label(section.metric), *figures, " to ".join(map(str, sorted({seeds[0], seeds[-1]})))])
    return markdown.table(["network and data", "metric", "float", *SIX.values(), "n"], lines)


def records(paths: Sequence[Path], _folder: Path, _draw: bool) -> str:
    """A CSV file as it stands: figures that were copied from the records of runs."""
    read = pd.read_csv(paths[0], dtype=str, keep_default_na=False)
    return markdown.table(list(read.columns), read.to_numpy().tolist())


def pareto(paths: Sequence[Path], folder: Path, draw: bool) -> str:
    """A picture of metric against footprint, pareto.png."""
    section = section_of(paths[0])
    if draw:
        looks, kind = assign_looks(section.rows), str(section.runs["footprint_kind"].iloc[0])
        with save_png(folder / "pareto.png", *SIZE) as figure:
            draw_pareto(figure, section.finished, metric=section.metric, looks=looks, kind=kind)
    return "![Metric against footprint](pareto.png)"


def phase_map(paths: Sequence[Path], folder: Path, draw: bool) -> str:
    """Maps over sparsity and bit width, phase.png, the cells as a table, and how often the prediction is right."""
    found = phase(section_of(paths[0]))
    assert found is not None, f"{paths[0]} sweeps sparsity and bits"
    if draw:
        with save_png(folder / "phase.png", WIDE, PANEL) as figure:
            draw_phase(figure, found)
    cells = cells_of(section_of(paths[0]))
    picture = "![Order effect over sparsity and bit width, beside a prediction](phase.png)"
    table = markdown.table(CELL_HEADS, [_cell(found.metric, cell, p) for cell, p in cells])
    return "\n\n".join([picture, prediction(found), _standing(cells), table])


CELL_HEADS = ["sparsity", "bits", "advantage of P first, points", "95 % interval", "p", "p after Holm", *ALONE, "rule"]


def _cell(metric: Metric, cell: Cell, p_holm: float) -> list[str]:
    effect = cell.effect.paired
    assert effect.interval is not None
    assert effect.p is not None
    costs = [metric_number(metric, each, signed=True) for each in (cell.prune_cost, cell.quantize_cost)]
    mean, low, high = (metric_number(metric, each, signed=True) for each in (effect.mean, *effect.interval))
    ps = [p_value(each).removeprefix("p = ").removeprefix("p ") for each in (effect.p, p_holm)]
    right = "" if cell.right is None else "right" if cell.right else "wrong"
    return [f"{100 * cell.sparsity:g} %", str(cell.bits), mean, f"{low} to {high}", *ps, *costs, right]


def _standing(cells: Sequence[tuple[Cell, float]]) -> str:
    """What is left after the correction for the number of cells."""
    stand = [cell for cell, p in cells if p < ALPHA]
    pruning = sum(cell.effect.paired.mean > 0 for cell in stand)
    right = sum(bool(cell.right) for cell in stand)
    return (
        f"After Holm's correction for {len(cells)} cells {len(stand)} stand, {pruning} of them with pruning first; in "
        f"these the rule is right in {right}."
    )


def forest(paths: Sequence[Path], folder: Path, draw: bool) -> str:
    """Order effects of several folders on one axis, forest.png."""
    rows = forest_rows(tuple(paths))
    if draw:
        with save_png(folder / "forest.png", WIDE, height(rows, width=WIDE)) as figure:
            draw_forest(figure, rows)
    return "![Order effect by task, with 95 % intervals](forest.png)"


def verdicts(paths: Sequence[Path], _folder: Path, _draw: bool) -> str:
    """The same in words, a sentence a task."""
    return "\n".join(f"- {line[0].upper()}{line[1:]}" for line in sentences(forest_rows(tuple(paths))))


def answers(paths: Sequence[Path], _folder: Path, _draw: bool) -> str:
    """The same as a table."""
    return markdown.forest_table(forest_rows(tuple(paths)))


def search(paths: Sequence[Path], _folder: Path, _draw: bool) -> str:
    """A search's front."""
    trials = pd.read_csv(paths[0]).sort_values("footprint_total_mb")
    front = trials[trials["on_front"]].drop_duplicates("job")
    scored = [name for name in trials if str(name).startswith(("val_", "test_"))]
    columns = ["trial", "order", "footprint_total_mb", *scored]
    lines = [
        [str(row[name]) if name in ("trial", "order") else number(row[name]) for name in columns]
        for _, row in front.iterrows()
    ]
    return markdown.table([name.replace("_", " ") for name in columns], lines)


def confirm(paths: Sequence[Path], _folder: Path, _draw: bool) -> str:
    """What a search's confirmation shows, as a table and a sentence."""
    runs = pd.read_csv(paths[0])
    scored = next(str(name) for name in runs if str(name).startswith("test_"))
    metric, results = METRICS[scored], read_confirmation(runs, scored)
    compared, sizes = differences(results, metric), results.footprint
    lines = []
    for each in results.contenders:
        test = summarise(list(results.test[each.name].values()))
        ends = compared[each.name].interval if each.name in compared else None
        between = " to ".join(metric_number(metric, end, signed=True) for end in ends) if ends else ""
        figures = [str(test.n), spread(metric, test.mean, test.std), number(sizes[each.name]), between]
        lines.append([each.name, each.order, *figures])
    heads = ["schedule", "order", "n", scored.replace("_", " "), "footprint, Mb", "found minus it, 95 % interval"]
    return f"{markdown.table(heads, lines)}\n\n{sentence(results, metric)}"


Block = Callable[[Sequence[Path], Path, bool], str]
"""From the files that a comment names, the page's folder and whether to draw: Markdown."""

KINDS: dict[str, Block] = {
    "schedules": schedules,
    "effects": effects,
    "by_seed": by_seed,
    "paper": beside_paper,
    "across": across,
    "records": records,
    "pareto": pareto,
    "phase": phase_map,
    "forest": forest,
    "verdicts": verdicts,
    "answers": answers,
    "search": search,
    "confirm": confirm,
    "steps": benches.steps,
    "ratios": benches.ratios,
    "exported": benches.exported,
    "tries": benches.tries,
}
