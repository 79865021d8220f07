"""Launching the jobs of a sweep in waves, whatever the launcher: what `hydra/sweeper=trunks` does."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.plugins import Plugins
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf

from qp_runner.sweep.parent import ParentRun, SweepPlan

SUBDIR = "${hydra:job.num}"


class WaveSweeper(Sweeper):
    """Expands the grid as Hydra's basic sweeper does and launches it wave by wave.

    The command line has planned the waves (`ParentRun.plan`); without it (Hydra run by hand) there is one wave. Each
    job's folder is its number in the grid, whatever the wave it runs in. All waves run, also after a failed job; then
    the first failure is raised.
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
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> list[Any]:
        """Launches every job that is not done yet; returns what they returned, wave by wave."""
        assert self.config is not None
        folder = Path(str(self.config.hydra.sweep.dir))
        folder.mkdir(parents=True, exist_ok=True)
        OmegaConf.save(self.config, folder / "multirun.yaml")
        plan = ParentRun.plan
        jobs = plan.overrides if plan is not None and plan.overrides else self._expand(arguments)
        waves = plan.waves if plan is not None and plan.waves is not None else (tuple(range(len(jobs))),)
        return launch(self.launcher, jobs, waves, own_folders=self._own_folders())

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


def launch(
    launcher: Launcher | None,
    jobs: Sequence[Sequence[str]],
    waves: Sequence[Sequence[int]],
    *,
    own_folders: bool = True,
) -> list[Any]:
    """Launches jobs, given as overrides, wave by wave. Raises the first failure once all waves have run."""
    assert launcher is not None
    returned: list[Any] = []
    launched = 0
    for wave in waves:
        batch = [[*jobs[number], *([f"hydra.sweep.subdir='{number}'"] if own_folders else [])] for number in wave]
        if batch:
            returned += launcher.launch(batch, initial_job_idx=launched)
        launched += len(batch)
        sys.stdout.flush()
    for each in returned:
        _ = each.return_value  # raises where the job failed
    return returned


__all__ = ["SweepPlan", "WaveSweeper", "launch"]
