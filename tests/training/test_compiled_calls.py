"""Sites at functions' calls in a compiled step: one compilation for all stages, and eager steps where that fails."""

import logging
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._dynamo.utils import counters
from torch.nn import functional as F

from qp_runner.compress import Compressor, Settings, SiteSelection
from qp_runner.data import digits
from qp_runner.schedule import Op, Stage, Target, TargetState
from qp_runner.tasks import ClassificationTask
from qp_runner.training.executors import make_step

EVERYTHING = frozenset((op, target) for op in Op for target in Target)


class Functional(nn.Module):
    """One ReLU called twice, an addition, a function given from outside."""

    def __init__(self, in_channels: int, classes: int, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.a, self.b, self.relu = nn.Conv2d(in_channels, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1), nn.ReLU()
        self.head, self.function = nn.Linear(4, classes), function

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.a(x))
        x = self.relu(self.b(x) + x)
        return self.head(self.function(x).mean((2, 3)))


def made(function: Callable[[Tensor], Tensor]) -> tuple[ClassificationTask, Compressor]:
    network = partial(Functional, function=function)
    task = ClassificationTask(data=digits(), networks={"network": network}, batch_size=64, seed=0)
    compressor = Compressor(
        task.compressible(),
        sites=SiteSelection(None, None, None),
        settings=Settings(),
        run=lambda: task.infer(task.sample()),
    )
    compressor.trace(lambda: task.infer(task.sample()))
    return task, compressor


def losses(executor: str, function: Callable[[Tensor], Tensor] = F.silu) -> list[float]:
    """Of two steps before and two after an event in which everything fires."""
    torch.manual_seed(0)
    task, compressor = made(function)
    optimizer = torch.optim.SGD(task.network.parameters(), lr=0.1, momentum=0.9)
    step = make_step(
        executor,  # type: ignore[arg-type]
        task,
        {"network": optimizer},
        compressor=compressor,
        precision="float32",
        device=torch.device("cpu"),
    )
    batches, found = list(task.batches(0)), []
    state = TargetState(0.5, 8)
    for number, batch in enumerate(batches[:4]):
        if number == 2:
            compressor.enter(
                Stage(2, 3, state, state, EVERYTHING), run=lambda: [task.infer(each) for each in batches[:2]] and None
            )
        found.append(step(batch).item())
    return found


def test_a_compiled_step_reaches_every_call_and_is_compiled_once() -> None:
    eager = losses("eager")
    counters.clear()
    assert losses("compile") == pytest.approx(eager, rel=1e-5)
    assert counters["stats"]["unique_graphs"] == 1
    assert not counters["graph_break"]


def test_a_step_whose_compilation_passes_a_site_by_runs_eagerly_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    _, compressor = made(F.hardswish)
    assert "hardswish" in {site.path for site in compressor.sites(Target.ACTIVATION)}
    eager = losses("eager", F.hardswish)
    with caplog.at_level(logging.WARNING):
        assert losses("compile", F.hardswish) == eager
    [line] = caplog.messages
    assert line.startswith("this step can't be compiled and runs eagerly: compiling passes by the sites hardswish ")


def test_without_a_compiler_a_step_runs_eagerly_and_says_so_in_one_line(caplog: pytest.LogCaptureFixture) -> None:
    absent: dict[str, Any] = {"cpp.cxx": ("no_such_compiler",), "force_disable_caches": True}
    with torch._inductor.config.patch(absent), caplog.at_level(logging.WARNING):
        compiled = losses("compile")
    assert compiled == losses("eager")
    [line] = [each.message for each in caplog.records if each.levelno >= logging.WARNING and "qp_runner" in each.name]
    assert line.startswith("this step can't be compiled and runs eagerly: ")
    assert "\n" not in line
