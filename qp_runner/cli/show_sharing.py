"""What the runs of a sweep share, printed for `plan`: the prefix tree, what it saves, and why runs do not share."""

from rich.console import Console
from rich.tree import Tree as View

from qp_runner.sweep import tree
from qp_runner.sweep.outline import Outline, sharing
from qp_runner.training.identity import Identity

SHOWN_ROOTS, SHOWN_LINES = 12, 60


def show_sharing(made: Outline) -> None:
    """Prints runs, epochs asked for, epochs to compute, the prefix tree and why roots differ."""
    console = Console()
    lines = sharing(made)
    _print(console, lines[:1])
    if lines:
        _show_trees(made, console)
    _print(console, lines[1:])


def _print(console: Console, lines: list[str]) -> None:
    for line in lines:
        console.print(line, highlight=False, soft_wrap=True, markup=False)


def _show_trees(made: Outline, console: Console) -> None:
    shown, alike = made.plan.trees[:SHOWN_ROOTS], 0
    seen: dict[str, int] = {}
    for node in shown:
        run = made.numbers[node.runs[0]]
        labels = _lines(node, made)
        body = "\n".join(labels)
        if body in seen:
            alike += 1
            continue
        seen[body] = run
        view = View(f"[bold]trunk of {len(node.runs)} runs[/] · seed {made.jobs[run].config.seed}")
        _grow(view, node, made, budget=[SHOWN_LINES])
        console.print(view)
    left = len(made.plan.trees) - len(shown) + alike
    if left:
        console.print(f"[dim]and {left} more trunks ({alike} of them alike but for what is listed below)[/]")


def _grow(view: View, node: tree.Node, made: Outline, *, budget: list[int]) -> None:
    budget[0] -= 1
    if budget[0] == 0:
        view.add("…")
    if budget[0] <= 0:
        return
    branch = view.add(_line(node, made))
    for child in node.children:
        _grow(branch, child, made, budget=budget)


def _line(node: tree.Node, made: Outline) -> str:
    run = made.numbers[node.runs[0]]
    per_epoch = made.steps_per_epoch[run]
    start, end = (f"{step / per_epoch:.4g}" for step in (node.start, node.end))
    names = sorted({str(made.jobs[made.numbers[each]].choices.get("schedule")) for each in node.runs})
    who = ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
    fires = _fires(made.identities[run], node.start)
    return f"epochs {start}–{end}{f' from {fires}' if fires else ''}: {len(node.runs)} runs ({who})"


def _lines(node: tree.Node, made: Outline) -> list[str]:
    return [_line(node, made), *(line for child in node.children for line in _lines(child, made))]


def _fires(own: Identity, step: int) -> str:
    for stage in own.stages:
        if stage.first == step and stage.fires:
            return ", ".join(sorted(f"{op} {target}" for op, target in stage.fires))
    return ""
