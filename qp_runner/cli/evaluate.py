"""`qp-runner evaluate run=DIR`: measures a finished run again, on other data too."""

from collections.abc import Sequence
from pathlib import Path

from qp_runner.config.amend import amended
from qp_runner.errors import ConfigError
from qp_runner.run.evaluation import evaluate, in_results_of, new_folder
from qp_runner.run.model_file import read_model_file
from qp_runner.tracking import following


def evaluate_run(arguments: Sequence[str], *, extra_dir: Path | None = None) -> None:
    """Measures the run that `run=DIR` names, with the other arguments as overrides, and prints its figures.

    Records are a run of its own, in `evaluations` in the run's folder, and below it in MLflow. Raises ConfigError.
    """
    runs = [each.partition("=")[2] for each in arguments if each.startswith("run=")]
    if len(runs) != 1 or not runs[0]:
        raise ConfigError("run", " ".join(runs) or "?", "one finished run: qp-runner evaluate run=DIR [key=value ...]")
    overrides = [each for each in arguments if not each.startswith("run=")]
    file = read_model_file(Path(runs[0]), key="run")
    config = amended(file.about.composed, overrides, extra_dir=extra_dir)
    run = file.path.parent
    config = in_results_of(run, config, overrides)
    folder = new_folder(run)
    with following(config.store_uri(), experiment=config.task.name, results=Path(config.results)) as follower:
        follower.follow(folder)
        follower.check()
        changed = dict(each.lstrip("+~").partition("=")[::2] for each in overrides)
        found = evaluate(config, file, folder, changed=changed)
    for name, value in found.items():
        if name.startswith("final/"):
            print(f"{name.removeprefix('final/'):<28} {value:.6g}")
    print(f"recorded in {folder}")
