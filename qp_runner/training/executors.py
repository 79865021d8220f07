"""Three ways to run a training step: eager, compiled, and captured as one CUDA graph.

Events change masks, scales, ranges and flags in place, so what is compiled or captured once serves every stage.
"""

import logging
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Literal

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.utils._pytree import tree_flatten, tree_map

from qp_runner.compress import Compressor
from qp_runner.tasks import Task
from qp_runner.training.state import restore, snapshot
from qp_runner.training.step import EagerStep, Precision, Step

log = logging.getLogger(__name__)

Kind = Literal["auto", "eager", "compile", "graph"]
WARM_UP = 3  # steps before a capture, as CUDA graphs need; they are undone


def make_step(
    kind: Kind,
    task: Task,
    optimizers: Mapping[str, Optimizer],
    *,
    compressor: Compressor | None,
    precision: Precision,
    device: torch.device,
) -> Step:
    """The step of an executor. `auto` is `graph` on CUDA for tasks with fixed shapes and `eager` elsewhere.

    `graph` needs CUDA (ValueError).
    """
    if kind == "auto":
        kind = "graph" if device.type == "cuda" and task.fixed_shapes else "eager"
    if kind == "graph" and device.type != "cuda":
        raise ValueError("graph captures CUDA graphs and needs a CUDA device; allowed here: auto, eager, compile")
    if compressor is not None:
        compressor.static = kind != "eager"
    if kind == "graph":
        for optimizer in optimizers.values():
            make_capturable(optimizer, device)
    eager = EagerStep(task, optimizers, precision=precision, device=device)
    if kind == "eager":
        return eager
    compiled = CompiledStep(eager)
    return compiled if kind == "compile" else GraphStep(compiled, compressor=compressor)


def make_capturable(optimizer: Optimizer, device: torch.device) -> None:
    """Has an optimizer keep its learning rate on the device, where a captured step sees it change."""
    for group in optimizer.param_groups:
        if "fused" in group:
            group["fused"], group["foreach"] = True, False
        if "capturable" in group:
            group["capturable"] = True
        if not isinstance(group["lr"], Tensor):
            group["lr"] = torch.tensor(float(group["lr"]), device=device)


class CompiledStep:
    """The eager step with every network's forward (and so its backward) compiled by torch.compile.

    Networks are compiled for training steps alone: evaluation and calibration, with their own shapes and modes, run
    eagerly and cause no recompilation.
    """

    def __init__(self, eager: EagerStep) -> None:
        self.eager = eager
        self._compiled = {id(n): torch.compile(n._call_impl, dynamic=False) for n in eager.task.networks().values()}
        self._first = True

    def __call__(self, batch: Any) -> Tensor:
        """Does the step; the first one compiles."""
        started = time.perf_counter()
        with self.compiled():
            loss = self.eager(batch)
        if self._first:
            self._first = False
            log.info("compiled in %.1f s", time.perf_counter() - started)
        return loss

    @contextmanager
    def compiled(self) -> Iterator[None]:
        """Networks call their compiled forward within."""
        networks = self.eager.task.networks().values()
        for network in networks:
            network._compiled_call_impl = self._compiled[id(network)]
        try:
            yield
        finally:
            for network in networks:
                network._compiled_call_impl = None


class GraphStep:
    """The compiled step captured as one CUDA graph: forward, backward and optimizers, replayed with one launch.

    The first call captures. Warm-up steps that a capture needs are undone, so the run is the one of the other
    executors. A batch of other shapes than the captured ones runs compiled; a step that can't be captured runs
    compiled from then on, and says so once.
    """

    def __init__(self, compiled: CompiledStep, *, compressor: Compressor | None) -> None:
        self.compiled, self.compressor = compiled, compressor
        self._graph: torch.cuda.CUDAGraph | None = None
        self._inputs: Any = None
        self._loss: Tensor | None = None
        self._failed = False
        self.setup_seconds = 0.0

    @property
    def captured(self) -> bool:
        """Whether steps are replays of a graph."""
        return self._graph is not None

    def __call__(self, batch: Any) -> Tensor:
        """Does the step."""
        if self._graph is None and not self._failed:
            self._capture(batch)
        if self._graph is None or self._loss is None or _shapes(batch) != _shapes(self._inputs):
            return self.compiled(batch)
        for static, given in zip(tree_flatten(self._inputs)[0], tree_flatten(batch)[0], strict=True):
            static.copy_(given)
        self._graph.replay()
        return self._loss.clone()

    def _capture(self, batch: Any) -> None:
        started = time.perf_counter()
        eager = self.compiled.eager
        before = snapshot(eager.task.networks(), eager.optimizers)
        task_state = tree_map(_copy, eager.task.state_dict())
        self._inputs = tree_map(lambda value: value.clone(), batch)
        try:
            with self.compiled.compiled():
                self._warm_up()
                graph = torch.cuda.CUDAGraph()
                with torch.cuda.graph(graph):
                    self._loss = eager(self._inputs)
            self._graph = graph
        except Exception as error:
            self._failed = True
            log.warning("this step can't be captured as a CUDA graph and runs compiled: %s", error)
        restore(before, eager.task.networks(), eager.optimizers)
        eager.task.load_state_dict(task_state)
        torch.cuda.synchronize()
        self.setup_seconds = time.perf_counter() - started
        log.info("compiled and captured in %.1f s", self.setup_seconds)

    def _warm_up(self) -> None:
        """Steps on a side stream: they compile, choose kernels and allocate what the optimizers keep."""
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(WARM_UP):
                self.compiled.eager(self._inputs)
        torch.cuda.current_stream().wait_stream(stream)
        for optimizer in self.compiled.eager.optimizers.values():
            optimizer.zero_grad(set_to_none=True)


def _shapes(batch: Any) -> list[torch.Size]:
    return [value.shape for value in tree_flatten(batch)[0]]


def _copy(value: Any) -> Any:
    return value.clone() if isinstance(value, Tensor) else value
