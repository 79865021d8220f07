"""`qp-runner plan`: what a schedule would do, drawn, with the footprint to expect. Nothing is trained."""

import math
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from qp_runner.cli.show_sharing import show_sharing
from qp_runner.compress import Compressor, Coverage, expected
from qp_runner.compress.footprint import Kind
from qp_runner.config import SearchSection
from qp_runner.config.compose import Job, is_multirun, requesting
from qp_runner.errors import ConfigError
from qp_runner.report.timeline import terminal_timeline
from qp_runner.report.words import plural
from qp_runner.run.build import build, compile_schedule
from qp_runner.schedule import Stage
from qp_runner.search.space import Space
from qp_runner.shares import in_sites, percent
from qp_runner.sweep.outline import UNKNOWN_STEPS_PER_EPOCH, outline
from qp_runner.training import seed_everything

SHOWN_LEFT_OUT = 5


def show(overrides: Sequence[str], *, multirun: bool, extra_dir: Path | None = None) -> None:
    """Prints each schedule of a command line, and what its sweep shares or what its search may choose from."""
    with requesting(overrides, extra_dir=extra_dir) as request:
        if not (multirun or is_multirun(request.command.hydra)):
            show_plan(request.compose(request.overrides))
        elif request.first.config.search is None:
            _show_grid(request.jobs())
        else:
            from qp_runner.search.plan import search_space  # here: pandas takes a quarter of a second

            show_plan(request.first)
            show_space(*search_space(request))


def _show_grid(planned: Sequence[Job]) -> None:
    drawn: dict[str, Job] = {}
    for each in planned:  # a schedule is drawn once, for the first job that has it
        drawn.setdefault(repr((each.choices.get("schedule"), each.config.schedule, each.config.trainer.epochs)), each)
    for each in drawn.values():
        show_plan(each)
    show_sharing(outline(planned))


def show_plan(job: Job, console: Console | None = None) -> None:
    """Prints a job's timeline, stages, recovery and expected footprint."""
    console = console or Console(markup=False)
    config = job.config
    console.print(Text.assemble("\n", (str(job.choices.get("schedule")), "bold"), f"  {config.events().name}"))
    console.print(
        f"{config.task.name} · {config.model.name} · {config.data.name} · {config.trainer.epochs} epochs\n", style="dim"
    )
    compressor, note = None, ""
    try:
        seed_everything(config.seed)
        parts = build(config)
        stages, steps_per_epoch = parts.stages, parts.task.steps_per_epoch
        compressor = parts.compressor
    except ConfigError as error:
        if not error.key.startswith("data."):
            raise
        note = f"Steps and footprint are unknown without the data: {error}"
        steps_per_epoch = UNKNOWN_STEPS_PER_EPOCH
        stages = compile_schedule(config, steps_per_epoch=steps_per_epoch)
    console.print(terminal_timeline(stages, steps_per_epoch=steps_per_epoch, width=min(console.width, 110)))
    if config.model.init_compression:
        console.print(f"Masks and scales of {config.model.init} are there from the start", highlight=False)
    if compressor is not None:
        console.print(_footprint_table(compressor, stages))
        console.print(*_coverage_lines(compressor.coverage()), sep="\n", highlight=False, markup=False)
    if note:
        console.print(note, style="yellow")


def show_space(section: SearchSection, space: Space) -> None:
    """Prints what a search may choose from, and how much that is."""
    table = Table(title="Search space", title_justify="left", box=None, pad_edge=False)
    for column in ("", "from", "to", "in steps of"):
        table.add_column(column)
    for key, each in space.ranges.items():
        ends = space.ends()[key]
        step = "logarithmic" if each.log else 1 if each.whole else each.step or "any"
        row = [", ".join(ends), "", ""] if each.choices is not None else [*ends, str(step)]
        table.add_row(key, *row)
    combinations = f"{space.size:,.0f} combinations" if space.size < math.inf else "endlessly many combinations"
    console = Console(markup=False)
    console.print(table)
    console.print(f"{section.sampler} makes {plural(section.trials, 'run')} of {combinations}", highlight=False)


def _footprint_table(compressor: Compressor, stages: Sequence[Stage]) -> Table:
    """Ideal, stored and published footprint in Mb (10^6 bits) once the last event has fired."""
    table = Table(title="Expected footprint at the end, Mb (10⁶ bits)", title_justify="left", box=None, pad_edge=False)
    for column in ("", "weights", "activations", "total", "peak alive"):
        table.add_column(column, justify="left" if not column else "right")
    kinds: tuple[Kind, ...] = ("ideal", "stored", "published")
    for kind in kinds:
        size = expected(compressor, stages, kind=kind)
        peak = "" if kind == "published" else f"{size.peak:.3f}"
        table.add_row(kind, f"{size.weight:.3f}", f"{size.activation:.3f}", f"{size.total:.3f}", peak)
    return table


def _coverage_lines(found: Coverage) -> list[str]:
    """The share of the network that is in sites, and the largest parts that are not."""
    left = [
        f"  not in a site: {each.path}, {percent(each.share)} of the {each.target}s ({each.reason})"
        for each in found.left_out[:SHOWN_LEFT_OUT]
    ]
    more = len(found.left_out) - len(left)
    more_lines = [f"  and {more} smaller ones"] if more > 0 else []
    return [f"In sites: {in_sites(found.weight, found.activation)}", *left, *more_lines]
