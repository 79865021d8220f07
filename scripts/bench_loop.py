"""What the trainer adds to a training step: milliseconds of a step in a run, and of the same step alone, which is
repeated on one batch that is made already; and seconds of an epoch's evaluation.

What a run adds is reading, augmenting and normalising batches, the learning rate, progress and the check of the loss;
epochs with events are left out. Both are measured in one process, the step alone before the run and after it; figures
are medians, of epochs and of repeats of as many steps.
Without overrides: ResNet-20 and MobileNetV2 on images made up in CIFAR-10's layout, captured steps, bfloat16; where
there is no GPU, the small CNN on digits.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from bench_sweep import made_up

from qp_runner.config import Config
from qp_runner.config.compose import requesting
from qp_runner.run.build import build, build_trainer
from qp_runner.training import Trainer

ON_GPU = ["experiment=published/mobilenetv2", "data.split=holdout", "schedule=p_q_wf", "trainer.precision=bfloat16"]
WARM_UP = 5  # steps
REPEATS = 5  # before the run, and after it


class Epochs:
    """Keeps the seconds of each epoch's steps, but for the first epoch and those with events."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self._left_out = True

    def metrics(self, values: Mapping[str, float], *, step: int) -> None:  # noqa: ARG002
        """Takes what the trainer records."""
        if "time/epoch_s" not in values:  # what an event did
            self._left_out = True
            return
        if not self._left_out:
            self.seconds.append(values["time/epoch_s"])
        self._left_out = False


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("overrides", nargs="*", help="a run's command line")
    parser.add_argument("--epochs", type=int, default=12, help="of the run (%(default)s)")
    args = parser.parse_args()
    cuda = torch.cuda.is_available()
    with tempfile.TemporaryDirectory() as name:
        cases = [args.overrides or ["experiment=orders/digits", "schedule=p_q_wf"]]
        if cuda and not args.overrides:
            data = f"data.root={made_up(Path(name), 50_000)}"
            cases = [[*ON_GPU, data, f"model={model}"] for model in ("resnet20", "mobilenetv2")]
        print(f"torch {torch.__version__}, {torch.cuda.get_device_name() if cuda else 'CPU'}")
        for overrides in cases:
            measured([*overrides, f"trainer.epochs={args.epochs}"])


def measured(overrides: list[str]) -> None:
    """Measures one run and prints a line."""
    with requesting([*overrides, "hydra.mode=RUN", "tracking=none", "checkpoint.enabled=false"]) as request:
        config = request.compose(request.overrides).config
    epochs = Epochs()
    trainer = build_trainer(config, build(config), recorder=epochs)
    step, steps = alone(config), trainer.task.steps_per_epoch
    before = [step(steps) for _ in range(REPEATS)]
    trainer.run()
    after = [step(steps) for _ in range(REPEATS)]
    evaluation = statistics.median(evaluated(trainer) for _ in range(REPEATS))
    run, once = statistics.median(epochs.seconds) / steps, statistics.median(before + after) / steps
    print(
        f"{config.model.name}: {1e3 * run:.3f} ms a step in a run (median of {len(epochs.seconds)} epochs of "
        f"{steps} steps), {1e3 * once:.3f} ms alone ({len(before + after)} repeats): {run / once:.3f} x; "
        f"evaluation {evaluation:.3f} s (median of {REPEATS})",
        flush=True,
    )


def evaluated(trainer: Trainer) -> float:
    """Seconds of the evaluation that ends an epoch."""
    started = time.perf_counter()
    trainer._validate()
    return time.perf_counter() - started


def alone(config: Config) -> Callable[[int], float]:
    """A function that takes the step of such a run so many times on one batch, and returns the seconds."""
    parts = build(config)
    trainer: Trainer = build_trainer(config, parts, recorder=Epochs())
    for network in parts.task.networks().values():
        network.train()
    batch = next(iter(parts.task.batches(0)))
    device = parts.device

    def timed(steps: int) -> float:
        if device.type == "cuda":
            torch.cuda.synchronize()
        started = time.perf_counter()
        for _ in range(steps):
            trainer.step(batch)
        if device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - started

    timed(WARM_UP)
    return timed


if __name__ == "__main__":
    main()
