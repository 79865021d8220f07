"""Remakes the tables, pictures and figures of results/published (and of the README) from the kept CSV files.

Nothing is trained. A page names what it wants in a comment, and what stands up to `<!-- end -->` is replaced:

    <!-- published: schedules summary.csv -->   figures by schedule
    <!-- published: effects summary.csv -->     order effects: the advantage of pruning first
    <!-- published: by_seed summary.csv -->     the differences that these are means of
    <!-- published: paper summary.csv -->       the paper's orders beside its own figures (paper.csv)
    <!-- published: across FOLDER ... -->       the paper's orders, a row a folder
    <!-- published: pareto summary.csv -->      a picture of metric against footprint, pareto.png
    <!-- published: phase summary.csv -->       maps over sparsity and bit width, phase.png
    <!-- published: search search.csv -->       a search's front, as a table
    <!-- published: confirm confirm.csv -->     what its confirmation shows, as a table and a sentence
    <!-- published: forest FOLDER ... -->       order effects of several folders on one axis, forest.png
    <!-- published: verdicts FOLDER ... -->     the same in words, a sentence a task
    <!-- published: answers FOLDER ... -->      the same as a table
    <!-- published: records records.csv -->     a file as it stands: figures copied from the records of runs
    <!-- published: steps|ratios|exported|tries FILE -->   measurements of the benchmarks

Paths are relative to the page. Figures within sentences follow results/published/prose.yaml (see publishing/prose.py).
Pictures that show training or a network's outputs come from runs and stay as they are.
"""

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import Path

import yaml
from publishing.blocks import KINDS
from publishing.prose import set_figures

ROOT = Path(__file__).resolve().parents[1]
BLOCK = re.compile(r"(<!-- published: (\w+) ([^>]+?) -->\n).*?(<!-- end -->)", re.DOTALL)


def main(arguments: Sequence[str] | None = None) -> int:
    """Remakes all pages; returns 1 if --check was asked for and a page's text was out of date."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; fail where a page's text would change")
    parser.add_argument("--root", type=Path, default=ROOT, help="of the repository (%(default)s)")
    args = parser.parse_args(arguments)
    said, stale = prose(args.root), []
    for page in pages(args.root):
        before = page.read_text(encoding="utf-8")
        after = remade(page, before, said.pop(str(page.relative_to(args.root)), []), args.root, draw=not args.check)
        if after == before:
            continue
        stale.append(page)
        if not args.check:
            page.write_text(after, encoding="utf-8")
    if said:
        sys.exit(f"prose.yaml: no such page: {', '.join(said)}")
    for page in stale:
        print(f"{'out of date' if args.check else 'written'}: {page.relative_to(args.root)}")
    return int(args.check and bool(stale))


def pages(root: Path) -> list[Path]:
    """The pages that may have blocks."""
    return [root / "README.md", *sorted((root / "results" / "published").rglob("README.md"))]


def prose(root: Path) -> dict[str, list[str]]:
    """By page: pieces of its sentences, with braces where figures go."""
    path = root / "results" / "published" / "prose.yaml"
    return dict(yaml.safe_load(path.read_text(encoding="utf-8"))) if path.exists() else {}


def remade(page: Path, text: str, pieces: Sequence[str], root: Path, *, draw: bool) -> str:
    """The text of a page with today's blocks and figures."""
    text = BLOCK.sub(lambda found: _block(found, page.parent, draw=draw), text)
    try:
        return set_figures(text, pieces, root / "results" / "published" / "evidence")
    except ValueError as error:
        sys.exit(f"{page}: prose.yaml: {error}")


def _block(found: re.Match[str], folder: Path, *, draw: bool) -> str:
    head, kind, given, end = found.groups()
    if kind not in KINDS:
        sys.exit(f"{folder / 'README.md'}: published: {kind}: one of {', '.join(KINDS)}")
    return f"{head}{KINDS[kind]([folder / name for name in given.split()], folder, draw)}\n{end}"


if __name__ == "__main__":
    sys.exit(main())
