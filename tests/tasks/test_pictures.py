import pytest
import torch

from qp_runner.tasks.pictures import GAP, side_by_side, with_boxes


def test_images_stand_in_a_row_with_white_between_them() -> None:
    images = [torch.full((3, 5, width), value, dtype=torch.uint8) for width, value in ((2, 10), (4, 20), (1, 30))]
    row = side_by_side(iter(images))
    columns = [10] * 2 + [255] * GAP + [20] * 4 + [255] * GAP + [30]
    assert torch.equal(row, torch.tensor(columns, dtype=torch.uint8).expand(3, 5, -1))


def test_one_image_stays_itself() -> None:
    image = torch.arange(12, dtype=torch.uint8).view(3, 2, 2)
    assert torch.equal(side_by_side([image]), image)


@pytest.mark.parametrize(("label", "color"), [(1, (255, 0, 0)), (2, (0, 255, 0)), (9, (255, 0, 0))])
def test_a_box_has_its_labels_colour_and_the_rest_stays(label: int, color: tuple[int, int, int]) -> None:
    image = torch.zeros(3, 40, 60, dtype=torch.uint8)
    drawn = with_boxes(image, torch.tensor([[20.0, 20.0, 50.0, 35.0]]), labels=[label], texts=[""])
    assert drawn[:, 35, 40].tolist() == list(color)
    assert not drawn[:, :15].any()
    assert not image.any()


def test_without_boxes_an_image_is_itself() -> None:
    image = torch.zeros(3, 4, 4, dtype=torch.uint8)
    assert torch.equal(with_boxes(image, torch.zeros(0, 4), labels=[], texts=[]), image)
