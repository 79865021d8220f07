"""Which jobs a command line asks for."""

import pytest

from qp_runner.config.compose import composing, expand, jobs
from qp_runner.errors import ConfigError


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (["seed=1"], [["seed=1"]]),
        (["seed=0,1", "schedule=p_w,q_w"], [[f"seed={s}", f"schedule={n}"] for s in (0, 1) for n in ("p_w", "q_w")]),
        (["seed=0,1", "trainer.epochs=3", "seed=7"], [["seed=7", "trainer.epochs=3"]]),  # the last one counts
        (["seed=range(3)"], [["seed=0"], ["seed=1"], ["seed=2"]]),
        (["search=choice(tpe,nsga2)"], [["search=tpe"], ["search=nsga2"]]),
        (["schedule=glob(p_q_w*)"], [["schedule=p_q_w"], ["schedule=p_q_wf"]]),
        (["~schedule.events", "seed=0,1"], [["~schedule.events", "seed=0"], ["~schedule.events", "seed=1"]]),
        (["compress.quantiles=[0.1,0.9],null"], [["compress.quantiles=[0.1,0.9]"], ["compress.quantiles=null"]]),
        (["results='a,b'"], [["results='a,b'"]]),
        ([], [[]]),
    ],
)
def test_a_grid_is_every_combination_in_hydras_order(overrides: list[str], expected: list[list[str]]) -> None:
    with composing(None) as loader:
        assert expand(overrides, loader) == expected


@pytest.mark.parametrize(
    ("overrides", "line"),
    [
        (["seed=interval(0,3)"], r"^seed=interval\(0.*,3.*\): values to try"),
        (["schedule=glob(zzz*)"], r"^command line=.*asks for no job"),
        (["seed=[a"], r"^command line=seed=\[a"),
    ],
)
def test_what_is_no_grid_is_one_line(overrides: list[str], line: str) -> None:
    with composing(None) as loader, pytest.raises(ConfigError, match=line):
        expand(overrides, loader)


def test_a_deleted_key_is_deleted_in_a_sweep_too() -> None:
    planned, _ = jobs(["~schedule.events.prune_weight", "schedule=p_w,p_wf"], multirun=True)
    assert [list(job.config.schedule.events) for job in planned] == [[], ["prune_activation"]]


def test_bits_by_glob_can_be_swept() -> None:
    planned, _ = jobs([r"+model.sites.bits={conv*:4},{conv\[12\].*:3,fc:6},{}"], multirun=True)
    assert [job.config.model.sites.bits for job in planned] == [{"conv*": 4}, {"conv[12].*": 3, "fc": 6}, {}]


def test_a_sweep_without_m_is_refused_as_hydra_refuses_it() -> None:
    with pytest.raises(ConfigError, match="--multirun"):
        jobs(["seed=1,2"], multirun=False)
