"""Runs that share training compile the same code: other code rounds otherwise, even where it computes the same."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from qp_runner.config.compose import jobs
from qp_runner.run.build import build, build_trainer
from qp_runner.run.identity import identity
from qp_runner.training import seed_everything
from support import Records

RUN = ["trainer.epochs=1", "trainer.batch_size=512", "trainer.device=cpu", "trainer.executor=compile"]


def root_and_code(*overrides: str) -> tuple[str, list[object]]:
    """What decides whether a run shares its first steps, and the graphs that torch compiles for it."""
    [job], _ = jobs([*RUN, *overrides], multirun=False)
    parts = build(job.config)
    own = identity(job.config, stages=parts.stages, steps_per_epoch=parts.task.steps_per_epoch, parts=parts)
    seed_everything(job.config.seed)
    compiled, plain = list[object](), torch.compile

    def keep(graph: Any, inputs: list[Any]) -> Callable[..., Any]:
        known = [(each.shape, each.stride(), each.dtype) if isinstance(each, Tensor) else each for each in inputs]
        compiled.append((graph.code, known))
        return graph.forward

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "compile", lambda function, **options: plain(function, backend=keep, **options))
        build_trainer(job.config, parts, recorder=Records()).run()
    assert compiled
    return own.root, compiled


@pytest.fixture(scope="module")
def first() -> tuple[str, list[object]]:
    return root_and_code("schedule=float")


@pytest.mark.parametrize(
    "changes",
    [
        ["schedule=p_q_wf"],
        ["schedule=q_p_w"],
        ["schedule=p_q_wf", "schedule.events.prune_weight.to=0.9", "schedule.events.quantize_weight.to=4"],
        ["schedule=q_wf", "compress.scale=float", "compress.quantiles=[0.001,0.999]"],
        ["schedule=p_w", "compress.calibration.samples=100", "compress.footprint=stored", "trainer.save_model=false"],
    ],
)
def test_runs_that_share_training_compile_the_same_code(first: tuple[str, list[object]], changes: list[str]) -> None:
    assert root_and_code(*changes) == first


def test_runs_with_masks_of_other_shapes_compile_other_code_and_share_nothing(first: tuple[str, list[object]]) -> None:
    root, code = root_and_code("schedule=float", "compress.granularity=channel")
    assert root != first[0]
    assert code != first[1]
