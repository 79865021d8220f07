"""The command `qp-report`: a table, a CSV file and an HTML page from an MLflow store."""

import argparse
import sys
import webbrowser
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from qp_runner.errors import ConfigError
from qp_runner.lasting import lasting

BAD_INPUT = 2
DESCRIPTION = """\
In which order should one prune and quantize? Reads the runs of an MLflow store and says what they show:
a table on the terminal, OUT/summary.csv (one row a run) and OUT/report.html (one file, nothing loaded from outside)."""
EXAMPLES = """\
examples:
  qp-report                                      the latest sweep of results/mlflow.db
  qp-report --sweep all --task classification    all runs of a task, of any sweep
  qp-report --sweep 2026-03-01_12-00-00 --out results/march
  qp-report --store http://127.0.0.1:5000        a tracking server

exit codes: 0 written, 2 nothing to report (no store, no such sweep, no finished run)"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit code."""
    args = _parser().parse_args(arguments)
    try:
        page = _report(args)
    except ConfigError as error:
        print(f"qp-report: {error}", file=sys.stderr)
        return BAD_INPUT
    if args.open == "yes":
        webbrowser.open(page.as_uri())
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="qp-report",
        description=DESCRIPTION,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--store", default="results/mlflow.db", help="path of an SQLite store, or any MLflow URI (default: %(default)s)"
    )
    parser.add_argument(
        "--sweep",
        default="latest",
        metavar="latest|all|NAME",
        help="which runs: the latest sweep, all there are, or a sweep by its id or name (default: %(default)s)",
    )
    parser.add_argument("--task", help="only the runs of this task, e.g. classification")
    parser.add_argument(
        "--out", type=Path, default=Path("results/report"), help="folder to write (default: %(default)s)"
    )
    parser.add_argument("--open", choices=("yes", "no"), default="no", help="open the page in a browser (default: no)")
    return parser


def _report(args: argparse.Namespace) -> Path:
    with lasting():  # pandas, scipy, matplotlib and MLflow are slow to import: not for --help
        from qp_runner.report.html import render, write_page
        from qp_runner.report.read import read
        from qp_runner.report.sections import sections
        from qp_runner.report.terminal import show, write_csv

    console = Console(highlight=False, markup=False)
    records = read(args.store, sweep=args.sweep, task=args.task)
    found = sections(records)
    show(console, found)
    out = args.out.resolve()
    page, text = out / "report.html", render(records, found)
    try:
        write_csv(records.runs, out / "summary.csv")
        write_page(text, page)
    except OSError as error:
        raise ConfigError("--out", args.out, f"a folder that can be written ({error.strerror or error})") from error
    console.print(f"\n{args.out / 'summary.csv'}\n{args.out / 'report.html'}", style="dim")
    return page
