import base64
import io
from collections.abc import Callable

import pytest
from PIL import Image

from qp_runner.report.pictures import SUBJECTS, WIDEST, subjects
from qp_runner.report.rows import Row

Make = Callable[..., Row]


def png(width: int = 6, height: int = 4, mode: str = "RGB") -> bytes:
    file = io.BytesIO()
    Image.new(mode, (width, height)).save(file, "PNG")
    return file.getvalue()


def test_a_sample_has_the_first_seeds_picture_of_each_schedule(row: Make) -> None:
    pictures = {"a0": {"cat__left__right": png()}, "b0": {"cat__left__right": png(8, 8), "dog": png()}, "c0": {}}
    runs = {"A": ("a0", "a1"), "B": ("b0", "b1"), "C": ("c0",), "D": ()}
    rows = [row(order, {0: 1.0}, run_ids=ids) for order, ids in runs.items()]
    found, unreadable = subjects(rows, lambda run_id: pictures[run_id])
    assert unreadable == []
    assert [(each.title, each.parts) for each in found] == [("cat", ("left", "right")), ("dog", ())]
    assert [[shown.row.order for shown in each.shown] for each in found] == [["A", "B"], ["B"]]
    assert [(shown.width, shown.height) for shown in found[0].shown] == [(6, 4), (8, 8)]


def test_a_page_stays_small(row: Make) -> None:
    many = {f"picture {number}": png(2 * WIDEST, 10) for number in range(SUBJECTS + 3)}
    found, _ = subjects([row("A", {0: 1.0}, run_ids=("a",))], lambda _: many)
    assert len(found) == SUBJECTS
    assert {(shown.width, shown.height) for each in found for shown in each.shown} == {(WIDEST, 5)}


@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA"])
def test_the_page_gets_images_that_browsers_show(row: Make, mode: str) -> None:
    [subject], _ = subjects([row("A", {0: 1.0}, run_ids=("a",))], lambda _: {"x": png(mode=mode)})
    head, _, data = subject.shown[0].uri.partition(",")
    assert head == "data:image/jpeg;base64"
    with Image.open(io.BytesIO(base64.b64decode(data))) as image:
        assert image.size == (6, 4)


@pytest.mark.parametrize("damage", [lambda _: b"", lambda whole: whole[:-30], lambda _: b"text", lambda _: png()[:8]])
def test_a_picture_that_cannot_be_read_is_named_and_left_out(row: Make, damage: Callable[[bytes], bytes]) -> None:
    pictures = {"a": {"cat": damage(png(300, 200)), "dog": png()}, "b": {"cat": png()}}
    rows = [row(order, {0: 1.0}, run_ids=(order,)) for order in "ab"]
    found, unreadable = subjects(rows, lambda run_id: pictures[run_id])
    assert [(each.title, [shown.row.order for shown in each.shown]) for each in found] == [
        ("cat", ["b"]),
        ("dog", ["a"]),
    ]
    [said] = unreadable
    assert said.startswith("a, run a, cat.png: ")


def test_pictures_out_of_reach_cost_no_other(row: Make) -> None:
    def pictures(run_id: str) -> dict[str, bytes]:
        if run_id == "a":
            raise OSError("s3://me:secret@bucket is gone")
        return {"cat": png()}

    found, unreadable = subjects([row(order, {0: 1.0}, run_ids=(order,)) for order in "ab"], pictures)
    assert [shown.row.order for shown in found[0].shown] == ["b"]
    assert unreadable == ["a, run a: s3://***@bucket is gone"]
