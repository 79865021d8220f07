"""A real, small run: digits, the small CNN, a few epochs."""

import json
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from inspect import signature
from pathlib import Path
from pydoc import locate
from typing import Any
from unittest.mock import patch

import pandas as pd
import torch
import yaml
from safetensors.torch import load_file

from qp_runner.cli.main import main
from qp_runner.compress import Compressor, Settings, SiteSelection
from qp_runner.data import digits
from qp_runner.models import SmallCNN
from qp_runner.run.model_file import read_model_file
from qp_runner.schedule import Schedule
from qp_runner.tasks import ClassificationTask, Task
from qp_runner.training import LearningRate, Trainer, TrainerSettings, build_optimizers, seed_everything

SITES = SiteSelection(("*",), ("relu1", "relu2", "relu3", "fc"), ("conv1.weight", "relu1", "fc.weight", "fc"))
P = {"op": "prune", "to": 0.5, "start": "0.3dur", "end": "0.6dur", "steps": 3}
Q = {"op": "quantize", "to": 8, "start": "0.8dur"}
P_Q = {f"{each['op']}_{target}": each | {"target": target} for each in (P, Q) for target in ("weight", "activation")}


def classifiers() -> list[str]:
    """The models of conf/model that are classifiers: one network that takes `classes`."""
    found = []
    for path in sorted((Path(__file__).resolve().parents[1] / "conf" / "model").glob("*.yaml")):
        network = yaml.safe_load(path.read_text(encoding="utf-8"))["networks"].get("network", {})
        build: Any = locate(network.get("_target_", "")) if network else None
        if build is not None and "classes" in signature(build).parameters:
            found.append(path.stem)
    return found


class Records(list[tuple[int, dict[str, float]]]):
    """A recorder that keeps everything."""

    def metrics(self, values: Mapping[str, float], *, step: int) -> None:
        self.append((step, dict(values)))

    def series(self, name: str) -> list[tuple[int, float]]:
        return [(step, values[name]) for step, values in self if name in values]

    def untimed(self) -> list[tuple[int, dict[str, float]]]:
        """Everything but times."""
        return [(step, {k: v for k, v in values.items() if not k.startswith("time/")}) for step, values in self]


class Run:
    """A finished run and what it left."""

    def __init__(self, trainer: Trainer, task: ClassificationTask, records: Records) -> None:
        self.trainer, self.task, self.records = trainer, task, records
        self.compressor = trainer.compressor
        self.weights = {k: v.clone() for k, v in task.network.state_dict().items()}


def sgd(groups: Any, lr: float = 0.1) -> torch.optim.Optimizer:
    return torch.optim.SGD(groups, lr=lr, momentum=0.9, weight_decay=5e-4)


def make_trainer(
    events: dict[str, Any] | None,
    *,
    epochs: int = 4,
    seed: int = 0,
    learning_rate: LearningRate | None = None,
    make_optimizer: Callable[..., torch.optim.Optimizer] = sgd,
    **settings: Any,
) -> tuple[Trainer, ClassificationTask, Records]:
    """`events` None: no compressor at all."""
    device = settings.get("device", torch.device("cpu"))
    task = ClassificationTask(
        data=digits(), networks={"network": partial(SmallCNN, width=4)}, batch_size=128, seed=seed
    )
    task.to(device)
    seed_everything(seed)
    schedule = Schedule.from_config(events or {})
    stages = schedule.compile(total_steps=epochs * task.steps_per_epoch, steps_per_epoch=task.steps_per_epoch)
    compressor = None
    if events is not None:
        compressor = Compressor(task.compressible(), sites=SITES, settings=Settings())
        compressor.trace(lambda: task.infer(task.sample()))
    records = Records()
    trainer = Trainer(
        task=task,
        compressor=compressor,
        stages=stages,
        make_optimizer=make_optimizer,
        settings=TrainerSettings(epochs=epochs, **settings),
        recorder=records,
        learning_rate=learning_rate,
    )
    return trainer, task, records


def train(events: dict[str, Any] | None, **options: Any) -> Run:
    """A run of `make_trainer`, to its end."""
    trainer, task, records = make_trainer(events, **options)
    trainer.run()
    return Run(trainer, task, records)


def fit(task: Task, make_optimizer: Callable[..., torch.optim.Optimizer], *, epochs: int) -> None:
    """Trains a task's networks, without a compressor."""
    torch.manual_seed(0)
    optimizers = build_optimizers(task.parameter_groups(), make_optimizer)
    for epoch in range(epochs):
        for batch in task.batches(epoch):
            for name, loss in task.updates(batch):
                optimizers[name].zero_grad()
                loss.backward()
                optimizers[name].step()


def execute(arguments: Sequence[str]) -> int:
    """Runs a command line in this process; returns its exit code."""
    with patch.object(sys, "argv", ["qp-runner", *arguments]):
        return main()


def metrics(folder: Path) -> pd.DataFrame:
    """What a run recorded, times and what it computed itself left out."""
    table = pd.read_csv(folder / "metrics.csv", converters={"value": float})  # to the last bit, in any pandas
    return table[~table["name"].str.startswith("time/")][["step", "name", "value"]].reset_index(drop=True)


def same(one: Path, other: Path) -> None:
    """Asserts that two runs recorded the same and ended with the same weights, masks and scales, bit for bit."""
    pd.testing.assert_frame_equal(metrics(one), metrics(other), check_exact=True)
    mine, theirs = (load_file(folder / "model.safetensors") for folder in (one, other))
    assert mine.keys() == theirs.keys()
    assert all(torch.equal(mine[name], theirs[name]) for name in mine)
    bits = [read_model_file(folder, key="run").about.bits for folder in (one, other)]
    assert bits[0] == bits[1]


FORKED = """
import json, os, random, signal, sys, time
import torch._dynamo, matplotlib.figure, sklearn.datasets  # once, for all processes
from qp_runner.cli.main import main
from qp_runner.training.progress import Silent  # hears of every step, whatever executes it

def start(command, dies_at=None):
    pid = os.fork()
    if pid:
        return pid
    if dies_at is not None:
        left = [dies_at]
        def count(self, steps=1):
            left[0] -= 1
            if left[0] < 0:
                os.kill(os.getpid(), signal.SIGKILL)
        Silent.advance = count
    sys.argv = ["qp-runner", *command]
    os._exit(main())

def ended(pid):
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

command = json.loads(sys.argv[1])
"""


def forked(program: str, command: list[str]) -> subprocess.CompletedProcess[str]:
    """Runs a program that starts command lines in processes of their own, which begin with everything imported."""
    call = [sys.executable, "-c", FORKED + program, json.dumps(command)]
    return subprocess.run(call, capture_output=True, text=True, timeout=300)
