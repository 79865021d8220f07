"""Launching the jobs of a sweep in batches and waves, whatever the launcher: what `hydra/sweeper=trunks` does."""

import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.plugins import Plugins
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf

from qp_runner.sweep.batch import Batch
from qp_runner.sweep.composition import JobLoader
from qp_runner.sweep.parent import ParentRun

SUBDIR = "${hydra:job.num}"


class WaveSweeper(Sweeper):
    """Launches jobs batch by batch, each batch wave by wave.

    The command line has planned them (`ParentRun.plan`); without it (Hydra run by hand) the grid is expanded as Hydra's
    basic sweeper does, in one wave. Each job's folder is its number, whatever the wave it runs in. Everything runs,
    also after a failed job; then the first failure is raised, unless the plan is forgiving.
    """

    def __init__(self, params: dict[str, str] | None = None) -> None:
        super().__init__()
        self.params = params or {}
        self.config: DictConfig | None = None
        self.launcher: Launcher | None = None
        self.hydra_context: HydraContext | None = None

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Hydra's hook: takes the launcher that is configured."""
        self.config, self.hydra_context = config, hydra_context
        loader = JobLoader(hydra_context.config_loader.get_search_path())
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=replace(hydra_context, config_loader=loader), task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> list[Any]:
        """Launches every job that is not done yet; returns what they returned, in the order of launching."""
        assert self.config is not None
        folder = Path(str(self.config.hydra.sweep.dir))
        folder.mkdir(parents=True, exist_ok=True)
        OmegaConf.save(self.config, folder / "multirun.yaml")
        plan, own, returned = ParentRun.plan, self._own_folders(), list[Any]()
        for batch in self._batches(folder, arguments):
            ParentRun.announce(folder, batch.also)
            returned += launch(self.launcher, batch, launched=len(returned), own_folders=own)
        for each in returned if plan is None or not plan.forgiving else ():
            _ = each.return_value  # raises where the job failed
        return returned

    def _batches(self, folder: Path, arguments: list[str]) -> Iterator[Batch]:
        assert self.config is not None
        plan, sweep = ParentRun.plan, ParentRun.sweep
        if plan is None or plan.batches is None or sweep is None:
            jobs = self._expand(arguments)
            return iter([Batch(dict(enumerate(jobs)), [range(len(jobs))])])
        return plan.batches(folder, sweep, _workers(self.config))

    def _expand(self, arguments: list[str]) -> Sequence[Sequence[str]]:
        assert self.hydra_context is not None
        parser = OverridesParser.create(config_loader=self.hydra_context.config_loader)
        given = [f"{key}={value}" for key, value in self.params.items()] + arguments
        [batch] = BasicSweeper.split_arguments(parser.parse_overrides(given), None)
        return batch

    def _own_folders(self) -> bool:
        """Whether the user left the jobs' folders to us."""
        assert self.config is not None
        raw = OmegaConf.to_container(self.config.hydra.sweep, resolve=False)
        return isinstance(raw, dict) and raw.get("subdir") == SUBDIR


def launch(launcher: Launcher | None, batch: Batch, *, launched: int = 0, own_folders: bool = True) -> list[Any]:
    """Launches a batch wave by wave, after `launched` jobs before it; returns what the jobs returned or failed with."""
    assert launcher is not None
    returned: list[Any] = []
    for wave in batch.waves:
        jobs = [[*batch.jobs[number], *([f"hydra.sweep.subdir='{number}'"] if own_folders else [])] for number in wave]
        if jobs:
            returned += launcher.launch(jobs, initial_job_idx=launched + len(returned))
        sys.stdout.flush()
    return returned


def _workers(config: DictConfig) -> int:
    """How many jobs the launcher runs side by side, as far as it says so."""
    asked = OmegaConf.select(config, "hydra.launcher.n_jobs")
    if not isinstance(asked, int):
        return 1
    return asked if asked > 0 else os.cpu_count() or 1
