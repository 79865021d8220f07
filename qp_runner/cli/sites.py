"""`qp-runner sites`: what of a network a schedule compresses, and what it leaves. Nothing is trained."""

import csv
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from qp_runner.compress import Compressor
from qp_runner.compress.inventory import Row, inventory
from qp_runner.config.compose import is_multirun, requesting
from qp_runner.run.build import compile_schedule
from qp_runner.run.task import build_compressor, build_task
from qp_runner.schedule import Target
from qp_runner.shares import percent
from qp_runner.training import seed_everything

COLUMNS = ("path", "target", "operation", "shape", "share", "treatment", "reason")


def show_sites(overrides: Sequence[str], *, as_csv: bool, extra_dir: Path | None = None) -> None:
    """Prints a table of a configuration's sites and of everything that is in none.

    Raises ConfigError; for a schedule that compresses what has no site, after the table.
    """
    with requesting(overrides, extra_dir=extra_dir) as request:
        job = request.first if is_multirun(request.command.hydra) else request.compose(request.overrides)
    seed_everything(job.config.seed)
    task = build_task(job.config)
    compressor = build_compressor(job.config, task)
    if as_csv:
        _print_csv(inventory(compressor))
    else:
        _print_tables(compressor)
    compressor.check(compile_schedule(job.config, steps_per_epoch=task.steps_per_epoch))


def _print_tables(compressor: Compressor) -> None:
    console, covered, rows = Console(), compressor.coverage(), inventory(compressor)
    for target, share in ((Target.WEIGHT, covered.weight), (Target.ACTIVATION, covered.activation)):
        console.print(_table(target, [row for row in rows if row.target == target], share))


def _table(target: Target, rows: Sequence[Row], share: float) -> Table:
    table = Table(title=f"\n{target}s: {percent(share)} in sites", title_justify="left", box=None, pad_edge=False)
    table.add_column(target, overflow="fold", ratio=3)
    table.add_column("operation", overflow="fold", ratio=1)
    table.add_column("shape", justify="right", no_wrap=True)
    table.add_column("share", justify="right", no_wrap=True)
    table.add_column("", overflow="fold", ratio=2)
    for row in rows:
        treated = row.treatment if row.treatment != "left" else f"[yellow]left: {row.reason}[/]"
        table.add_row(row.path, row.operation, _shape(row.shape), percent(row.share), treated)
    return table


def _print_csv(rows: Sequence[Row]) -> None:
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(COLUMNS)
    for row in rows:
        share = f"{row.share:.6g}"
        writer.writerow([row.path, row.target, row.operation, _shape(row.shape), share, row.treatment, row.reason])


def _shape(shape: Sequence[int]) -> str:
    return "×".join(map(str, shape)) or "1"
