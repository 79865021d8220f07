"""Colours of runs in MLflow's charts: one for each schedule, so that its seeds look alike, in every sweep the same."""

import zlib

PARENT = "#a0a0a0"
PALETTE = (
    *("#1f77b4", "#ff7f0e", "#17becf", "#d62728", "#404040", "#bcbd22", "#9467bd", "#8c564b", "#e377c2", "#2ca02c"),
    *("#6baed6", "#fdae6b", "#74c476", "#fb9a99", "#b39ddb", "#c49c94", "#f7b6d2", "#9edae5", "#dbdb8d", "#5a7d9a"),
)
SALT = 24447  # with it the package's own schedules differ, and the six of the default sweep differ strongly


def color(schedule: str) -> str:
    """The colour (#rrggbb) of a schedule's runs: a function of its name alone, as each run only knows itself."""
    return PALETTE[zlib.crc32(f"{SALT} {schedule}".encode()) % len(PALETTE)]
