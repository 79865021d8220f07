"""Three ways to execute a training step: eager, compiled, and captured as one CUDA graph.

Events change masks, scales, ranges and flags in place, so one compiled or captured step serves all stages.
"""

import logging
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils._pytree import tree_flatten, tree_map

from qp_runner.compress import Compressor
from qp_runner.compress.python_state import differences, structure
from qp_runner.errors import ConfigError
from qp_runner.tasks import Task
from qp_runner.training.attribute_state import caches, state_roots
from qp_runner.training.step import PLAIN, EagerStep, Precision, Step, StepOptions
from qp_runner.training.undo import Undo

log = logging.getLogger(__name__)

Executor = Literal["auto", "eager", "compile", "graph"]
WARM_UP = 3  # steps that PyTorch asks for before a capture; they are undone


def make_step(
    executor: Executor,
    task: Task,
    optimizers: Mapping[str, Optimizer],
    *,
    compressor: Compressor | None,
    precision: Precision,
    device: torch.device,
    options: StepOptions = PLAIN,
) -> Step:
    """The step that an executor runs (see `resolve_executor`). Raises ValueError for `graph` without CUDA."""
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
    return compiled if executor == "compile" else GraphStep(compiled)


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


class CompiledStep:
    """The eager step with every network's forward and backward pass compiled by torch.compile.

    Only training steps are compiled. Evaluation and calibration have other shapes and modes; they run eagerly, so they
    never cause a recompilation. What can't be compiled runs eagerly, after one warning.
    """

    def __init__(self, eager: EagerStep, *, compressor: Compressor | None) -> None:
        self.eager, self.compressor = eager, compressor
        # Jobs of a sweep share a process: without a reset, torch would silently stop compiling at the ninth network.
        # Networks compiled before come from its caches on disk, which have to include our autograd functions.
        torch._dynamo.reset()
        torch._functorch.config.autograd_cache_allow_custom_autograd_functions = True
        self._compiled = {id(n): torch.compile(n._call_impl, dynamic=False) for n in eager.task.networks().values()}
        self.setup_seconds = 0.0
        self._checked = self._given_up = False

    def __call__(self, batch: Any) -> Tensor:
        """Runs the step; the first one compiles."""
        if self._given_up:
            return self.eager(batch)
        if not self.setup_seconds:
            return self._first(batch)
        with self.compiled():
            return self.eager(batch)

    def _first(self, batch: Any) -> Tensor:
        """Compiles; if that fails, undoes what was done of the step, which runs eagerly from then on."""
        started, before = time.perf_counter(), Undo(self.eager.task, self.eager.optimizers)
        try:
            with self.compiled():
                loss = self.eager(batch)
        except ConfigError:
            raise
        except Exception as error:
            before.restore()
            self._given_up, self.eager.bank = True, None
            log.warning("this step can't be compiled and runs eagerly: %s", _line(error))
            return self.eager(batch)
        self.setup_seconds = time.perf_counter() - started
        log.info("compiled in %.1f s", self.setup_seconds)
        return loss

    @contextmanager
    def compiled(self) -> Iterator[None]:
        """A context in which networks call their compiled forward and sites read their state from buffers only."""
        networks = self.eager.task.networks().values()
        if self.compressor is not None:
            self.compressor.static = True
        for network in networks:
            network._compiled_call_impl = self._compiled[id(network)]
        try:
            yield
            self._check_reached()
        finally:
            for network in networks:
                network._compiled_call_impl = None
            if self.compressor is not None:
                self.compressor.static = False

    def _check_reached(self) -> None:
        """Raises RuntimeError for sites that the compiled step passes by: a few functions (`F.hardswish`, `F.pad`) are
        rewritten by torch 2.11 before a mode sees them.
        """
        missed = [] if self._checked or self.compressor is None else self.compressor.unreached()
        if missed:
            sites = ", ".join(missed[:5])
            raise RuntimeError(f"compiling passes by the sites {sites} (model.sites.exclude leaves them out)")
        self._checked = True


class GraphStep:
    """The compiled step captured as one CUDA graph: forward, backward and optimizers, replayed with one launch.

    The first call captures the graph; the warm-up steps this takes are undone, so the run equals that of the other
    executors. A batch with other shapes runs compiled. So does every batch, after one warning, if capturing fails.
    """

    def __init__(self, compiled: CompiledStep) -> None:
        self.compiled = compiled
        self._graph: torch.cuda.CUDAGraph | None = None
        self._inputs: Any = None
        self._loss: Tensor | None = None
        self._failed = False
        self._held: Any = None
        self.setup_seconds = 0.0

    @property
    def captured(self) -> bool:
        """Whether steps replay a graph."""
        return self._graph is not None

    def __call__(self, batch: Any) -> Tensor:
        """Runs the step."""
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
        before = Undo(eager.task, eager.optimizers)
        self._inputs = tree_map(lambda value: value.clone(), batch)
        try:
            with self.compiled.compiled():
                self._warm_up()
                self._check_state()
                graph = torch.cuda.CUDAGraph()
                with torch.cuda.graph(graph):
                    self._loss = eager(self._inputs)
            self._graph = graph
        except Exception as error:
            self._failed = True
            log.warning("this step can't be captured as a CUDA graph and runs compiled: %s", _line(error))
        before.restore()
        torch.cuda.synchronize()
        self.setup_seconds = time.perf_counter() - started
        log.info("compiled and captured in %.1f s", self.setup_seconds)

    def _warm_up(self, steps: int = WARM_UP - 1) -> None:
        """Steps on a side stream, which compile, choose kernels and allocate the optimizers' state."""
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(steps):
                self.compiled.eager(self._inputs)
        torch.cuda.current_stream().wait_stream(stream)
        for optimizer in self.compiled.eager.optimizers.values():
            optimizer.zero_grad(set_to_none=True)

    def _check_state(self) -> None:
        """Raises RuntimeError if a step changes attributes: replaying one would not, as only the device repeats it."""
        task = self.compiled.eager.task
        before = structure(state_roots(task), apart=caches(task))
        self._warm_up(1)
        self._held = structure(state_roots(task), apart=caches(task))  # keeps tensors alive that the graph reads
        if changed := differences(before, self._held):
            raise RuntimeError(f"each step changes {changed[0]}, outside of the device's memory")


def _shapes(batch: Any) -> list[torch.Size]:
    return [value.shape for value in tree_flatten(batch)[0]]


def _line(error: Exception) -> str:
    """The first line of an error's message."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
