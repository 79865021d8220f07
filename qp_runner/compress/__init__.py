"""Pruning and quantization of a network's weights and activations, and the memory they save."""

from qp_runner.compress.bank import WeightBank
from qp_runner.compress.calibration import choose_scale
from qp_runner.compress.compressor import Compressor
from qp_runner.compress.coverage import Coverage, LeftOut
from qp_runner.compress.errors import CalibrationError
from qp_runner.compress.footprint import Footprint, expected, measure, performance_density, published
from qp_runner.compress.mask import magnitude_mask, pruned_count
from qp_runner.compress.rehearsal import check_single_samples
from qp_runner.compress.selection import SiteSelection, Skipped
from qp_runner.compress.settings import Settings
from qp_runner.compress.site_state import SiteState, put_site_states, site_states
from qp_runner.compress.summary import SiteRecord

__all__ = [
    "CalibrationError",
    "Compressor",
    "Coverage",
    "Footprint",
    "LeftOut",
    "Settings",
    "SiteRecord",
    "SiteSelection",
    "SiteState",
    "Skipped",
    "WeightBank",
    "check_single_samples",
    "choose_scale",
    "expected",
    "magnitude_mask",
    "measure",
    "performance_density",
    "pruned_count",
    "published",
    "put_site_states",
    "site_states",
]
