import base64
import io
from collections.abc import Callable

import pytest
from PIL import Image

from qp_runner.report.pictures import SUBJECTS, WIDEST, subjects
from qp_runner.report.rows import Row


def png(width: int = 6, height: int = 4, mode: str = "RGB") -> bytes:
    file = io.BytesIO()
    Image.new(mode, (width, height)).save(file, "PNG")
    return file.getvalue()


def rows(make: Callable[..., Row], ids: dict[str, tuple[str, ...]]) -> list[Row]:
    from dataclasses import replace

    return [replace(make(order, {0: 1.0}), run_ids=run_ids) for order, run_ids in ids.items()]


def test_a_sample_has_the_first_seeds_picture_of_each_schedule(row: Callable[..., Row]) -> None:
    pictures = {"a0": {"cat__left__right": png()}, "b0": {"cat__left__right": png(8, 8), "dog": png()}, "c0": {}}
    found = subjects(
        rows(row, {"A": ("a0", "a1"), "B": ("b0", "b1"), "C": ("c0",), "D": ()}), lambda run_id: pictures[run_id]
    )
    assert [(each.title, each.parts) for each in found] == [("cat", ("left", "right")), ("dog", ())]
    assert [[shown.row.order for shown in each.shown] for each in found] == [["A", "B"], ["B"]]
    assert [(shown.width, shown.height) for shown in found[0].shown] == [(6, 4), (8, 8)]


def test_without_pictures_there_are_no_samples(row: Callable[..., Row]) -> None:
    assert subjects(rows(row, {"A": ("a",)}), lambda _: {}) == ()


def test_a_page_stays_small(row: Callable[..., Row]) -> None:
    many = {f"picture {number}": png(2 * WIDEST, 10) for number in range(SUBJECTS + 3)}
    found = subjects(rows(row, {"A": ("a",)}), lambda _: many)
    assert len(found) == SUBJECTS
    assert {(shown.width, shown.height) for each in found for shown in each.shown} == {(WIDEST, 5)}


@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA"])
def test_the_page_gets_images_that_browsers_show(row: Callable[..., Row], mode: str) -> None:
    [subject] = subjects(rows(row, {"A": ("a",)}), lambda _: {"x": png(mode=mode)})
    head, _, data = subject.shown[0].uri.partition(",")
    assert head == "data:image/jpeg;base64"
    with Image.open(io.BytesIO(base64.b64decode(data))) as image:
        assert image.size == (6, 4)
