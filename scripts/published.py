"""Remakes the tables and pictures of results/published (and of the README) from the kept summary.csv files.

Nothing is trained. A page names what it wants in a comment, and what stands up to `<!-- end -->` is replaced:

    <!-- published: schedules summary.csv -->   figures by schedule
    <!-- published: effects summary.csv -->     order effects: the advantage of pruning first
    <!-- published: pareto summary.csv -->      a picture of metric against footprint, pareto.png
    <!-- published: phase summary.csv -->       maps over sparsity and bit width, phase.png
    <!-- published: search search.csv -->       a search's front, as a table
    <!-- published: confirm confirm.csv -->     what its confirmation shows, as a table and a sentence
    <!-- published: forest FOLDER ... -->       order effects of several folders on one axis, forest.png
    <!-- published: verdicts FOLDER ... -->     the same in words, a sentence a task
    <!-- published: answers FOLDER ... -->      the same as a table

Paths are relative to the page. Pictures that show training or a network's outputs come from runs and stay as they are.
"""

import argparse
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pandas as pd

from qp_runner.metric import Metric
from qp_runner.report import markdown
from qp_runner.report.forest import ForestRow, forest, sentences
from qp_runner.report.kept import read_csv
from qp_runner.report.phase import phase, prediction
from qp_runner.report.plots.forest import draw_forest, height
from qp_runner.report.plots.pareto import draw_pareto
from qp_runner.report.plots.phase import PANEL, draw_phase
from qp_runner.report.plots.style import assign_looks, save_png
from qp_runner.report.read import Records
from qp_runner.report.sections import Section, sections
from qp_runner.report.stats import summarise
from qp_runner.report.words import metric_number, number, spread
from qp_runner.search.verdict import differences, read_confirmation, sentence

ROOT = Path(__file__).resolve().parents[1]
BLOCK = re.compile(r"(<!-- published: (\w+) ([^>]+?) -->\n).*?(<!-- end -->)", re.DOTALL)
METRICS = {"test_accuracy": Metric("accuracy", higher_is_better=True, unit="%")}  # of kept confirmations
SIZE, WIDE = (760, 440), 940  # pixels
OLD_NAMES = (  # of schedules, in files that were kept before these were renamed
    (r"^published/classification/", ""),
    (r"^published/\w+/float$", "float"),
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Remakes all pages; returns 1 if --check was asked for and a page's text was out of date."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; fail where a page's text would change")
    parser.add_argument("--root", type=Path, default=ROOT, help="of the repository (%(default)s)")
    args = parser.parse_args(arguments)
    stale = []
    for page in pages(args.root):
        before = page.read_text(encoding="utf-8")
        after = BLOCK.sub(lambda found, page=page: _block(found, page.parent, draw=not args.check), before)
        if after == before:
            continue
        stale.append(page)
        if not args.check:
            page.write_text(after, encoding="utf-8")
    for page in stale:
        print(f"{'out of date' if args.check else 'written'}: {page.relative_to(args.root)}")
    return int(args.check and bool(stale))


def pages(root: Path) -> list[Path]:
    """The pages that may have blocks."""
    return [root / "README.md", *sorted((root / "results" / "published").rglob("README.md"))]


def _block(found: re.Match[str], folder: Path, *, draw: bool) -> str:
    head, kind, given, end = found.groups()
    if kind not in KINDS:
        sys.exit(f"{folder / 'README.md'}: published: {kind}: one of {', '.join(KINDS)}")
    return f"{head}{KINDS[kind]([folder / name for name in given.split()], folder, draw)}\n{end}"


def section_of(path: Path) -> Section:
    """The runs of a file, which may be compared with each other as its page says."""
    runs = read_csv(path)
    by_channel = runs["variant"].str.contains("granularity=channel").all() and not (runs["task"] == "detection").any()
    runs["variant"] = "by channel" if by_channel else ""
    for pattern, name in OLD_NAMES:
        runs["schedule"] = runs["schedule"].str.replace(pattern, name, regex=True)
    [section] = sections(Records(runs, lambda _measured, _compressed: pd.DataFrame(), str(path), path.parent.name))
    return section


def _schedules(paths: Sequence[Path], _folder: Path, _draw: bool) -> str:
    return markdown.schedules_table(section_of(paths[0]))


def _effects(paths: Sequence[Path], _folder: Path, _draw: bool) -> str:
    return markdown.effects_table(section_of(paths[0]))


def _pareto(paths: Sequence[Path], folder: Path, draw: bool) -> str:
    section = section_of(paths[0])
    if draw:
        looks, kind = assign_looks(section.rows), str(section.runs["footprint_kind"].iloc[0])
        with save_png(folder / "pareto.png", *SIZE) as figure:
            draw_pareto(figure, section.finished, metric=section.metric, looks=looks, kind=kind)
    return "![Metric against footprint](pareto.png)"


def _phase(paths: Sequence[Path], folder: Path, draw: bool) -> str:
    found = phase(section_of(paths[0]))
    assert found is not None, f"{paths[0]} sweeps sparsity and bits"
    if draw:
        with save_png(folder / "phase.png", WIDE, PANEL) as figure:
            draw_phase(figure, found)
    return f"![Order effect over sparsity and bit width, beside a prediction](phase.png)\n\n{prediction(found)}"


def _rows(folders: Sequence[Path]) -> list[ForestRow]:
    return forest([section_of(folder / "summary.csv") for folder in folders])


def _forest(paths: Sequence[Path], folder: Path, draw: bool) -> str:
    rows = _rows(paths)
    if draw:
        with save_png(folder / "forest.png", WIDE, height(rows, width=WIDE)) as figure:
            draw_forest(figure, rows)
    return "![Order effect by task, with 95 % intervals](forest.png)"


def _verdicts(paths: Sequence[Path], _folder: Path, _draw: bool) -> str:
    return "\n".join(f"- {line[0].upper()}{line[1:]}" for line in sentences(_rows(paths)))


def _answers(paths: Sequence[Path], _folder: Path, _draw: bool) -> str:
    return markdown.forest_table(_rows(paths))


def _search(paths: Sequence[Path], _folder: Path, _draw: bool) -> str:
    trials = pd.read_csv(paths[0]).sort_values("footprint_total_mb")
    front = trials[trials["on_front"]].drop_duplicates("job")
    scored = [name for name in trials if str(name).startswith(("val_", "test_"))]
    columns = ["trial", "order", "footprint_total_mb", *scored]
    lines = [
        [str(row[name]) if name in ("trial", "order") else number(row[name]) for name in columns]
        for _, row in front.iterrows()
    ]
    return markdown.table([name.replace("_", " ") for name in columns], lines)


def _confirm(paths: Sequence[Path], _folder: Path, _draw: bool) -> str:
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


KINDS: dict[str, Callable[[Sequence[Path], Path, bool], str]] = {
    "schedules": _schedules,
    "effects": _effects,
    "pareto": _pareto,
    "phase": _phase,
    "forest": _forest,
    "verdicts": _verdicts,
    "answers": _answers,
    "search": _search,
    "confirm": _confirm,
}

if __name__ == "__main__":
    sys.exit(main())
