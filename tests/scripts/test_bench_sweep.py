"""The bench of sweeps stops where a command of its fails."""

import runpy
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"


def test_a_command_that_fails_ends_the_bench_with_what_it_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(SCRIPTS))  # as for any script: its own folder
    bench = runpy.run_path(str(SCRIPTS / "bench_sweep.py"))
    with pytest.raises(SystemExit, match=r"(?s)^reuse failed:.*nonsense=1: no such key"):
        bench["timed"]("reuse", bench["WAYS"]["reuse"], ["nonsense=1"])
