from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from qp_runner.run.pictures import save_pictures
from qp_runner.tracking import RunFiles, RunInfo


class Painter:
    """What `save_pictures` needs of a task."""

    def __init__(self, made: object) -> None:
        self.made = made

    def pictures(self) -> object:
        if isinstance(self.made, Exception):
            raise self.made
        return self.made


@pytest.fixture
def tracker(tmp_path: Path) -> RunFiles:
    return RunFiles(tmp_path, RunInfo("run", "task"), store=None)


def test_pictures_are_kept_without_loss(tracker: RunFiles, tmp_path: Path) -> None:
    picture = torch.randint(256, (3, 5, 7), dtype=torch.uint8)
    save_pictures(Painter({"a__left__right": picture, "b/../c d": picture}), tracker)  # type: ignore[arg-type]
    folder = tmp_path / "artifacts" / "pictures"
    assert sorted(path.name for path in folder.iterdir()) == ["a__left__right.png", "b_.._c_d.png"]
    with Image.open(folder / "a__left__right.png") as image:
        assert np.array_equal(np.asarray(image), picture.permute(1, 2, 0).numpy())


def test_a_task_without_pictures_leaves_none(tracker: RunFiles, tmp_path: Path) -> None:
    save_pictures(Painter({}), tracker)  # type: ignore[arg-type]
    assert not (tmp_path / "artifacts" / "pictures").exists()


@pytest.mark.parametrize("made", [RuntimeError("out of paint"), {"a": torch.zeros(2)}])
def test_what_goes_wrong_with_them_is_a_warning(
    tracker: RunFiles, made: object, caplog: pytest.LogCaptureFixture
) -> None:
    save_pictures(Painter(made), tracker)  # type: ignore[arg-type]
    assert "pictures could not be kept" in caplog.text
