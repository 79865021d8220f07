"""The prefix tree of a sweep: which runs share which stretch of training, and in which waves to run them."""

from collections import Counter, defaultdict
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Path:
    """A run as the tree sees it.

    Attributes:
        root: what runs must have in common to share anything.
        total: its training steps.
        events: what fires (any value that tells changes apart) by the step before which it does.
    """

    root: Hashable
    total: int
    events: Mapping[int, Hashable]


@dataclass(frozen=True)
class Node:
    """A stretch of steps `start` to `end` that all of `runs` have in common; at `end` they part into `children`."""

    start: int
    end: int
    runs: tuple[int, ...]
    children: tuple["Node", ...] = ()

    @property
    def steps(self) -> int:
        """Steps to compute once for all of its runs, those below included."""
        return self.end - self.start + sum(child.steps for child in self.children)


@dataclass(frozen=True)
class Plan:
    """How a sweep is computed.

    Attributes:
        trees: one for each root, in the order of the runs.
        waves: runs by number; every run of a wave finds what it shares stored by the waves before.
        checkpoint_steps: by run: the steps at which it stores its state, because others part from it there.
    """

    trees: tuple[Node, ...]
    waves: tuple[tuple[int, ...], ...]
    checkpoint_steps: Mapping[int, frozenset[int]]

    @property
    def steps(self) -> int:
        """The training steps to compute."""
        return sum(tree.steps for tree in self.trees)


def plan(paths: Sequence[Path]) -> Plan:
    """The plan of runs numbered by their place in `paths`."""
    roots: dict[Hashable, list[int]] = defaultdict(list)
    for number, path in enumerate(paths):
        roots[path.root].append(number)
    trees = tuple(
        _part(paths, runs, start=0, at=0, step=0) if _differ(paths, runs, 0) else _grow(paths, runs, start=0, step=0)
        for runs in roots.values()
    )
    waves: dict[int, list[int]] = defaultdict(list)
    kept: dict[int, set[int]] = defaultdict(set)
    for tree in trees:
        _assign(tree, wave=0, waves=waves, kept=kept, launches=True)
    ordered = tuple(tuple(sorted(waves[number])) for number in sorted(waves))
    return Plan(trees, ordered, {run: frozenset(steps) for run, steps in kept.items()})


def _grow(paths: Sequence[Path], runs: Sequence[int], *, start: int, step: int) -> Node:
    """The node of runs that are alike from `start` to `step`, what fires there included."""
    while True:
        end = min(paths[run].total for run in runs)
        coming = [at for run in runs for at in paths[run].events if at > step]
        at = min(coming, default=end)
        if not coming or at > end:
            return Node(start, end, tuple(runs))
        if _differ(paths, runs, at):
            return _part(paths, runs, start=start, at=at, step=at)
        step = at


def _part(paths: Sequence[Path], runs: Sequence[int], *, start: int, at: int, step: int) -> Node:
    groups: dict[Hashable, list[int]] = defaultdict(list)
    for run in runs:
        groups[paths[run].events.get(at)].append(run)
    children = tuple(_grow(paths, group, start=at, step=step) for group in groups.values())
    return Node(start, at, tuple(runs), children)


def _differ(paths: Sequence[Path], runs: Sequence[int], at: int) -> bool:
    return len({paths[run].events.get(at) for run in runs}) > 1


def _assign(
    node: Node, *, wave: int, waves: dict[int, list[int]], kept: dict[int, set[int]], launches: bool
) -> tuple[int, int]:
    """Gives the node's runs their waves; returns its leader, which passes through the whole node, and its wave.

    The leader goes on into the child with the most runs, so that waves are at most log2(runs) + 1.
    """
    if not node.children:
        leader, *others = node.runs
        if others:  # the very same training
            kept[leader].add(node.end)
            waves[wave + 1] += others
    else:
        first, *rest = sorted(node.children, key=lambda child: -len(child.runs))
        leader, _ = _assign(first, wave=wave, waves=waves, kept=kept, launches=False)
        if node.end > 0:
            kept[leader].add(node.end)
        for child in rest:
            _assign(
                child,
                wave=wave if node.end == 0 else wave + 1,
                waves=waves,
                kept=kept,
                launches=True,
            )
    if launches:
        waves[wave].append(leader)
    return leader, wave


def differing(contexts: Sequence[Mapping[str, str]]) -> dict[str, list[tuple[str, int]]]:
    """The keys whose values differ among flat contexts: for each its values, and how many have them."""
    keys = sorted({key for context in contexts for key in context})
    counted = {key: Counter(context.get(key, "(absent)") for context in contexts) for key in keys}
    return {key: list(counts.items()) for key, counts in counted.items() if len(counts) > 1}
