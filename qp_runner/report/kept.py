"""From a summary.csv that was kept back to the table of runs that it was written from."""

from pathlib import Path

import pandas as pd

from qp_runner.errors import ConfigError
from qp_runner.report.read import RUN_COLUMNS

TEXT = (
    *("task", "model", "data", "schedule", "metric", "status", "order", "signature", "variant", "metric_direction"),
    *("metric_unit", "epochs", "footprint_kind", "left_out", "sweep", "name", "run_id", "parent_run_id", "error"),
    *("command", "git_commit", "cpus", "versions"),
)
"""Columns of text; the others are numbers."""


def read_csv(path: Path) -> pd.DataFrame:
    """The runs of a file, columns RUN_COLUMNS; those that an older file lacks are empty.

    Raises ConfigError for a file that holds no runs.
    """
    try:
        table = pd.read_csv(path, dtype=dict.fromkeys(TEXT, str))
    except (OSError, ValueError) as error:
        raise ConfigError("summary.csv", path, f"a table of runs that can be read ({error})") from error
    if table.empty or not {"task", "schedule", "seed", "value"} <= set(table.columns):
        raise ConfigError("summary.csv", path, "a table with a row a run, as qp-report writes it")
    table = table.reindex(columns=list(RUN_COLUMNS))
    texts = table[list(TEXT)].astype(object)
    table[list(TEXT)] = texts.where(texts.notna(), "")
    return table
