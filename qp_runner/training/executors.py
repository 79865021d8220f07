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
    """The step of an executor. `graph` needs CUDA (ValueError); see `chosen` for `auto`."""
    asked, kind = kind, chosen(kind, task, device)
    if kind == "eager" and asked in ("compile", "graph"):
        log.warning("trainer.executor=%s: this task's shapes change from step to step, so it runs eagerly", asked)
    if kind == "eager":
        return EagerStep(task, optimizers, precision=precision, device=device)
    if kind == "graph":
        for optimizer in optimizers.values():
            make_capturable(optimizer, device)
    bank = compressor.bank() if compressor is not None else None
    compiled = CompiledStep(
        EagerStep(task, optimizers, precision=precision, device=device, bank=bank), compressor=compressor
    )
    return compiled if kind == "compile" else GraphStep(compiled)


def chosen(kind: Kind, task: Task, device: torch.device) -> Kind:
    """The executor that runs: `auto` is `graph` on CUDA, `eager` elsewhere and for tasks whose shapes change; these run
    eagerly whatever was asked for. Raises ValueError for `graph` without CUDA.
    """
    if kind == "graph" and device.type != "cuda":
        raise ValueError("graph captures CUDA graphs and needs a CUDA device; allowed here: auto, eager, compile")
    if not task.fixed_shapes:
        return "eager"
    if kind == "auto":
        return "graph" if device.type == "cuda" else "eager"
    return kind


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
    eagerly, on the sites' own fast path, and cause no recompilation.
    """

    def __init__(self, eager: EagerStep, *, compressor: Compressor | None) -> None:
        self.eager, self.compressor = eager, compressor
        # Jobs of a sweep share a process: without a reset the ninth network would silently run uncompiled. What was
        # compiled for the same network comes back from the caches on disk, our own autograd functions included.
        torch._dynamo.reset()
        torch._functorch.config.autograd_cache_allow_custom_autograd_functions = True
        self._compiled = {id(n): torch.compile(n._call_impl, dynamic=False) for n in eager.task.networks().values()}
        self.setup_seconds = 0.0

    def __call__(self, batch: Any) -> Tensor:
        """Does the step; the first one compiles."""
        started = time.perf_counter()
        with self.compiled():
            loss = self.eager(batch)
        if not self.setup_seconds:
            self.setup_seconds = time.perf_counter() - started
            log.info("compiled in %.1f s", self.setup_seconds)
        return loss

    @contextmanager
    def compiled(self) -> Iterator[None]:
        """Within, networks call their compiled forward, and sites read their state from buffers alone."""
        networks = self.eager.task.networks().values()
        if self.compressor is not None:
            self.compressor.static = True
        for network in networks:
            network._compiled_call_impl = self._compiled[id(network)]
        try:
            yield
        finally:
            for network in networks:
                network._compiled_call_impl = None
            if self.compressor is not None:
                self.compressor.static = False


class GraphStep:
    """The compiled step captured as one CUDA graph: forward, backward and optimizers, replayed with one launch.

    The first call captures. Warm-up steps that a capture needs are undone, so the run is the one of the other
    executors. A batch of other shapes than the captured ones runs compiled; a step that can't be captured runs
    compiled from then on, and says so once.
    """

    def __init__(self, compiled: CompiledStep) -> None:
        self.compiled = compiled
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
