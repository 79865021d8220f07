import pickle
from pathlib import Path

import pytest
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from qp_runner.config.compose import composing
from qp_runner.config.hydra_errors import config_error
from qp_runner.config.job_loader import JobLoader

COMMAND_LINES = [
    [],
    ["-m"],
    ["experiment=orders/digits"],
    ["hydra/launcher=basic", "hydra.sweep.dir=mine"],
    ["+hydra.job.env_set.A=b", "hydra.job.config.override_dirname.exclude_keys=[seed]"],
]
JOBS = [
    ["schedule=q_p_wf", "seed=3", "hydra.sweep.subdir='0'"],
    ["schedule=q_p_wf", "seed=4", "hydra.sweep.subdir='1'"],
    ["seed=4", "schedule=float"],
    ["data=cifar10", "model=resnet20", "data.root=x", "+trainer.optimizer.nesterov=true"],
    ["~schedule.events.prune_weight", "compress=saturated"],
    ["+schedule.events.x={op: prune, target: weight, to: 0.9, start: 0.99dur}", "trainer.threads=2"],
    ["trainer.epochs=3", "trainer.epochs=4", "results=a b"],
    ["schedule.events.prune_weight.to=0.7", "~schedule.events.prune_weight"],
    ["~schedule.events"],
    [
        "~schedule.events",
        "+schedule.events.x={op: prune, target: weight, to: 0.9, start: 0.99dur}",
        "schedule.events.x.to=0.3",
    ],
    ["compress.quantiles=[0.1,0.9]", "trainer.lr_schedule=null", "compress.scale=float"],
    ["hydra.job.name=mine", "seed=1"],
]


def master(command_line: list[str]) -> DictConfig:
    """A sweep's configuration as Hydra makes it, with the number of a job."""
    overrides = ["hydra.mode=MULTIRUN" if each == "-m" else each for each in command_line]
    loader = GlobalHydra.instance().config_loader()
    config = loader.load_configuration("config", overrides=overrides, run_mode=RunMode.MULTIRUN)
    _ = config.hydra.sweep.dir  # the time in it is read once for all jobs
    return config


def everything(config: DictConfig) -> tuple[object, str]:
    with open_dict(config):
        config.hydra.job.num = 7
    return OmegaConf.to_container(config), config.hydra.sweep.dir


@pytest.mark.parametrize("command_line", COMMAND_LINES, ids=" ".join)
def test_jobs_are_composed_as_hydras_own_loader_composes_them(command_line: list[str]) -> None:
    with composing(None):
        whole, plain = master(command_line), GlobalHydra.instance().config_loader()
        loader = JobLoader(plain)
        for overrides in JOBS + JOBS[::-1]:
            job = [*whole.hydra.overrides.task, *overrides]
            expected, made = (each.load_sweep_config(whole, job) for each in (plain, loader))
            assert everything(made) == everything(expected)
            assert OmegaConf.is_struct(made) == OmegaConf.is_struct(expected)


def test_what_a_job_changes_in_its_configuration_is_its_own() -> None:
    with composing(None):
        whole = master([])
        loader = JobLoader(GlobalHydra.instance().config_loader())
        first = loader.load_sweep_config(whole, ["seed=1"])
        first.trainer.optimizer.lr = 77.0
        assert loader.load_sweep_config(whole, ["seed=1"]).trainer.optimizer.lr != 77.0


def test_a_sweeps_folder_that_was_changed_is_that_of_its_jobs() -> None:
    with composing(None) as loader:
        whole = master(["-m"])
        with open_dict(whole):
            whole.hydra.sweep.dir = "somewhere else"
        assert JobLoader(loader).load_sweep_config(whole, ["seed=1"]).hydra.sweep.dir == "somewhere else"


def test_a_group_of_a_search_path_is_a_group(tmp_path: Path) -> None:
    (tmp_path / "colour").mkdir()
    for name in ("red", "blue"):
        (tmp_path / "colour" / f"{name}.yaml").write_text(f"# @package _global_\nseed: {len(name)}\n")
    with composing(None) as plain:
        whole = master([f"hydra.searchpath=[file://{tmp_path}]", "+colour=red"])
        loader = JobLoader(plain)
        for overrides in (["+colour=red"], ["+colour=blue"], ["+colour=red", "trainer.epochs=3"]):
            assert everything(loader.load_sweep_config(whole, overrides)) == everything(
                plain.load_sweep_config(whole, overrides)
            )


@pytest.mark.parametrize(
    "overrides", [["zzz=1"], ["schedule=zzz"], ["trainer.epochs.x=1"], ["seed=[a"], ["schedule=p_w", "trainer.lr=1"]]
)
def test_what_hydra_refuses_is_refused(overrides: list[str]) -> None:
    with composing(None) as plain:
        whole = master([])
        errors = []
        for each in (plain, JobLoader(plain)):
            with pytest.raises((HydraException, OmegaConfBaseException)) as caught:
                each.load_sweep_config(whole, overrides)
            errors.append(str(config_error(caught.value, overrides)))
        assert errors[0].partition(":")[0] == errors[1].partition(":")[0]


def test_a_loader_travels_to_other_processes_without_what_it_has_composed() -> None:
    with composing(None):
        whole = master([])
        loader = JobLoader(GlobalHydra.instance().config_loader())
        fresh = len(pickle.dumps(loader))
        expected = loader.load_sweep_config(whole, JOBS[0])
        sent = pickle.dumps(loader)
        assert len(sent) == fresh
        assert everything(pickle.loads(sent).load_sweep_config(whole, JOBS[0])) == everything(expected)
