import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

import qp_runner
from qp_runner.tracking import Status, Tracker, Trackers
from qp_runner.tracking.environment import environment, git_commit, with_environment


class Notebook:
    """A tracker that remembers its calls; raises in them if told to."""

    def __init__(self, *, fails: bool = False) -> None:
        self.fails, self.calls = fails, list[tuple[object, ...]]()

    @property
    def run_id(self) -> str:
        return "notebook"

    def metrics(self, values: Mapping[str, float], *, step: int) -> None:
        self._note("metrics", dict(values), step)

    def text(self, name: str, content: str) -> None:
        self._note("text", name, content)

    def artifact(self, path: Path, folder: str = "") -> Path:
        self._note("artifact", path, folder)
        return path

    def flush(self) -> None:
        self._note("flush")

    def finish(self, status: Status, error: str | None = None) -> None:
        self._note("finish", status, error)

    def _note(self, *call: object) -> None:
        self.calls.append(call)
        if self.fails:
            raise OSError("disk full")


def use(tracker: Tracker) -> None:
    tracker.metrics({"train/loss": 0.5}, step=3)
    tracker.text("note.txt", "hello")
    tracker.artifact(Path("a.png"), "plots")
    tracker.flush()
    tracker.finish("FAILED", "ValueError: no")


USED = [
    ("metrics", {"train/loss": 0.5}, 3),
    ("text", "note.txt", "hello"),
    ("artifact", Path("a.png"), "plots"),
    ("flush",),
    ("finish", "FAILED", "ValueError: no"),
]


def test_each_tracker_gets_every_call_once_in_order() -> None:
    first, second = Notebook(), Notebook()
    trackers = Trackers([first, second])
    use(trackers)
    assert first.calls == second.calls == USED
    assert trackers.run_id == "notebook"


def test_a_tracker_that_raises_does_not_keep_a_call_from_the_others() -> None:
    second = Notebook()
    with pytest.raises(OSError, match="disk full"):
        Trackers([Notebook(fails=True), second]).finish("FINISHED")
    assert second.calls == [("finish", "FINISHED", None)]


def test_a_run_without_any_tracker_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one"):
        Trackers([])


def test_importing_tracking_imports_neither_mlflow_nor_torch() -> None:
    code = "import sys, qp_runner.tracking; print([name for name in ('mlflow', 'torch') if name in sys.modules])"
    root = str(Path(qp_runner.__file__).parents[1])
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=root)
    assert done.stdout.strip() == "[]"


def test_the_environment_is_told_in_tags(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["/somewhere/bin/qp-runner", "schedule=p_q_wf", "trainer.note=two words"])
    known = environment()
    assert known["command"] == "qp-runner schedule=p_q_wf 'trainer.note=two words'"
    assert known["version.qp_runner"] == qp_runner.__version__
    assert known["version.python"] == ".".join(map(str, sys.version_info[:3]))
    assert known["version.torch"][0].isdigit()
    assert int(known["cpus"]) >= 1
    assert known.get("git_commit") == git_commit()


def test_a_runs_own_tags_stand_first_and_win() -> None:
    known = with_environment({"order": "P → Q", "command": "mine"})
    assert list(known)[:2] == ["order", "command"]
    assert known["command"] == "mine"
    assert known.keys() == environment().keys() | {"order"}


def test_an_installed_package_names_no_commit(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("qp_runner.tracking.environment.ROOT", tmp_path)
    assert git_commit.__wrapped__() is None
