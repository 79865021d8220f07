"""Numbers, metrics and lists in words."""

import math

from qp_runner.metric import Metric

ABBREVIATIONS = {"fid": "FID", "kid": "KID", "psnr": "PSNR", "ssim": "SSIM", "map": "mAP", "lpips": "LPIPS"}
TINY = 1e-3  # below it, four decimals show fewer than two digits
SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def arrow(metric: Metric) -> str:
    """The direction of better: ↑ or ↓."""
    return "↑" if metric.higher_is_better else "↓"


def label(metric: Metric) -> str:
    """For headings and axes: `accuracy % ↑`."""
    return " ".join(part for part in (metric.name, metric.unit, arrow(metric)) if part)


def points(metric: Metric) -> str:
    """The unit of a difference: percentages differ by points."""
    return "points" if metric.unit == "%" else metric.unit or metric.name


def metric_number(metric: Metric, value: float | None, *, signed: bool = False) -> str:
    """A value or a difference without its unit, with two decimals where the metric has one."""
    if value is None or not metric.unit or not math.isfinite(value):
        return number(value, signed=signed)
    return f"{value:{'+' if signed and value else ''}.2f}".replace("-", "−")


def with_unit(metric: Metric, value: float) -> str:
    """A value with its unit: `98.52 %`."""
    return f"{metric_number(metric, value)} {metric.unit}".strip()


def spread(metric: Metric, mean: float, std: float | None) -> str:
    """`98.52 ± 0.31`, or the mean alone where there is no standard deviation."""
    text = metric_number(metric, mean)
    return text if std is None else f"{text} ± {_decimals(std, text)}"


def spelled(metric: str) -> str:
    """A metric's name in its usual spelling: `FID (efficientnet_lite0)` for `fid_efficientnet_lite0`."""
    first, _, rest = metric.partition("_")
    if first not in ABBREVIATIONS:
        return metric
    return ABBREVIATIONS[first] + (f" ({rest})" if rest else "")


def number(value: float | None, *, signed: bool = False) -> str:
    """Two decimals, or three digits for small numbers; an en dash for unknown ones."""
    if value is None or not math.isfinite(value):
        return "–"
    text = f"{value:.2f}" if abs(value) >= 1 or value == 0 else f"{value:.3g}"
    if "e" in text:
        text = _scientific(value)
    elif abs(value) >= 1000:
        text = f"{value:,.0f}"
    if signed and value > 0:
        text = f"+{text}"
    return text.replace("-", "−")


def column(values: list[float]) -> list[str]:
    """The numbers of a column, with equal decimals: three digits of the smallest number, but at most four decimals.

    If a number is too small for four decimals, the column has powers of ten instead: `3.1×10⁻⁶`.
    """
    sizes = [abs(value) for value in values if math.isfinite(value) and value != 0]
    if sizes and min(sizes) < TINY:
        return [_scientific(value) if math.isfinite(value) else "–" for value in values]
    places = min(4, max(0, 2 - math.floor(math.log10(min(sizes))))) if sizes else 0
    return [f"{value:,.{places}f}".replace("-", "−") if math.isfinite(value) else "–" for value in values]


def whole(value: float) -> str:
    """Steps and bits: without decimals if they are whole."""
    if not math.isfinite(value):
        return "–"
    return f"{value:,.0f}" if float(value).is_integer() else f"{value:,.2f}"


def epochs(steps: float, steps_per_epoch: float) -> str:
    """Steps in epochs: `2.4`."""
    if not math.isfinite(steps) or not steps_per_epoch > 0:
        return "–"
    return f"{steps / steps_per_epoch:.2f}".rstrip("0").rstrip(".")


def p_value(p: float) -> str:
    """`p = 0.031`, never `p = 0`."""
    return "p < 0.001" if p < 0.001 else f"p = {p:.2g}"


def plural(count: int, one: str) -> str:
    """`1 seed`, `3 seeds`."""
    return f"{count} {one}{'' if count == 1 else 's'}"


def listed(items: list[str]) -> str:
    """`a, b and c`."""
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} and {items[-1]}" if items else ""


def _scientific(value: float) -> str:
    """`3.1×10⁻⁶`: two digits and a power of ten."""
    digits, power = f"{value:.1e}".split("e")
    return f"{digits}×10{str(int(power)).translate(SUPERSCRIPT)}".replace("-", "−")


def _decimals(value: float, like: str) -> str:
    """A number with as many decimals as `like`, or as a power of ten like it."""
    if "×" in like:
        return _scientific(value)
    return f"{value:.{len(like.partition('.')[2])}f}"
