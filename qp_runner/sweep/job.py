"""What Hydra calls for each job of a command line, in whatever process its launcher chose."""

from contextlib import nullcontext
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from qp_runner.config import validate
from qp_runner.config.compose import is_multirun
from qp_runner.errors import ConfigError
from qp_runner.masking import mask_files, masked
from qp_runner.run.context import RunContext, SweepContext
from qp_runner.run.labels import schedule_label, variant
from qp_runner.run.run import Composed, run
from qp_runner.run.signals import ending_as_interrupt
from qp_runner.sweep.gpu import reserve_gpu
from qp_runner.sweep.orphan import end_with_the_command, wait_for_orphans
from qp_runner.sweep.parent import Sweep
from qp_runner.tracking import following


def job(composed: DictConfig) -> float:
    """Trains, evaluates and records one run; returns its metric on test data. Raises what went wrong."""
    end_with_the_command()
    with ending_as_interrupt():
        return _job(composed)


def _job(composed: DictConfig) -> float:
    settings = HydraConfig.get()
    if settings.output_subdir is not None:
        mask_files(Path(settings.runtime.output_dir, settings.output_subdir).glob("*.yaml"))
    config, context = validate(composed), run_context()
    known = _known(composed)
    if config.search is not None and context.sweep is None:
        raise ConfigError("search", config.search.sampler, "needs hydra.mode=MULTIRUN and hydra/sweeper=trunks")
    if context.sweep is not None:
        side_by_side = settings.runtime.choices.get("hydra/launcher") != "basic"
        wait_for_orphans([context.folder])
        with reserve_gpu(config, int(settings.job.num)) if side_by_side else nullcontext(config) as config:
            return run(config, context, composed=known)
    results = Path(config.results)
    with following(config.store_uri(), experiment=config.task.name, results=results) as follower:
        follower.follow(context.folder)
        return run(config, context, composed=known, before_training=follower.check)


def _known(composed: DictConfig) -> Composed:
    """What a run keeps of its composition, without passwords."""
    unresolved: Any = OmegaConf.to_container(OmegaConf.create(masked(OmegaConf.to_yaml(composed))))
    return Composed(masked(OmegaConf.to_yaml(composed, resolve=True)), unresolved)


def run_context() -> RunContext:
    """Where the job that is running belongs, from what Hydra knows of it."""
    settings = HydraConfig.get()
    overrides, folder = list(settings.overrides.task), Path(settings.runtime.output_dir)
    label = schedule_label(settings.runtime.choices["schedule"], overrides)
    sweep = _sweep_context(folder) if is_multirun(settings) else None
    return RunContext(folder, label, variant(overrides), sweep)


def _sweep_context(folder: Path) -> SweepContext | None:
    """None for a job that Hydra's own sweeper has launched."""
    settings = HydraConfig.get()
    sweep_folder = Path(settings.sweep.dir).resolve()
    sweep = Sweep.load(sweep_folder)
    if sweep is None:
        return None
    number = int(folder.name) if folder.name.isdigit() else int(settings.job.num)
    steps = frozenset(sweep.checkpoint_steps.get(str(number), ()))
    return SweepContext(sweep.name, sweep_folder, number, sweep.jobs, frozenset(sweep.ignored), steps)
