from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from PIL import Image

from qp_runner.run.pictures import save_pictures
from qp_runner.tracking import RunFiles, RunInfo


@pytest.fixture
def tracker(tmp_path: Path) -> RunFiles:
    return RunFiles(tmp_path, RunInfo("run", "task"), store=None)


def test_pictures_are_kept_without_loss(tracker: RunFiles, tmp_path: Path) -> None:
    picture = torch.randint(256, (3, 5, 7), dtype=torch.uint8)
    painter = Mock(pictures=lambda: {"a__left__right": picture, "b/../c d": picture})
    save_pictures(painter, tracker)
    folder = tmp_path / "artifacts" / "pictures"
    assert sorted(path.name for path in folder.iterdir()) == ["a__left__right.png", "b_.._c_d.png"]
    with Image.open(folder / "a__left__right.png") as image:
        assert np.array_equal(np.asarray(image), picture.permute(1, 2, 0).numpy())


def test_what_goes_wrong_with_them_is_a_warning(tracker: RunFiles, caplog: pytest.LogCaptureFixture) -> None:
    for painter in (Mock(pictures=Mock(side_effect=RuntimeError)), Mock(pictures=lambda: {"a": torch.zeros(2)})):
        caplog.clear()
        save_pictures(painter, tracker)
        assert "pictures could not be kept" in caplog.text
