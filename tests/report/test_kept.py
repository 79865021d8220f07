from pathlib import Path

import pandas as pd
import pytest
from run_tables import floats, pair, table

from qp_runner.errors import ConfigError
from qp_runner.report.kept import read_csv
from qp_runner.report.read import RUN_COLUMNS


def test_a_kept_table_is_read_back_as_it_was(tmp_path: Path) -> None:
    runs = table([*floats([98.0, 99.0]), *pair([(1.0, 2.0)])])
    runs.to_csv(tmp_path / "summary.csv", index=False)
    again = read_csv(tmp_path / "summary.csv")
    assert list(again.columns) == list(RUN_COLUMNS)
    for name in ("schedule", "order", "signature", "value", "seed", "recovery_steps", "variant", "epochs"):
        assert list(again[name]) == list(runs[name])


def test_columns_that_an_older_file_lacks_are_empty_and_those_it_has_more_are_left_out(tmp_path: Path) -> None:
    runs = table(floats([98.0])).drop(columns=["left_out", "pd_total"]).assign(family="published")
    runs.to_csv(tmp_path / "summary.csv", index=False)
    again = read_csv(tmp_path / "summary.csv")
    assert list(again["left_out"]) == [""]
    assert pd.isna(again["pd_total"]).all()


@pytest.mark.parametrize("content", ["", "a,b\n1,2\n", "task,schedule,seed,value\n"])
def test_what_is_no_table_of_runs_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "summary.csv").write_text(content)
    with pytest.raises(ConfigError, match=r"summary\.csv"):
        read_csv(tmp_path / "summary.csv")
