import io
from pathlib import Path

import pandas as pd
import pytest
from rich.console import Console

from qp_runner.errors import ConfigError
from qp_runner.report.events import changes, joined
from qp_runner.report.html import render
from qp_runner.report.read import Records, read, run_table
from qp_runner.report.sections import sections
from qp_runner.report.source import StoredRun
from qp_runner.report.terminal import show
from qp_runner.report.words import label


@pytest.fixture(scope="session")
def first(store: Path) -> Records:
    return read(str(store), sweep="first")


def test_a_run_is_a_row_with_the_figures_it_recorded(first: Records) -> None:
    run = first.runs[(first.runs["schedule"] == "p_q_w") & (first.runs["seed"] == 1)].iloc[0]
    assert (run["value"], run["value_val"], run["metric"], run["status"]) == (98.2, 97.7, "accuracy", "FINISHED")
    assert (run["sparsity_weight"], run["bits_activation"], run["footprint_total_mb"]) == (0.5, 8.0, 0.2)
    assert (run["recovery_steps"], run["first_event_step"], run["epochs"]) == (10, 40, "10")


def test_runs_that_did_not_finish_have_an_error_and_no_value(first: Records) -> None:
    rest = first.runs[first.runs["status"] != "FINISHED"].set_index("status")
    assert rest["value"].isna().all()
    assert rest["error"].to_dict() == {
        "FAILED": "ValueError: <the loss> is NaN",
        "KILLED": "KeyboardInterrupt: stopped",
    }


def test_a_run_that_failed_before_its_metric_was_known_has_that_of_its_task(store: Path) -> None:
    runs = read(str(store)).runs
    assert runs["status"].iloc[0] == "FAILED"
    assert set(zip(runs["metric"], runs["metric_direction"], strict=True)) == {("fid", "down")}


def test_histories_are_the_metric_and_the_compression_by_step(first: Records) -> None:
    run_id = first.runs[first.runs["schedule"] == "q_p_w"]["run_id"].iloc[0]
    own = first.histories([run_id], [run_id])
    assert set(own["run_id"]) == {run_id}
    assert set(own["name"]) == {"metric", "sparsity_weight", "sparsity_activation", "bits_weight", "bits_activation"}
    metric = own[own["name"] == "metric"]
    assert list(metric["step"]) == list(range(10, 101, 10))
    assert list(metric["value"])[:2] == [96.0 - 5, 96.0 - 2.5]


def test_events_are_read_back_from_the_history_and_neighbours_are_shown_as_one(first: Records) -> None:
    run_id = first.runs[first.runs["schedule"] == "q_p_w"]["run_id"].iloc[0]
    found = changes(first.histories([], [run_id]), run_id)
    assert [(each.step, each.op, each.targets) for each in found] == [(60, "Q", "f"), (60, "Q", "w"), (100, "P", "w")]
    assert [(each.step, each.op, each.targets) for each in joined(found, gap=5)] == [(100, "P", "w"), (60, "Q", "w,f")]


@pytest.mark.parametrize(
    ("sweep", "task", "runs", "title"),
    [
        ("latest", None, 5, "orders · last"),
        ("all", None, 21, "all runs"),
        ("all", "classification", 15, "all runs"),
        ("first", None, 14, "orders · first"),
        ("orders · first", None, 14, "orders · first"),
        ("orders", None, 5, "orders · last"),
    ],
)
def test_a_sweep_is_found(store: Path, sweep: str, task: str | None, runs: int, title: str) -> None:
    found = read(str(store), sweep=sweep, task=task)
    assert (len(found.runs), found.sweep) == (runs, title)


def test_a_sweep_is_found_by_the_run_above_its_jobs(first: Records) -> None:
    assert read(first.store, sweep=first.runs["parent_run_id"].iloc[0]).sweep == first.sweep


def test_a_missing_store_is_not_made(tmp_path: Path) -> None:
    for store in (str(tmp_path / "no.db"), f"sqlite:///{tmp_path}/no.db"):
        with pytest.raises(ConfigError, match=r"--store=.*no such file"):
            read(store)
    assert list(tmp_path.iterdir()) == []


def run(name: str, start: int, *, parent: str = "", job: str = "") -> StoredRun:
    tags = {"mlflow.runName": name, "mlflow.parentRunId": parent, "job": job}
    return StoredRun(name, "FINISHED", start, start, tags, params={}, metrics={})


def test_sweeps_stand_as_they_began_and_their_jobs_by_number_or_as_they_began() -> None:
    late_wave = [run("a", 5, parent="p", job="10"), run("b", 2, parent="p", job="2"), run("c", 9, parent="p", job="0")]
    others = [run("p", 1), run("q", 3), run("e", 7, parent="q"), run("d", 4, parent="q"), run("alone", 2)]
    table = run_table([*late_wave, *others, run("older", 0)])
    assert list(table["run_id"]) == ["older", "p", "c", "b", "a", "alone", "q", "d", "e"]


def test_a_section_holds_what_may_be_compared(store: Path) -> None:
    found = sections(read(str(store), sweep="all"))
    assert [each.task for each in found] == ["classification", "resolution", "translation"]
    assert [label(each.metric) for each in found] == ["accuracy % ↑", "PSNR dB ↑", "FID ↓"]
    accuracy = found[0]
    assert [row.schedule for row in accuracy.rows] == ["float", "q_wf", "p_q_w", "q_p_w"]
    assert [row.unfinished for row in accuracy.rows] == [0, 0, 2, 1]
    assert [row.on_front for row in accuracy.rows] == [True, True, True, False]
    row = accuracy.rows[2]
    assert row.by_seed == {0: 98.0, 1: 98.2, 2: 97.9}
    assert row.metric.mean == pytest.approx(98.0333333)
    assert row.metric.std == pytest.approx(0.1527525)


def test_of_runs_with_the_same_schedule_and_seed_the_latest_counts(first: Records) -> None:
    again = first.runs[first.runs["status"] == "FINISHED"].assign(value=50.0).head(1)
    runs = pd.concat([first.runs, again], ignore_index=True)
    found = sections(Records(runs, first.histories, first.store, first.sweep))[0]
    assert found.repeated == 1
    assert (found.rows[0].by_seed[0], found.rows[0].metric.n) == (50.0, 3)


def test_a_finished_run_with_a_file_that_fails_counts_and_is_named(first: Records) -> None:
    """In figures it is like any other; the terminal and the page say what is wrong with its file."""
    failed = "packed.safetensors: outputs differ by up to 0.1"
    runs = first.runs.copy()
    number = runs.index[runs["status"] == "FINISHED"][0]
    runs.loc[number, "error"] = failed
    records = Records(runs, first.histories, first.store, first.sweep)
    [section] = sections(records)
    assert section.rows[0].metric.n == 3
    assert section.failed_exports == [(runs.loc[number, "name"], failed)]
    assert sections(first)[0].failed_exports == []
    console = Console(file=io.StringIO(), width=200)
    show(console, [section])
    assert f"{runs.loc[number, 'name']}: {failed}" in console.file.getvalue()
    assert failed in render(records, [section])
