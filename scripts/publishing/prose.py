"""Puts the figures of the kept tables into sentences.

`results/published/prose.yaml` has, by page, pieces of sentences with braces where the figures go:

    README.md:
      - better by {size digits published w,f} points

Each piece has to stand in its page once, however its lines are broken; what stands at the braces is replaced by what
the tables give today. In the braces, with FOLDER below results/published/evidence (`../digits` is beside it; a path may
end in a CSV file's name):

    mean, gain, interval, size, range, n, p, holm, leaning FOLDER FAMILY PRUNED
        the advantage of pruning first: its mean, the same without sign, its interval, the same without signs, the
        seeds' least and greatest, how many lean as the mean does
    value, spread, std, runs, recovery, footprint FOLDER SCHEDULE
        the runs of a schedule
    lead FOLDER SCHEDULE SCHEDULE
        one schedule minus another: the difference of their means, above zero the first is better
    rule FOLDER; standing FOLDER
        of a map over sparsity and bits: in how many cells the rule is right; the same where a difference stands
    gap FOLDER PRUNED
        the advantage at the published minus that at the controlled times, with its interval

`mean:1` has one decimal; seeds after a minus sign are left out: `{mean FOLDER FAMILY PRUNED -1 -3}`.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from publishing.runs import cells_of, effects_of, gap, row_of, section_of, without
from qp_runner.metric import Metric
from qp_runner.report.effect import ALPHA, Effect
from qp_runner.report.rows import Row
from qp_runner.report.sections import Section
from qp_runner.report.words import metric_number, p_value, spread, whole

BRACES = re.compile(r"\{([^{}]+)\}")
FIGURE = r"([-+−\d.,()±<=×⁻⁰¹²³⁴⁵⁶⁷⁸⁹ptof\s]{1,60}?)"
"""What may stand at the braces: `p = 0.12`, `+2.24 (+1.53 to +2.94)`."""
Numbers = Callable[[float, bool], str]
"""A number as text, with its sign or without."""


def set_figures(text: str, pieces: Sequence[str], folder: Path) -> str:
    """The text with the figures of today. Raises ValueError for a piece that does not stand in it once."""
    for piece in pieces:
        found = list(re.finditer(_pattern(piece), text))
        if len(found) != 1:
            raise ValueError(f"stands there {len(found)} times: {piece}")
        wanted = [figure(asked, folder) for asked in BRACES.findall(piece)]
        for index in reversed(range(len(wanted))):
            if found[0].group(index + 1).split() != wanted[index].split():
                start, end = found[0].span(index + 1)
                text = text[:start] + wanted[index] + text[end:]
    return text


def figure(asked: str, folder: Path) -> str:
    """The text of what stands in braces. Raises ValueError for what no kept table gives."""
    what, *rest = asked.split()
    what, _, places = what.partition(":")
    path = folder / rest[0]
    section = section_of(path if path.suffix == ".csv" else path / "summary.csv")
    numbers = _numbers(section.metric, int(places) if places else None)
    try:
        if what in OF_EFFECTS:
            return OF_EFFECTS[what](without(effects_of(section)[rest[1], rest[2]], _seeds(rest[3:])), numbers)
        if what in OF_ROWS:
            return OF_ROWS[what](row_of(section, rest[1]), section.metric, numbers)
        return OF_SECTIONS[what](section, rest[1:], numbers)
    except (KeyError, IndexError) as error:
        raise ValueError(f"no table gives {{{asked}}} ({error})") from error


def _pattern(piece: str) -> str:
    """The piece as a regular expression: a group for each figure, any white space for white space."""
    parts = BRACES.split(piece)
    if not all(parts[::2]):
        raise ValueError(f"braces need words before, between and after them: {piece}")
    literal = [r"\s+".join(re.escape(word) for word in re.split(r"\s+", part)) for part in parts[::2]]
    return FIGURE.join(literal) + r"(?!\d)"


def _numbers(metric: Metric, places: int | None) -> Numbers:
    def text(value: float, signed: bool) -> str:
        if places is None:
            return metric_number(metric, value, signed=signed)
        return f"{value:{'+' if signed else ''}.{places}f}".replace("-", "−")

    return text


def _seeds(words: Sequence[str]) -> frozenset[int]:
    return frozenset(int(word.removeprefix("-")) for word in words)


def _interval(effect: Effect, numbers: Numbers) -> str:
    low, high = effect.paired.interval or (float("nan"), float("nan"))
    return f"{numbers(low, True)} to {numbers(high, True)}"


def _size(effect: Effect, numbers: Numbers) -> str:
    low, high = sorted(map(abs, effect.paired.interval or (float("nan"), float("nan"))))
    return f"{numbers(low, False)} to {numbers(high, False)}"


def _range(effect: Effect, numbers: Numbers) -> str:
    low, high = min(effect.differences), max(effect.differences)
    return f"{numbers(low, True)} to {numbers(high, True)}"


def _gap(section: Section, rest: Sequence[str], numbers: Numbers) -> str:
    both = gap(section, rest[0], _seeds(rest[1:]))
    if both is None or both.interval is None:
        raise KeyError("gap")
    low, high = both.interval
    return f"{numbers(both.mean, True)} ({numbers(low, True)} to {numbers(high, True)})"


def _lead(section: Section, rest: Sequence[str], numbers: Numbers) -> str:
    one, other = (row_of(section, name).metric.mean for name in rest)
    return numbers(section.metric.sign * (one - other), True)


def _leaning(effect: Effect, _numbers: Numbers) -> str:
    return str(sum((each > 0) == (effect.paired.mean > 0) for each in effect.differences if each))


def _rule(section: Section, _rest: Sequence[str], _numbers: Numbers) -> str:
    cells = cells_of(section)
    return f"{sum(bool(cell.right) for cell, _ in cells)} of {len(cells)}"


def _stand(section: Section, _rest: Sequence[str], _numbers: Numbers) -> str:
    cells = [cell for cell, p in cells_of(section) if p < ALPHA]
    return f"{sum(bool(cell.right) for cell in cells)} of {len(cells)}"


OF_EFFECTS: Mapping[str, Callable[[Effect, Numbers], str]] = {
    "mean": lambda effect, numbers: numbers(effect.paired.mean, True),
    "gain": lambda effect, numbers: numbers(abs(effect.paired.mean), False),
    "interval": _interval,
    "size": _size,
    "range": _range,
    "leaning": _leaning,
    "n": lambda effect, _: str(effect.paired.n),
    "p": lambda effect, _: p_value(effect.paired.p or 0.0),
    "holm": lambda effect, _: p_value(effect.p_holm or 0.0),
}
OF_ROWS: Mapping[str, Callable[[Row, Metric, Numbers], str]] = {
    "value": lambda row, _, numbers: numbers(row.metric.mean, False),
    "std": lambda row, _, numbers: numbers(row.metric.std or 0.0, False),
    "spread": lambda row, metric, _: spread(metric, row.metric.mean, row.metric.std),
    "runs": lambda row, *_: str(row.metric.n),
    "recovery": lambda row, *_: whole(row.figure("recovery_steps")),
    "footprint": lambda row, *_: f"{row.footprint.mean:.4g}",
}
OF_SECTIONS: Mapping[str, Callable[[Section, Sequence[str], Numbers], str]] = {
    "gap": _gap,
    "lead": _lead,
    "rule": _rule,
    "standing": _stand,
}
