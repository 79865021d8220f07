"""Which way a training step is executed: eager, compiled, or captured as one CUDA graph.

Events change masks, scales, ranges and flags in place, so one compiled or captured step serves all stages.
"""

import logging
from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from qp_runner.compress import Compressor
from qp_runner.tasks import Task
from qp_runner.training.compiled_step import CompiledStep
from qp_runner.training.graph_step import GraphStep
from qp_runner.training.shared_step import SharedStep
from qp_runner.training.step import PLAIN, EagerStep, Precision, Step, StepOptions

log = logging.getLogger(__name__)

Executor = Literal["auto", "eager", "compile", "graph"]


def make_step(
    executor: Executor,
    task: Task,
    optimizers: Mapping[str, Optimizer],
    *,
    compressor: Compressor | None,
    precision: Precision,
    device: torch.device,
    options: StepOptions = PLAIN,
    shared: SharedStep | None = None,
) -> Step:
    """The step that an executor runs (see `resolve_executor`). Raises ValueError for `graph` without CUDA.

    `shared` is where a captured step of an earlier job may lie; see `GraphStep`.
    """
    asked, executor = executor, resolve_executor(executor, task, device)
    if executor == "eager":
        if asked in ("compile", "graph"):
            log.warning("trainer.executor=%s: %s, so it runs eagerly", asked, _only_eager(task))
        return EagerStep(task, optimizers, precision=precision, device=device, options=options)
    if executor == "graph":
        for optimizer in optimizers.values():
            make_capturable(optimizer, device)
    bank = compressor.bank() if compressor is not None else None
    compiled = CompiledStep(
        EagerStep(task, optimizers, precision=precision, device=device, bank=bank, options=options),
        compressor=compressor,
    )
    return compiled if executor == "compile" else GraphStep(compiled, shared=shared)


def resolve_executor(executor: Executor, task: Task, device: torch.device) -> Executor:
    """The executor that will run: `auto` becomes `graph` on CUDA and `eager` elsewhere.

    Some tasks always run eagerly (see `_only_eager`). Raises ValueError for `graph` without CUDA.
    """
    if executor == "graph" and device.type != "cuda":
        raise ValueError("graph captures CUDA graphs and needs a CUDA device; allowed here: auto, eager, compile")
    if _only_eager(task):
        return "eager"
    if executor == "auto":
        return "graph" if device.type == "cuda" else "eager"
    return executor


def _only_eager(task: Task) -> str:
    """Why a task can be neither compiled nor captured; empty if it can."""
    if not task.fixed_shapes:
        return "this task's shapes change from step to step"
    modules = (module for network in task.networks().values() for module in network.modules())
    if any(isinstance(module, nn.RNNBase) for module in modules):
        return "torch does not compile recurrent layers, and captured ones wait for the device"
    return ""


def make_capturable(optimizer: Optimizer, device: torch.device) -> None:
    """Moves an optimizer's learning rate to the device, where a captured step sees it change."""
    for group in optimizer.param_groups:
        if "fused" in group:
            group["fused"], group["foreach"] = True, False
        if "capturable" in group:
            group["capturable"] = True
        if not isinstance(group["lr"], Tensor):
            group["lr"] = torch.tensor(float(group["lr"]), device=device)
