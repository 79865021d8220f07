from types import SimpleNamespace
from typing import Any

from qp_runner.report.source import in_order


def run(name: str, start: int, *, parent: str = "", job: str = "") -> Any:
    tags = {"mlflow.parentRunId": parent} | ({"job": job} if job else {})
    return SimpleNamespace(info=SimpleNamespace(run_id=name, start_time=start), data=SimpleNamespace(tags=tags))


def test_sweeps_stand_as_they_began_and_their_jobs_by_number() -> None:
    late_wave = [run("a", 5, parent="p", job="10"), run("b", 2, parent="p", job="2"), run("c", 9, parent="p", job="0")]
    others = [run("p", 1), run("q", 3), run("d", 4, parent="q", job="0"), run("alone", 2), run("older", 0)]
    names = [each.info.run_id for each in in_order([*late_wave, *others])]
    assert names == ["older", "p", "c", "b", "a", "alone", "q", "d"]


def test_jobs_without_a_number_stand_as_they_began() -> None:
    names = [each.info.run_id for each in in_order([run("b", 7, parent="p"), run("a", 3, parent="p")])]
    assert names == ["a", "b"]
