"""What `hydra/sweeper=trunks` does: plans the jobs, then launches them in batches and waves, whatever the launcher."""

import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from hydra.core.plugins import Plugins
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf, read_write

from qp_runner.config.compose import Request
from qp_runner.config.job_loader import JobLoader
from qp_runner.errors import ExportError
from qp_runner.masking import masked
from qp_runner.sweep.batch import Batch, SweepPlan
from qp_runner.sweep.claim import Claim, claiming
from qp_runner.sweep.gpu import advice
from qp_runner.sweep.parent import parent_run
from qp_runner.tracking import following
from qp_runner.training import set_threads

MakePlan = Callable[[Request, Claim], SweepPlan]


class WaveSweeper(Sweeper):
    """Launches jobs batch by batch, each batch wave by wave.

    The folder of a job is its number, whatever the wave it runs in. All jobs run, also after one that failed; then the
    first failure is raised, unless the plan is forgiving.

    Args:
        make_plan: decides what to launch; takes the folder of an earlier attempt where it goes on with one.
    """

    def __init__(self, make_plan: MakePlan) -> None:
        super().__init__()
        self._make_plan = make_plan

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Hydra's hook: takes the launcher that is configured."""
        self.config, self.loader = config, JobLoader(hydra_context.config_loader)
        context = replace(hydra_context, config_loader=self.loader)
        self.launcher: Launcher = Plugins.instance().instantiate_launcher(
            hydra_context=context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> list[Any]:  # noqa: ARG002 - Hydra's signature; the configuration has them
        """Launches every job that is not done yet; returns what they returned, in the order of launching."""
        request = Request(self.loader, self.config)
        first = request.first.config
        set_threads(first.trainer.threads)
        mlflow = following(first.store_uri(), experiment=first.task.name, results=Path(first.results))
        with mlflow as follower, claiming() as claim:
            plan = self._make_plan(request, claim)
            folder = self._open_folder(request, plan, claim)
            follower.follow(folder)
            follower.check()
            goes_on = plan.before is not None
            with parent_run(
                folder, first, title=plan.title, jobs=plan.jobs, digest=plan.digest, goes_on=goes_on
            ) as parent:
                returned, workers, advised = list[Any](), _workers(self.config), ""
                for batch in plan.batches(parent, workers):
                    at_once = min(workers, max(map(len, batch.waves), default=0))
                    if not advised and (advised := advice(first, at_once)):
                        print(advised, file=sys.stderr)
                    parent.announce(batch.checkpoint_steps)
                    for wave in batch.waves:
                        returned += self._launch(batch, wave, launched=len(returned), numbered=request.numbered)
                for each in returned if not plan.forgiving else ():
                    _ = each.return_value  # raises where the job failed
                if plan.shortcomings:
                    raise ExportError("; ".join(plan.shortcomings))
        return returned

    def _open_folder(self, request: Request, plan: SweepPlan, claim: Claim) -> Path:
        """The sweep's folder: that of an earlier attempt, the one that the command names, or a new one."""
        named = request.folder
        folder = plan.before or (claim.named(named) if named else claim.new(Path(str(self.config.hydra.sweep.dir))))
        with read_write(self.config.hydra.sweep):
            self.config.hydra.sweep.dir = str(folder)
        (folder / "multirun.yaml").write_text(masked(OmegaConf.to_yaml(self.config)), encoding="utf-8")
        return folder

    def _launch(self, batch: Batch, wave: Sequence[int], *, launched: int, numbered: bool) -> list[Any]:
        """Launches a wave after `launched` jobs before it; returns what its jobs returned or failed with."""
        jobs = [[*batch.jobs[number], *([f"hydra.sweep.subdir='{number}'"] if numbered else [])] for number in wave]
        returned = list(self.launcher.launch(jobs, initial_job_idx=launched)) if jobs else []
        sys.stdout.flush()
        return returned


def _workers(config: DictConfig) -> int:
    """How many jobs the launcher runs at once, as far as its configuration says so."""
    asked = OmegaConf.select(config, "hydra.launcher.n_jobs")
    if not isinstance(asked, int):
        return 1
    return asked if asked > 0 else os.cpu_count() or 1
