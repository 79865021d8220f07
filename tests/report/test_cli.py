import csv
import re
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from html.parser import HTMLParser
from pathlib import Path

import pytest

from qp_runner.report.cli import main
from qp_runner.tracking.store import prepare

LOADING = {"src", "href", "xlink:href", "data", "poster", "srcset", "action"}
COLUMNS = """task model data schedule seed metric value sparsity_weight sparsity_activation bits_weight bits_activation
footprint_total_mb pd_total status order signature recovery_steps first_event_step total_steps run_id sweep epochs"""


class Page(HTMLParser):
    """A page's text, what it would load, its ids, tags and words."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.text, self.words = text, ""
        self.loaded: list[str] = []
        self.ids: list[str] = []
        self.tags: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.loaded += [value or "" for name, value in attributes if name in LOADING]
        self.ids += [value or "" for name, value in attributes if name == "id"]

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


def test_two_files_are_written_and_the_table_has_a_row_a_run(out: Path) -> None:
    assert sorted(path.name for path in out.iterdir()) == ["report.html", "summary.csv"]
    with (out / "summary.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert set(COLUMNS.split()) <= set(rows[0])
    assert len(rows) == 21
    assert {row["status"] for row in rows} == {"FINISHED", "FAILED", "KILLED"}
    assert all((row["value"] == "") == (row["status"] != "FINISHED") for row in rows)


def test_the_page_loads_nothing(page: Page) -> None:
    assert all(each.startswith(("#", "data:")) for each in page.loaded), page.loaded
    assert not {"script", "iframe", "object", "embed"} & set(page.tags)
    assert "@import" not in page.text
    assert not re.search(r"url\((?!#)", page.text)


def test_every_reference_inside_the_page_leads_somewhere_and_to_one_place(page: Page) -> None:
    wanted = {each[1:] for each in page.loaded if each.startswith("#")} | set(re.findall(r"url\(#([^)]+)\)", page.text))
    assert wanted <= set(page.ids)
    assert len(page.ids) == len(set(page.ids))


def test_the_page_tells_everything(page: Page) -> None:
    for words in (
        *("float", "Q8(w,f)", "P0.5(w) → Q8(w,f)", "Q8(w,f) → P0.5(w)", "classification", "translation", "torch"),
        *("Pruning first did better.", "One seed: no verdict", "PD can be gamed", "all runs"),
        "It was also given more recovery (10 against 5 steps)",
        "ValueError: <the loss> is NaN",
        "settings in which none finished",
        "in sites: 100 % of the matrix parameters, 90 % of the activations in memory",
        "left out: stem, 10 % (no glob)",
    ):
        assert words in page.words
    assert "nan" not in page.words.replace("NaN", "").lower().split()
    drawn = 2 * (4 + 2 + 2)  # of each task: panels, the front and the effect, wide and narrow
    assert page.tags.count("svg") == drawn + 2  # and the files of one


def test_pictures_are_in_the_page_where_runs_have_some(page: Page) -> None:
    assert page.tags.count("img") == 2 * 4  # two samples, four schedules of one task; the other task has none
    assert page.words.count("What the networks made of samples") == 1
    assert "front door" in page.words
    assert "left to right: input, output, target" in page.words
    assert sum(each.startswith("data:image/jpeg;base64,") for each in page.loaded) == 8


def test_measured_files_stand_beside_footprints_where_runs_have_some(
    store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--store", str(store), "--sweep", "last", "--out", str(tmp_path)]) == 0
    shown = capsys.readouterr().out
    assert "file" in shown
    assert sum("✓" in line for line in shown.splitlines()) == 3  # that of q_wf was not
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "against exported file" in text
    assert text.count("<small>verified</small>") == 3
    with (tmp_path / "summary.csv").open(encoding="utf-8", newline="") as file:
        table = {row["schedule"]: row for row in csv.DictReader(file) if row["status"] == "FINISHED"}
    assert {name: row["file_verified"] for name, row in table.items()}["q_wf"] == "0.0"
    assert all(float(row["file_mb"]) == float(row["footprint_total_mb"]) / 2 for row in table.values())


def test_tasks_are_compared_where_there_are_several(
    page: Page, store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "Which order wins where" in page.words
    assert main(["--store", str(store), "--sweep", "all", "--out", str(tmp_path)]) == 0
    compared = capsys.readouterr().out.partition("Which order wins where")[2].splitlines()
    assert max(map(len, compared)) <= 80
    assert any(line.rstrip().endswith("in which order?") for line in compared)
    assert main(["--store", str(store), "--sweep", "first", "--out", str(tmp_path)]) == 0
    assert "Which order wins where" not in capsys.readouterr().out
    assert "Which order wins where" not in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_the_terminal_gets_the_table_and_the_verdict(
    store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--store", str(store), "--sweep", "first", "--out", str(tmp_path)]) == 0
    shown = capsys.readouterr().out
    lines = [line for line in shown.splitlines() if "±" in line]
    orders = ["float", "Q8(w,f)", "P0.5(w) → Q8(w,f)", "Q8(w,f) → P0.5(w)"]
    assert [line.split("  ")[0].strip() for line in lines] == orders
    assert "98.03 ± 0.15" in lines[2]
    assert max(map(len, shown.splitlines()[:12])) <= 80
    assert "In which order? Pruning first did better." in shown
    assert "in sites: 100 % of the matrix parameters, 90 % of the activations in memory" in shown
    assert "left out: stem, 10 % (no glob)" in " ".join(shown.split())
    assert "2 runs did not finish" in shown
    assert "FAILED p_q_w · seed 7: ValueError: <the loss> is NaN" in shown


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--sweep", "broken"], r"--sweep=orders · broken: a sweep with finished runs.*1 failed.*<the loss> is NaN"),
        (["--task", "classification"], "--sweep=orders · broken: "),  # the latest of that task
        (["--sweep", "nonsense"], "--sweep=nonsense: latest, all.*last, other, broken, first"),
        (["--task", "nonsense"], "--task=nonsense: a task that the store has.*classification, resolution, translation"),
        (["--out", "/proc/nothing/here"], "--out=/proc/nothing/here: a folder that can be written"),
        (["--store", "{tmp}/empty.db"], "--store=.*: it holds no runs yet"),
        (["--store", "{tmp}/text.db"], "--store=.*: an MLflow store that can be read"),
    ],
)
def test_nothing_to_report_is_one_line_and_exit_2(
    store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], expected: str
) -> None:
    prepare(f"sqlite:///{tmp_path}/empty.db", "classification")
    (tmp_path / "text.db").write_text("not a database " * 100)
    given = [option.format(tmp=tmp_path) for option in options]
    assert main(["--store", str(store), "--out", str(tmp_path / "out"), *given]) == 2
    said = capsys.readouterr().err
    assert re.match(f"qp-report: {expected}", said)
    assert said.count("\n") == 1


def test_text_of_users_is_text_everywhere(
    store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    schedule, order = "p_q_w[prune_weight.to=0.5]", r"P $\frac$ [/x] <b>Q</b>"
    shutil.copytree(store.parent / "mlartifacts", tmp_path / "mlartifacts")
    shutil.copy(store, tmp_path / "mlflow.db")
    with closing(sqlite3.connect(tmp_path / "mlflow.db")) as opened, opened:
        opened.execute("UPDATE tags SET value = ? WHERE key = 'schedule' AND value = 'p_q_w'", (schedule,))
        opened.execute("UPDATE tags SET value = ? WHERE key = 'order' AND value LIKE 'P%'", (order,))
        opened.execute("UPDATE tags SET value = ? WHERE key IN ('model', 'variant', 'metric_unit')", (order,))
    monkeypatch.setenv("COLUMNS", "200")
    assert main(["--store", str(tmp_path / "mlflow.db"), "--sweep", "first", "--out", str(tmp_path / "[/x]")]) == 0
    shown = capsys.readouterr().out
    assert {schedule, order, str(tmp_path / "[/x]" / "report.html")} <= set(re.split(r"\s{2,}|\n", shown))
    page = Page((tmp_path / "[/x]" / "report.html").read_text(encoding="utf-8"))
    assert "<b>Q</b>" not in page.text
    assert page.words.count(order) > 10
    assert schedule in page.words


def test_a_damaged_picture_does_not_cost_the_page(store: Path, tmp_path: Path) -> None:
    shutil.copytree(store.parent / "mlartifacts", tmp_path / "mlartifacts")
    shutil.copy(store, tmp_path / "mlflow.db")
    with closing(sqlite3.connect(tmp_path / "mlflow.db")) as opened, opened:
        places = (store.parent.as_uri(), tmp_path.as_uri())
        opened.execute("UPDATE runs SET artifact_uri = replace(artifact_uri, ?, ?)", places)
    for path in tmp_path.rglob("front_door*.png"):
        path.write_bytes(b"")
    assert main(["--store", str(tmp_path / "mlflow.db"), "--out", str(tmp_path / "out")]) == 0
    page = Page((tmp_path / "out/report.html").read_text(encoding="utf-8"))
    assert page.tags.count("img") == 4
    assert "Pictures left out because they can't be read: float, run" in page.words


def test_help_is_quick_and_says_what_it_does() -> None:
    code = "import sys; from qp_runner.report.cli import main\ntry: main(['--help'])\nfinally: print(*sys.modules)"
    root = str(Path(__file__).parents[2])
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=root).stdout
    assert "In which order" in said
    assert "results/mlflow.db" in said
    assert not {"mlflow", "pandas", "matplotlib", "torch", "hydra"} & set(said.split())
