import numpy as np
import pytest
import torch
from PIL import Image

from qp_runner.data.image_files import image_paths, read_image
from qp_runner.errors import ConfigError


def test_images_are_read_as_they_were_written(tmp_path):
    pixels = np.random.default_rng(0).integers(256, size=(5, 7, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "b.png")
    Image.fromarray(pixels[:, :, 0]).save(tmp_path / "a.png")
    (tmp_path / "notes.txt").write_text("no image")
    grey, colour = image_paths(tmp_path, key="data.root")
    assert torch.equal(read_image(colour, key="data.root"), torch.from_numpy(pixels).permute(2, 0, 1))
    assert torch.equal(read_image(grey, key="data.root"), torch.from_numpy(pixels[:, :, 0]).expand(3, 5, 7))


def test_what_can_not_be_read_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"data\.train.*no such folder"):
        image_paths(tmp_path / "none", key="data.train")
    with pytest.raises(ConfigError, match=r"data\.train.*no images"):
        image_paths(tmp_path, key="data.train")
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nnot really")
    [broken] = image_paths(tmp_path, key="data.train")
    with pytest.raises(ConfigError, match=r"broken\.png.*not a readable image"):
        read_image(broken, key="data.train")
