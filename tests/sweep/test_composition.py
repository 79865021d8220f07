import pickle

import pytest
from hydra.core.global_hydra import GlobalHydra
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict

from qp_runner.config.compose import composing
from qp_runner.sweep.composition import JobLoader

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
        loader = JobLoader(plain.get_search_path())
        for overrides in JOBS + JOBS[::-1]:
            expected, made = (each.load_sweep_config(whole, overrides) for each in (plain, loader))
            assert everything(made) == everything(expected)
            assert OmegaConf.is_struct(made) == OmegaConf.is_struct(expected)


def test_what_a_job_changes_in_its_configuration_is_its_own() -> None:
    with composing(None):
        whole = master([])
        loader = JobLoader(GlobalHydra.instance().config_loader().get_search_path())
        first = loader.load_sweep_config(whole, ["seed=1"])
        first.trainer.optimizer.lr = 77.0
        assert loader.load_sweep_config(whole, ["seed=1"]).trainer.optimizer.lr != 77.0


def test_a_loader_travels_to_other_processes_without_what_it_has_composed() -> None:
    with composing(None):
        whole = master([])
        loader = JobLoader(GlobalHydra.instance().config_loader().get_search_path())
        fresh = len(pickle.dumps(loader))
        expected = loader.load_sweep_config(whole, JOBS[0])
        sent = pickle.dumps(loader)
        assert len(sent) == fresh
        assert everything(pickle.loads(sent).load_sweep_config(whole, JOBS[0])) == everything(expected)
