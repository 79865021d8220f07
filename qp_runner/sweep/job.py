"""What Hydra calls for each job of a command line."""

import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path

import torch
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from qp_runner.config import Config, validate
from qp_runner.run.labels import schedule_label, variant
from qp_runner.run.run import Place, run
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
        side_by_side = multirun and settings.runtime.choices.get("hydra/launcher") != "basic"
        with own_gpu(config, launched) if side_by_side else nullcontext(config) as config:
            return run(config, place, config_yaml=OmegaConf.to_yaml(composed, resolve=True))
    except Exception as error:
        if multirun:
            raise
        raise JobEndedError(error) from error


@contextmanager
def own_gpu(config: Config, launched: int) -> Iterator[Config]:
    """Deals the GPUs that a job sees out to the jobs that run side by side on this machine, whatever their sweeps.

    Within, a job has the first GPU that no other one holds. Where all are held, more jobs were asked for than there are
    GPUs: then they take turns by the order in which they are launched.
    """
    count = torch.cuda.device_count()
    if config.trainer.device != "auto" or count < 2:
        yield config
        return
    with ExitStack() as held:
        free = (gpu for gpu in range(count) if _hold(_lock(gpu), held))
        device = f"cuda:{next(free, launched % count)}"
        yield config.model_copy(update={"trainer": config.trainer.model_copy(update={"device": device})})


def _lock(gpu: int) -> Path:
    """The file whose lock says that a GPU is taken. Processes that see other GPUs number them otherwise."""
    seen = [each for each in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if each]
    name = re.sub(r"\W", "_", seen[gpu] if gpu < len(seen) else str(gpu))
    return Path(tempfile.gettempdir()) / f"qp_runner-{getattr(os, 'getuid', int)()}-gpu-{name}.lock"


def _hold(path: Path, held: ExitStack) -> bool:
    """Whether the lock could be had; it is held until the stack is left, or the process dies."""
    try:
        import fcntl

        file = held.enter_context(path.open("a"))
        fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (ImportError, OSError):  # Windows has no such locks
        return False
    return True
