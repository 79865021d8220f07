import csv
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

from qp_runner.report.cli import main
from qp_runner.report.read import RUN_COLUMNS

LOADING = {"src", "href", "xlink:href", "data", "poster", "srcset", "action"}


class Page(HTMLParser):
    """Collects what a page would load, its text, its ids, and whether its elements are closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.loaded: list[str] = []
        self.ids: list[str] = []
        self.tags: list[str] = []
        self.words = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        for name, value in attributes:
            if name in LOADING:
                self.loaded.append(value or "")
            if name == "id":
                self.ids.append(value or "")

    def handle_data(self, data: str) -> None:
        self.words += data


@pytest.fixture(scope="session")
def out(store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report on everything."""
    out = tmp_path_factory.mktemp("out") / "deep" / "report"
    assert main(["--store", str(store), "--sweep", "all", "--out", str(out)]) == 0
    return out


@pytest.fixture(scope="session")
def page(out: Path) -> Page:
    return Page((out / "report.html").read_text(encoding="utf-8"))


def test_two_files_are_written(out: Path) -> None:
    assert sorted(path.name for path in out.iterdir()) == ["report.html", "summary.csv"]


def test_the_table_has_a_row_a_run(out: Path) -> None:
    with (out / "summary.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == list(RUN_COLUMNS)
    assert len(rows) == 20
    assert {row["status"] for row in rows} == {"FINISHED", "FAILED", "KILLED"}
    assert all((row["value"] == "") == (row["status"] != "FINISHED") for row in rows)


def test_the_page_loads_nothing(page: Page, out: Path) -> None:
    assert all(each.startswith(("#", "data:")) for each in page.loaded), page.loaded
    assert not {"script", "iframe", "object", "embed"} & set(page.tags)
    text = (out / "report.html").read_text(encoding="utf-8")
    assert "@import" not in text
    assert not re.search(r"url\((?!#)", text)


def test_every_reference_inside_the_page_leads_somewhere_and_to_one_place(page: Page, out: Path) -> None:
    text = (out / "report.html").read_text(encoding="utf-8")
    wanted = {each[1:] for each in page.loaded if each.startswith("#")} | set(re.findall(r"url\(#([^)]+)\)", text))
    assert wanted <= set(page.ids)
    assert len(page.ids) == len(set(page.ids))


def test_the_page_tells_everything(page: Page) -> None:
    for order in ("float", "Q8(w,f)", "P0.5(w) → Q8(w,f)", "Q8(w,f) → P0.5(w)"):
        assert order in page.words
    expected = ["classification", "translation", "Pruning first did better.", "One seed: no verdict", "PD can be gamed"]
    expected += [
        "It was also given more recovery (10 against 5 steps)",
        "ValueError: <the loss> is NaN",
        "torch",
        "all runs",
        "settings in which none finished",
    ]
    for words in expected:
        assert words in page.words
    assert "nan" not in page.words.replace("NaN", "").lower().split()
    assert page.tags.count("svg") == 2 * (4 + 2 + 2)  # of each task: panels, the front and the effect, wide and narrow


def test_pictures_are_in_the_page_where_runs_have_some(page: Page) -> None:
    assert page.tags.count("img") == 2 * 4  # two samples, four schedules of one task; the other task has none
    assert page.words.count("What the networks made of samples") == 1
    assert "front door" in page.words
    assert "left to right: input, output, target" in page.words
    assert sum(each.startswith("data:image/jpeg;base64,") for each in page.loaded) == 8


def test_tasks_are_compared_where_there_are_several(
    page: Page, store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "Which order wins where" in page.words
    assert main(["--store", str(store), "--sweep", "all", "--out", str(tmp_path)]) == 0
    shown = capsys.readouterr().out
    assert "Which order wins where" in shown
    assert max(map(len, shown.partition("Which order wins where")[2].splitlines())) <= 80
    assert main(["--store", str(store), "--sweep", "first", "--out", str(tmp_path)]) == 0
    assert "Which order wins where" not in capsys.readouterr().out
    assert "Which order wins where" not in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_the_terminal_gets_the_table_and_the_verdict(
    store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--store", str(store), "--sweep", "first", "--out", str(tmp_path)]) == 0
    shown = capsys.readouterr().out
    lines = [line for line in shown.splitlines() if "±" in line]
    assert [line.split("  ")[0].strip() for line in lines] == [
        "float",
        "Q8(w,f)",
        "P0.5(w) → Q8(w,f)",
        "Q8(w,f) → P0.5(w)",
    ]
    assert "98.03 ± 0.15" in lines[2]
    assert max(map(len, shown.splitlines()[:12])) <= 80
    assert "2 runs did not finish" in shown
    assert "KILLED q_p_w · seed 7: ValueError: <the loss> is NaN" in shown


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--store", "/nowhere/mlflow.db"], "--store=/nowhere/mlflow.db: no such file"),
        (["--sweep", "broken"], "--sweep=orders · broken: a sweep with finished runs"),
        (["--sweep", "nonsense"], "--sweep=nonsense: latest, all"),
        (["--task", "nonsense"], "--task=nonsense: a task that the store has"),
        (["--out", "/proc/nothing/here"], "--out=/proc/nothing/here: a folder that can be written"),
    ],
)
def test_nothing_to_report_is_one_line_and_exit_2(
    store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], expected: str
) -> None:
    assert main(["--store", str(store), "--out", str(tmp_path / "out"), *options]) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"qp-report: {expected}")
    assert said.count("\n") == 1


def test_an_empty_store_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from qp_runner.tracking.store import prepare

    prepare(f"sqlite:///{tmp_path}/mlflow.db", "classification")
    assert main(["--store", f"{tmp_path}/mlflow.db", "--out", str(tmp_path)]) == 2
    assert "it holds no runs yet" in capsys.readouterr().err


def test_a_file_that_is_no_store_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "text.db").write_text("not a database " * 100)
    assert main(["--store", f"{tmp_path}/text.db", "--out", str(tmp_path)]) == 2
    said = capsys.readouterr().err
    assert "an MLflow store that can be read" in said
    assert said.count("\n") == 1


def test_help_is_quick_and_says_what_it_does() -> None:
    code = "import sys; from qp_runner.report.cli import main\ntry: main(['--help'])\nfinally: print(*sys.modules)"
    root = str(Path(__file__).parents[2])
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=root).stdout
    assert "In which order" in said
    assert "results/mlflow.db" in said
    assert not {"mlflow", "pandas", "matplotlib", "torch", "hydra"} & set(said.split())
