"""The kept tables remake the pages of results/published."""

import runpy
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from run_tables import floats, pair, write

ROOT = Path(__file__).resolve().parents[2]
PAGE = """\
# A page
<!-- published: {kind} {path} -->
old
<!-- end -->
kept text
"""


@pytest.fixture
def published() -> Callable[[Sequence[str]], int]:
    """The script's main function."""
    found: Callable[[Sequence[str]], int] = runpy.run_path(str(ROOT / "scripts" / "published.py"))["main"]
    return found


def page(root: Path, kind: str, path: str = "summary.csv") -> Path:
    """A repository with one page."""
    (root / "README.md").write_text("# The project\n")
    folder = root / "results" / "published" / "mine"
    write(folder / "summary.csv", [*floats([98.0, 99.0, 100.0]), *pair([(95.0, 92.0), (94.0, 91.1), (96.0, 92.9)])])
    (folder / "README.md").write_text(PAGE.format(kind=kind, path=path))
    return folder / "README.md"


def test_the_pages_of_the_repository_are_what_the_kept_tables_give(published: Callable[[Sequence[str]], int]) -> None:
    assert published(["--check"]) == 0


@pytest.mark.parametrize(
    ("kind", "path", "expected"),
    [
        ("schedules", "summary.csv", "| P0.5(w,f) → Q8(w,f) | published | 95.00 ± 1.00 | 3 | 50 %, 50 % | 8, 8 |"),
        ("effects", "summary.csv", "| w,f | published | +3.00 | +2.75 to +3.25 | +3.00 | 3 |"),
        ("answers", "../mine", "| classification | net, set, 10 epochs | w,f | published | +3.00 points |"),
        ("verdicts", "../mine", "- Classification (net on set): pruning first is better for w,f at published times"),
        ("forest", "../mine", "](forest.png)"),
        ("pareto", "summary.csv", "](pareto.png)"),
    ],
)
def test_what_a_page_asks_for_replaces_what_stood_there(
    published: Callable[[Sequence[str]], int], tmp_path: Path, kind: str, path: str, expected: str
) -> None:
    asked = page(tmp_path, kind, path)
    before = asked.read_text()
    assert published(["--root", str(tmp_path), "--check"]) == 1
    assert asked.read_text() == before
    assert published(["--root", str(tmp_path)]) == 0
    text = asked.read_text()
    assert expected in text
    assert "old" not in text
    assert text.endswith("<!-- end -->\nkept text\n")
    if kind in ("forest", "pareto"):
        assert (asked.parent / f"{kind}.png").read_bytes()[:4] == b"\x89PNG"
    assert published(["--root", str(tmp_path), "--check"]) == 0


def test_an_unknown_wish_says_what_there_is(published: Callable[[Sequence[str]], int], tmp_path: Path) -> None:
    page(tmp_path, "nonsense")
    with pytest.raises(SystemExit, match="published: nonsense: one of schedules, effects"):
        published(["--root", str(tmp_path)])
