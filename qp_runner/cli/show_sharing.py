"""What the runs of a sweep share, printed: the prefix tree, what it saves, and why runs do not share."""

from rich.console import Console
from rich.tree import Tree as View

from qp_runner.config.instantiate import flatten
from qp_runner.sweep import tree
from qp_runner.sweep.plan import Outline
from qp_runner.training.identity import Identity

SHOWN_ROOTS, SHOWN_LINES, SHOWN_VALUES = 12, 60, 6


def show_sharing(made: Outline, *, details: bool = False, to_stderr: bool = False) -> None:
    """Prints runs, epochs asked for, epochs to compute and saving; with `details` also the prefix tree and why roots
    differ. Nothing for a sweep without jobs to run.
    """
    console = Console(stderr=to_stderr)
    if not made.numbers:
        return
    asked, computed = made.epochs_asked, made.epochs_computed
    console.print(
        f"{len(made.numbers)} runs ask for {asked:g} epochs; {computed:.4g} are computed "
        f"({asked / computed:.2f} × less), in waves of {', '.join(str(len(wave)) for wave in made.waves)}",
        highlight=False,
        soft_wrap=True,
    )
    if made.note:
        console.print(f"[yellow]{made.note}[/]", soft_wrap=True)
    if details:
        _show_trees(made, console)
    _show_reasons(made, console)


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


def _show_reasons(made: Outline, console: Console) -> None:
    """Between trunks nothing is shared: the keys in which they differ, with their values."""
    if len(made.plan.trees) < 2:
        return
    firsts = [made.identities[made.numbers[node.runs[0]]] for node in made.plan.trees]
    console.print(f"{len(firsts)} trunks share nothing, because they differ in:", highlight=False)
    for key, values in tree.differing([flatten(own.context) for own in firsts]).items():
        told = ", ".join(value for value, _ in values[:SHOWN_VALUES])
        more = f" and {len(values) - SHOWN_VALUES} more values" if len(values) > SHOWN_VALUES else ""
        console.print(f"  {key}: {told}{more}", highlight=False, soft_wrap=True, markup=False)
