import subprocess
import sys
from pathlib import Path

import pytest

import qp_runner
from qp_runner.tracking.environment import git_commit, with_environment


def test_importing_tracking_imports_neither_mlflow_nor_torch() -> None:
    code = "import sys, qp_runner.tracking; print([name for name in ('mlflow', 'torch') if name in sys.modules])"
    root = str(Path(qp_runner.__file__).parents[1])
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=root)
    assert done.stdout.strip() == "[]"


def test_the_environment_is_told_in_tags_after_a_runs_own_which_win(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["/somewhere/bin/qp-runner", "schedule=p_q_wf", "trainer.note=two words"])
    known = with_environment({"order": "P → Q", "cpus": "mine"})
    assert list(known)[:2] == ["order", "cpus"]
    assert known["cpus"] == "mine"
    assert known["command"] == "qp-runner schedule=p_q_wf 'trainer.note=two words'"
    assert known["version.qp_runner"] == qp_runner.__version__
    assert known["version.python"] == ".".join(map(str, sys.version_info[:3]))
    assert known["version.torch"][0].isdigit()
    assert known.get("git_commit") == git_commit()


def test_an_installed_package_names_no_commit(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("qp_runner.tracking.environment.ROOT", tmp_path)
    assert git_commit.__wrapped__() is None
