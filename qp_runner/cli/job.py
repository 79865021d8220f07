"""What Hydra calls for each job of a command line."""

from pathlib import Path

import torch
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from qp_runner.cli.naming import schedule_label, variant
from qp_runner.cli.run import Place, run
from qp_runner.schema import Config, validate
from qp_runner.sweep import Sweep


class JobEndedError(BaseException):
    """Carries a single run's failure past Hydra, which would add lines of its own; a sweep's job raises plainly."""

    def __init__(self, error: Exception) -> None:
        self.error = error
        super().__init__(error)


def job(composed: DictConfig) -> float:
    """What Hydra calls for each job, in whatever process its launcher chose."""
    settings = HydraConfig.get()
    multirun = settings.mode is not None and settings.mode.name == "MULTIRUN"
    overrides, folder = list(settings.overrides.task), Path(settings.runtime.output_dir)
    sweep_folder = Path(settings.sweep.dir).resolve()
    launched = int(settings.job.num) if multirun else 0
    place = Place(
        folder=folder,
        choices=dict(settings.runtime.choices),
        label=schedule_label(settings.runtime.choices["schedule"], overrides),
        variant=variant(overrides),
        sweep=Sweep.load(sweep_folder) if multirun else None,
        sweep_folder=sweep_folder if multirun else None,
        number=int(folder.name) if multirun and folder.name.isdigit() else launched,
    )
    try:
        config = validate(composed)
        if multirun and settings.runtime.choices.get("hydra/launcher") != "basic":
            config = with_own_gpu(config, launched)
        return run(config, place, config_yaml=OmegaConf.to_yaml(composed, resolve=True))
    except Exception as error:
        if multirun:
            raise
        raise JobEndedError(error) from error


def with_own_gpu(config: Config, launched: int) -> Config:
    """Deals the GPUs that a job sees out to jobs that run side by side, by the order in which they are launched."""
    count = torch.cuda.device_count()
    if config.trainer.device != "auto" or count < 2:
        return config
    return config.model_copy(
        update={"trainer": config.trainer.model_copy(update={"device": f"cuda:{launched % count}"})}
    )
