"""The report's plots, as inline SVG."""

from qp_runner.report.plots.effects import effect_plot
from qp_runner.report.plots.pareto import pareto_plot
from qp_runner.report.plots.style import Looks
from qp_runner.report.plots.training import training_plot

__all__ = ["Looks", "effect_plot", "pareto_plot", "training_plot"]
