import numpy as np
import pytest
import torch
from PIL import Image

from qp_runner.data import aligned, unpaired
from qp_runner.errors import ConfigError


def noise(width, height):
    return Image.fromarray(np.random.default_rng(0).integers(256, size=(height, width, 3), dtype=np.uint8))


@pytest.fixture
def pairs(tmp_path):
    for split, count in (("train", 4), ("val", 2), ("test", 3)):
        (tmp_path / split).mkdir()
        for number in range(count):
            image = Image.new("RGB", (32, 16), (10 * number, 0, 0))
            image.paste((0, 10 * number, 0), (16, 0, 32, 16))  # the right half
            image.save(tmp_path / split / f"{number}.png")
    return tmp_path


@pytest.fixture
def domains(tmp_path):
    for folder, count in (("trainA", 5), ("trainB", 3), ("testA", 2), ("testB", 4)):
        (tmp_path / folder).mkdir()
        for number in range(count):
            colour = (10 * number, 0, 0) if folder.endswith("A") else (0, 10 * number, 0)
            Image.new("RGB", (20, 16), colour).save(tmp_path / folder / f"{number}.png")
    return tmp_path


def test_the_aligned_layout_is_read_in_both_directions(pairs):
    there = aligned(root=str(pairs), size=16, load_size=18)
    back = aligned(root=str(pairs), size=16, load_size=18, direction="BtoA")
    assert there.train.a.shape == (4, 3, 18, 18)
    assert there.test.a.shape == (3, 3, 16, 16)
    assert there.train.a[:, 0, 0, 0].tolist() == there.train.b[:, 1, 0, 0].tolist() == [0, 10, 20, 30]
    assert torch.equal(there.train.a, back.train.b)
    assert torch.equal(there.test.b, back.test.a)
    assert there.paired


@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_pixels_of_the_right_size_do_not_change_and_grey_gets_three_equal_channels(pairs, mode):
    image = noise(32, 16).convert(mode)
    image.save(pairs / "train" / "0.png")
    read = aligned(root=str(pairs), size=16, load_size=None).train
    whole = torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1)
    assert torch.equal(torch.cat([read.a[0], read.b[0]], dim=2), whole)


def test_without_a_validation_folder_training_pairs_are_held_out(pairs):
    read = aligned(root=str(pairs), size=16, load_size=None, val=None, holdout=0.5)
    again = aligned(root=str(pairs), size=16, load_size=None, val=None, holdout=0.5)
    colours = [*read.train.a[:, 0, 0, 0].tolist(), *read.val.a[:, 0, 0, 0].tolist()]
    assert sorted(colours) == [0, 10, 20, 30]
    assert torch.equal(read.val.a, again.val.a)


def test_the_unpaired_layout_is_read(domains):
    read = unpaired(root=str(domains), size=16, load_size=18, holdout=0.4)
    assert [len(each) for each in (read.train.a, read.train.b, read.val.a, read.val.b)] == [3, 2, 2, 1]
    assert [len(read.test.a), len(read.test.b)] == [2, 4]
    assert read.train.a.shape[-2:] == (18, 18)
    assert not read.paired
    back = unpaired(root=str(domains), size=16, load_size=18, holdout=0.4, direction="BtoA")
    assert torch.equal(back.train.a, read.train.b)


def test_validation_folders_are_taken_where_there_are_any(domains):
    for folder in ("valA", "valB"):
        (domains / folder).mkdir()
        Image.new("RGB", (16, 16), (7, 7, 7)).save(domains / folder / "x.png")
    read = unpaired(root=str(domains), size=16, load_size=None)
    assert len(read.train.a) == 5
    assert read.val.b.unique().tolist() == [7]


def test_a_subset_is_the_first_of_each_folder(pairs, domains):
    assert len(aligned(root=str(pairs), size=16, load_size=None, subset=2).train.a) == 2
    assert len(unpaired(root=str(domains), size=16, load_size=None, subset=2, holdout=0.5).train.a) == 1


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda path: noise(31, 16).save(path), r"0\.png: .*even width; this one has 31"),
        (lambda path: path.write_bytes(b"no image"), r"0\.png: not a readable"),
        (lambda path: path.unlink(), "no images"),
    ],
)
def test_bad_files_are_named(pairs, damage, said):
    (pairs / "val" / "1.png").unlink()
    damage(pairs / "val" / "0.png")
    with pytest.raises(ConfigError, match=rf"^data\.root[^\n]*{said}[^\n]*$"):
        aligned(root=str(pairs), size=16, load_size=None)


@pytest.mark.parametrize("load", [aligned, unpaired])
@pytest.mark.parametrize(
    ("arguments", "key"),
    [
        ({"root": None}, "data.root"),
        ({"root": "nowhere"}, "data.root"),
        ({"root": ".", "direction": "AtoA"}, "data.direction"),
        ({"root": ".", "size": 0}, "data.size"),
        ({"root": ".", "size": 8, "load_size": 7}, "data.load_size"),
    ],
)
def test_bad_arguments_are_refused(load, arguments, key):
    with pytest.raises(ConfigError) as caught:
        load(**arguments)
    assert caught.value.key == key


def test_a_holdout_leaves_something_on_both_sides(domains):
    with pytest.raises(ConfigError, match=r"data\.holdout"):
        unpaired(root=str(domains), size=16, load_size=None, holdout=0.0)
