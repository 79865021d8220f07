from pathlib import Path

import pandas as pd
import pytest

from qp_runner.errors import ConfigError
from qp_runner.report.events import changes, marks
from qp_runner.report.read import RUN_COLUMNS, Records, read
from qp_runner.report.sections import sections
from qp_runner.report.words import label

ASKED = """task model data schedule seed metric value sparsity_weight sparsity_activation bits_weight bits_activation
footprint_total_mb pd_total status order signature recovery_steps first_event_step total_steps run_id sweep epochs"""


@pytest.fixture(scope="session")
def first(store: Path) -> Records:
    return read(str(store), sweep="first")


def test_a_run_is_a_row_with_the_figures_it_recorded(first: Records) -> None:
    assert set(ASKED.split()) <= set(RUN_COLUMNS) == set(first.runs.columns)
    assert len(first.runs) == 14
    run = first.runs[(first.runs["schedule"] == "p_q_w") & (first.runs["seed"] == 1)].iloc[0]
    assert (run["value"], run["value_val"], run["metric"], run["status"]) == (98.2, 97.7, "accuracy", "FINISHED")
    assert (run["sparsity_weight"], run["bits_activation"], run["footprint_total_mb"]) == (0.5, 8.0, 0.2)
    assert (run["recovery_steps"], run["first_event_step"], run["epochs"]) == (10, 40, "10")


def test_a_metric_without_tags_is_inferred_and_its_tags_are_believed(first: Records, store: Path) -> None:
    assert set(first.runs["metric"]) == {"accuracy"}  # not the loss; known also of runs that never measured it
    assert set(first.runs["metric_direction"]) == {"up"}
    last = read(str(store)).runs
    assert set(zip(last["metric"], last["metric_direction"], strict=True)) == {("fid", "down")}


def test_runs_that_did_not_finish_have_an_error_and_no_value(first: Records) -> None:
    rest = first.runs[first.runs["status"] != "FINISHED"]
    assert sorted(rest["status"]) == ["FAILED", "KILLED"]
    assert rest["value"].isna().all()
    assert set(rest["error"]) == {"ValueError: <the loss> is NaN"}


def test_histories_are_the_metric_and_the_compression_by_step(first: Records) -> None:
    run_id = first.runs[first.runs["schedule"] == "q_p_w"]["run_id"].iloc[0]
    own = first.histories[first.histories["run_id"] == run_id]
    assert set(own["name"]) == {"metric", "sparsity_weight", "sparsity_activation", "bits_weight", "bits_activation"}
    metric = own[own["name"] == "metric"]
    assert list(metric["step"]) == list(range(10, 101, 10))
    assert list(metric["value"])[:2] == [96.0 - 5, 96.0 - 2.5]


def test_events_are_read_back_from_the_history(first: Records) -> None:
    run_id = first.runs[first.runs["schedule"] == "q_p_w"]["run_id"].iloc[0]
    found = changes(first.histories, run_id)
    assert [(each.step, each.op, each.target, each.value) for each in found] == [
        (60, "Q", "f", 8.0),
        (60, "Q", "w", 8.0),
        (100, "P", "w", 0.5),
    ]
    joined = [(mark.label, mark.first, mark.last) for mark in marks(found, gap=5)]
    assert joined == [("Q(w,f)", 60, 60), ("P(w)", 100, 100)]


@pytest.mark.parametrize(
    ("sweep", "task", "runs", "title"),
    [
        ("latest", None, 4, "orders · last"),
        ("latest", "classification", None, None),  # the latest of that task is the broken one
        ("all", None, 20, "all runs"),
        ("all", "classification", 15, "all runs"),
        ("first", None, 14, "orders · first"),
        ("orders · first", None, 14, "orders · first"),
        ("orders", None, 4, "orders · last"),
    ],
)
def test_a_sweep_is_found(store: Path, sweep: str, task: str | None, runs: int | None, title: str | None) -> None:
    if runs is None:
        with pytest.raises(ConfigError, match=r"^--sweep=orders · broken: .*1 failed.*<the loss> is NaN"):
            read(str(store), sweep=sweep, task=task)
        return
    found = read(str(store), sweep=sweep, task=task)
    assert (len(found.runs), found.sweep) == (runs, title)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"sweep": "nonsense"}, "--sweep=nonsense: .*last, other, broken, first"),
        ({"task": "nonsense"}, "--task=nonsense: .*classification, resolution, translation"),
    ],
)
def test_an_unknown_sweep_or_task_is_refused_with_the_known_ones(
    store: Path, options: dict[str, str], expected: str
) -> None:
    with pytest.raises(ConfigError, match=expected) as caught:
        read(str(store), **options)
    assert "\n" not in str(caught.value)


def test_a_missing_store_is_not_made(tmp_path: Path) -> None:
    for store in (str(tmp_path / "no.db"), f"sqlite:///{tmp_path}/no.db"):
        with pytest.raises(ConfigError, match=r"--store=.*no such file"):
            read(store)
    assert list(tmp_path.iterdir()) == []


def test_a_section_holds_what_may_be_compared(store: Path) -> None:
    found = sections(read(str(store), sweep="all"))
    assert [each.task for each in found] == ["classification", "resolution", "translation"]
    assert [label(each.metric) for each in found if each.finished] == ["accuracy % ↑", "FID ↓"]
    accuracy = found[0]
    assert [row.schedule for row in accuracy.rows] == ["float", "q_wf", "p_q_w", "q_p_w"]
    assert [row.unfinished for row in accuracy.rows] == [0, 0, 2, 1]
    assert [row.on_front for row in accuracy.rows] == [True, True, True, False]
    row = accuracy.rows[2]
    assert row.by_seed == {0: 98.0, 1: 98.2, 2: 97.9}
    assert row.metric.mean == pytest.approx(98.0333333)
    assert row.metric.std == pytest.approx(0.1527525)


def test_of_runs_with_the_same_schedule_and_seed_the_latest_counts(store: Path) -> None:
    records = read(str(store), sweep="first")
    again = records.runs[records.runs["status"] == "FINISHED"].assign(value=50.0).head(1)
    runs = pd.concat([records.runs, again], ignore_index=True)
    found = sections(Records(runs, records.histories, records.store, records.sweep))[0]
    assert found.repeated == 1
    assert found.rows[0].by_seed[0] == 50.0
    assert found.rows[0].metric.n == 3
