"""What is done with every file of a set: once in a process, within bounds, with a bar on a terminal."""

import io
import os
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from qp_runner.config.compose import jobs
from qp_runner.data import image_folder, many_files
from qp_runner.data.many_files import file_digest, files_digest, side_by_side
from qp_runner.errors import ConfigError
from qp_runner.run.task import build_task
from qp_runner.training import content_of


def written(contents: dict[str, bytes]) -> list[str]:
    for name, content in contents.items():
        Path(name).write_bytes(content)
    return [*contents]


def reads(monkeypatch: pytest.MonkeyPatch, where: object, name: str) -> list[object]:
    """What a function is called with from now on."""
    calls, plain = list[object](), getattr(where, name)
    monkeypatch.setattr(where, name, lambda *args, **given: calls.append(args[0]) or plain(*args, **given))
    return calls


def test_a_digest_is_of_content_in_its_order(here: Path) -> None:
    first = files_digest(written({"a": b"1", "b": b"22"}), key="k")
    assert files_digest(written({"c": b"1", "d": b"22"}), key="k") == first
    assert files_digest(["b", "a"], key="k") != first
    assert files_digest(written({"a": b"1", "b": b"23"}), key="k") != first
    assert file_digest(Path("a"), key="k") == file_digest(Path("c"), key="k") != file_digest(Path("b"), key="k")
    with pytest.raises(ConfigError, match=r"^k=gone: can't be read: "):
        files_digest(["a", "gone"], key="k")


def test_files_are_read_again_only_when_they_have_changed(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths, opened = written({"a": b"1", "b": b"2"}), reads(monkeypatch, many_files, "_content")
    for _ in range(3):
        files_digest(paths, key="k")
    assert opened == paths
    os.utime("b", (1, 1))
    files_digest(paths, key="k")
    assert opened == paths * 2


@pytest.mark.parametrize(("limit", "value"), [("FILES", 1), ("BYTES", 2)])
def test_of_too_many_files_sizes_and_times_count(
    limit: str, value: int, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(many_files, limit, value)
    paths, opened = written({"a": b"1", "b": b"22"}), reads(monkeypatch, many_files, "_content")
    first = files_digest(paths, key="k")
    assert files_digest(paths, key="k") == first
    os.utime("b", (1, 1))
    assert files_digest(paths, key="k") != first
    assert opened == []


def photographs(root: Path, count: int = 12) -> None:
    random = np.random.default_rng(0)
    for number in range(count):
        (root / str(number % 2)).mkdir(parents=True, exist_ok=True)
        Image.fromarray(random.integers(0, 256, (9, 9, 3), dtype=np.uint8)).save(root / f"{number % 2}/{number}.png")


def test_a_set_that_is_streamed_is_measured_once_for_all_jobs(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    photographs(here / "set")
    opened = reads(monkeypatch, Image, "open")
    made = [image_folder(root="set", size=8, test_share=0.3, val_share=0.2, memory_gb=0, workers=0) for _ in range(3)]
    assert len(opened) == len(made[0].train)
    assert torch.equal(made[0].mean, made[2].mean)
    assert torch.equal(made[0].std, made[2].std)


def test_links_are_followed_but_not_in_circles(here: Path) -> None:
    photographs(here / "elsewhere", 20)
    for name in "01":
        (here / "set" / name).mkdir(parents=True)
        (here / "set" / name / "linked").symlink_to(here / "elsewhere" / name)
        (here / "elsewhere" / name / "again").symlink_to(here / "elsewhere" / name)
    data = image_folder(root="set", size=8)
    assert len(data.train) + len(data.val) + len(data.test) == 20


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("patience", [-1.0, 60.0])
def test_a_terminal_shows_a_bar_for_what_takes_long(patience: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", Terminal())
    monkeypatch.setattr(many_files, "PATIENCE_S", patience)
    many_files.show_bars(True)
    assert side_by_side(lambda index: index + 1, 3, what="reading images") == [1, 2, 3]
    assert ("reading images" in sys.stderr.getvalue()) == (patience < 0)  # type: ignore[attr-defined]


@pytest.mark.parametrize("progress", [True, False])
def test_a_run_without_progress_shows_no_bar_of_its_data(
    progress: bool, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    photographs(here / "set", 20)
    monkeypatch.setattr(sys, "stderr", Terminal())
    monkeypatch.setattr(many_files, "PATIENCE_S", -1.0)
    overrides = [
        "data=image_folder",
        "data.root=set",
        "data.size=8",
        "trainer.batch_size=4",
        f"trainer.progress={progress}",
    ]
    [job], _ = jobs(overrides, multirun=False)
    content_of(build_task(job.config))
    shown = sys.stderr.getvalue()  # type: ignore[attr-defined]
    assert ("reading" in shown) == progress
