"""What the runs of a sweep share, printed for `plan`: the prefix tree, what it saves, and why runs do not share."""

from collections.abc import Iterator, Sequence

from rich.console import Console
from rich.text import Text
from rich.tree import Tree as View

from qp_runner.sweep import tree
from qp_runner.sweep.outline import Outline, sharing
from qp_runner.training.identity import Identity

SHOWN_ROOTS, SHOWN_LINES = 12, 59


def show_sharing(made: Outline) -> None:
    """Prints runs, epochs asked for, epochs to compute, the prefix tree and why roots differ."""
    console = Console(markup=False)
    lines = sharing(made)
    _print(console, lines[:1])
    if lines:
        _show_trees(made, console)
    _print(console, lines[1:])


def _print(console: Console, lines: list[str]) -> None:
    for line in lines:
        console.print(line, highlight=False, soft_wrap=True, markup=False)


def _show_trees(made: Outline, console: Console) -> None:
    """Draws the first trees, of those that look alike the first one."""
    seen = set()
    for node in made.plan.trees[:SHOWN_ROOTS]:
        lines = tuple(_lines(node, made))
        if lines not in seen:
            seed = made.jobs[made.numbers[node.runs[0]]].config.seed
            title = Text.assemble((f"trunk of {len(node.runs)} runs", "bold"), f" · seed {seed}")
            console.print(_draw(title, lines))
            seen.add(lines)
    left, alike = len(made.plan.trees) - len(seen), len(made.plan.trees[:SHOWN_ROOTS]) - len(seen)
    if left:
        console.print(f"and {left} more trunks ({alike} of them alike but for what is listed below)", style="dim")


def _lines(node: tree.Node, made: Outline, depth: int = 0) -> Iterator[tuple[int, str]]:
    """A tree's lines from top to bottom, each with its depth."""
    yield depth, _line(node, made)
    for child in node.children:
        yield from _lines(child, made, depth + 1)


def _draw(title: Text, lines: Sequence[tuple[int, str]]) -> View:
    branches = [View(title)]
    for depth, line in [*lines[:SHOWN_LINES], *((depth, "…") for depth, _ in lines[SHOWN_LINES:][:1])]:
        branches[depth + 1 :] = [branches[depth].add(Text(line))]
    return branches[0]


def _line(node: tree.Node, made: Outline) -> str:
    run = made.numbers[node.runs[0]]
    per_epoch = made.steps_per_epoch[run]
    start, end = (f"{step / per_epoch:.4g}" for step in (node.start, node.end))
    names = sorted({str(made.jobs[made.numbers[each]].choices.get("schedule")) for each in node.runs})
    who = ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
    fires = _fires(made.identities[run], node.start)
    return f"epochs {start}–{end}{f' from {fires}' if fires else ''}: {len(node.runs)} runs ({who})"


def _fires(own: Identity, step: int) -> str:
    firing = [stage.fires for stage in own.stages if stage.first == step and stage.fires]
    return ", then ".join(", ".join(sorted(f"{op} {target}" for op, target in fires)) for fires in firing)
