"""Pruning and quantization of a network's weights and activations, and the memory they save."""

from qp_runner.compress.calibration import CalibrationError, choose_scale
from qp_runner.compress.compressor import Compressor
from qp_runner.compress.mask import magnitude_mask, pruned_count
from qp_runner.compress.selection import SiteSelection
from qp_runner.compress.settings import Settings

__all__ = [
    "CalibrationError",
    "Compressor",
    "Settings",
    "SiteSelection",
    "choose_scale",
    "magnitude_mask",
    "pruned_count",
]
