"""The kept tables remake the pages of results/published, their figures within sentences too."""

import re
import runpy
from collections.abc import Callable, Sequence
from pathlib import Path

import pandas as pd
import pytest
from run_tables import floats, pair, write

ROOT = Path(__file__).resolve().parents[2]
PUBLISHED = ROOT / "results" / "published"
PAGE = """\
# A page
<!-- published: {kind} {path} -->
old
<!-- end -->
kept text
"""


@pytest.fixture
def published(monkeypatch: pytest.MonkeyPatch) -> Callable[[Sequence[str]], int]:
    """The script's main function."""
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))  # as for any script: its own folder
    found: Callable[[Sequence[str]], int] = runpy.run_path(str(ROOT / "scripts" / "published.py"))["main"]
    return found


def page(root: Path, kind: str, path: str = "summary.csv", text: str = PAGE) -> Path:
    """A repository with one page, in the folder of the evidence."""
    (root / "README.md").write_text("# The project\n")
    folder = root / "results" / "published" / "evidence" / "mine"
    pairs = [(95.0, 92.0), (94.0, 91.1), (96.0, 92.9)]
    fixed = pair([(94.0, 93.0), (94.0, 93.5), (96.0, 95.6)], folder="controlled/")
    write(folder / "summary.csv", [*floats([98.0, 99.0, 100.0]), *pair(pairs), *fixed])
    (folder / "README.md").write_text(text.format(kind=kind, path=path))
    return folder / "README.md"


def said(root: Path, text: str, *pieces: str) -> Path:
    """A repository with one page of prose and what it takes from the tables."""
    made = page(root, "", text=text)
    lines = "".join(f"  - '{piece}'\n" for piece in pieces)
    (root / "results/published/prose.yaml").write_text(f"results/published/evidence/mine/README.md:\n{lines}")
    return made


def test_the_pages_of_the_repository_are_what_the_kept_tables_give(published: Callable[[Sequence[str]], int]) -> None:
    assert published(["--check"]) == 0


@pytest.mark.parametrize(
    ("kind", "path", "expected"),
    [
        ("schedules", "summary.csv", "| P0.5(w,f) → Q8(w,f) | published | 95.00 ± 1.00 | 3 | 50 %, 50 % | 8, 8 |"),
        ("effects", "summary.csv", "| w,f | published | +3.00 | +2.75 to +3.25 | +3.00 | 3 |"),
        ("by_seed", "summary.csv", "- w,f published, seed by seed: +3.00, +2.90, +3.10."),
        (
            "by_seed",
            "summary.csv",
            "w,f, published minus controlled, paired by seed: +2.37, 95 % interval +1.49 to +3.24",
        ),
        ("paper", "summary.csv", "| P0.5(w,f) → Q8(w,f) | 95.00 ± 1.00 | 91.44 % |"),
        (
            "across",
            "../mine",
            "](../mine/README.md), 10 epochs | accuracy % ↑ | 99.00 ± 1.00 |  |  |  | 95.00 ± 1.00 |",
        ),
        ("records", "summary.csv", "| classification | net | set | float | 0 | accuracy | 98.0 |"),
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


def test_figures_within_sentences_are_those_of_the_tables(
    published: Callable[[Sequence[str]], int], tmp_path: Path
) -> None:
    text = "Pruning first is better by\n1 to 2 points (n = 9), in 1 of 9 seeds; float has 1.5 %, in short 7. The end.\n"
    made = said(
        tmp_path,
        text,
        "better by {size mine published w,f} points (n = {n mine published w,f}), in {leaning mine published w,f} of",
        "float has {value mine float} %, in short {value:0 mine float}.",
    )
    assert published(["--root", str(tmp_path), "--check"]) == 1
    assert made.read_text() == text
    assert published(["--root", str(tmp_path)]) == 0
    expected = "better by\n2.75 to 3.25 points (n = 3), in 3 of 9 seeds; float has 99.00 %, in short 99. The end.\n"
    assert made.read_text() == f"Pruning first is {expected}"
    assert published(["--root", str(tmp_path), "--check"]) == 0


def test_seeds_can_be_left_out_of_a_figure(published: Callable[[Sequence[str]], int], tmp_path: Path) -> None:
    made = said(
        tmp_path,
        "It is +0 points, and +0 more.\n",
        "is {mean mine published w,f -0} points, and {gap mine w,f -0} more",
    )
    assert published(["--root", str(tmp_path)]) == 0
    assert made.read_text().startswith("It is +3.00 points, and +2.55 (")


@pytest.mark.parametrize(
    ("piece", "message"),
    [
        ("worse by {mean mine published w,f} points", "stands there 0 times: worse by"),
        ("x {mean mine published w,f} y", "stands there 2 times"),
        ("by {mean mine other w,f} points", "no table gives {mean mine other w,f}"),
        ("by {median mine published w,f} points", "no table gives {median mine published w,f}"),
        ("{mean mine published w,f} points", "braces need words before"),
    ],
)
def test_a_sentence_that_the_page_or_the_tables_do_not_have_is_an_error(
    published: Callable[[Sequence[str]], int], tmp_path: Path, piece: str, message: str
) -> None:
    said(tmp_path, "It is better by 1 points, x 1 y, x 2 y.\n", piece)
    with pytest.raises(SystemExit, match=re.escape(message)):
        published(["--root", str(tmp_path)])


@pytest.mark.parametrize(
    "path", sorted(PUBLISHED.rglob("summary*.csv")), ids=lambda path: str(path.relative_to(PUBLISHED))
)
def test_a_page_names_commits_libraries_and_machine_of_its_runs(path: Path) -> None:
    text, runs = (path.parent / "README.md").read_text(), pd.read_csv(path)
    for commit in runs["git_commit"].unique():
        assert commit[:7] in text
    for versions in runs["versions"].unique():
        assert re.search(r"torch\s+" + re.escape(versions.rpartition("torch ")[2]), text)
    assert re.search(r"H100|H200|Xeon|EPYC|on CPU", text)
    assert re.search(r"n = \d|\| n \|", text)
    assert re.search(r"qp-runner|scripts/run", text)
