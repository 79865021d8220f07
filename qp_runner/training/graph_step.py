"""A training step captured as one CUDA graph, which a later job of the process may take over."""

import logging
import time
from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_map

from qp_runner.compress.plain import Written
from qp_runner.compress.python_state import differences
from qp_runner.errors import first_line
from qp_runner.training.compiled_step import CompiledStep
from qp_runner.training.fixed_values import Values, fixed_values
from qp_runner.training.held_tensors import Reads, held_tensors, optimizer_tensors, rates
from qp_runner.training.host_state import host_state
from qp_runner.training.optim import starts_at_zero
from qp_runner.training.shared_step import Captured, SharedStep
from qp_runner.training.undo import Undo

log = logging.getLogger(__name__)

WARM_UP = 3  # steps that PyTorch asks for before a capture; they are undone


class Graphs(Protocol):
    """What captures operations on a device to repeat them."""

    def warm_up(self, run: Callable[[], object]) -> None:
        """Runs operations as a capture will."""

    def capture(self, run: Callable[[], Tensor]) -> tuple[Callable[[], None], Tensor]:
        """A function that repeats these operations on the same memory, and what they return there."""


class CudaGraphs:
    """CUDA graphs."""

    def warm_up(self, run: Callable[[], object]) -> None:
        """Runs operations on a side stream."""
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            run()
        torch.cuda.current_stream().wait_stream(stream)

    def capture(self, run: Callable[[], Tensor]) -> tuple[Callable[[], None], Tensor]:
        """Captures operations, which do not run."""
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            result = run()
        return graph.replay, result


class GraphStep:
    """The compiled step captured as one CUDA graph: batch, forward, backward and optimizers, replayed with one launch.

    The first call captures the graph; the warm-up steps this takes are undone, so the run equals that of the other
    executors. Where an optimizer's state may start at other values than zero, the first step runs compiled and creates
    it, and the second call captures. A batch with other shapes runs compiled. So does every batch, after one warning,
    if capturing fails.

    Args:
        compiled: the step.
        shared: where an equal step of an earlier job may lie, which is then taken over (see `SharedStep`).
        graphs: how to capture.
    """

    def __init__(
        self,
        compiled: CompiledStep,
        *,
        shared: SharedStep | None = None,
        graphs: Graphs = CudaGraphs(),  # noqa: B008
    ) -> None:
        self.compiled, self.shared, self._graphs = compiled, shared, graphs
        self._captured: Captured | None = None
        self._failed = self._stepped = False
        self._seconds = 0.0

    @property
    def setup_seconds(self) -> float:
        """See `Step`."""
        return self._seconds + self.compiled.setup_seconds

    @property
    def captured(self) -> bool:
        """Whether steps replay a graph."""
        return self._captured is not None

    def __call__(self, batch: Any) -> Tensor:
        """Runs the step."""
        if self._captured is None and not self._failed and self._is_ready():
            self._set_up(batch)
        self._stepped = True
        captured = self._captured
        if captured is None or _shapes(batch) != _shapes(captured.inputs):
            return self.compiled(batch)
        for static, given in zip(tree_flatten(captured.inputs)[0], tree_flatten(batch)[0], strict=True):
            static.copy_(given)
        captured.replay()
        return captured.loss.clone()

    def hand_on(self) -> None:
        """Leaves the captured step to the next job; this one takes no further steps."""
        if self.shared is not None and self._captured is not None:
            self.shared.leave(self._captured)
        self._captured, self._failed = None, True

    def _is_ready(self) -> bool:
        """Whether the optimizers' states are there, or known without a step."""
        optimizers = self.compiled.eager.optimizers.values()
        return self._stepped or all(each.state or starts_at_zero(each) for each in optimizers)

    def _set_up(self, batch: Any) -> None:
        started = time.perf_counter()
        if self.shared is not None:
            self._captured = self.shared.take(
                self._tensors(),
                self.compiled.eager.optimizers,
                fixed=self._fixed(),
                fits=lambda inputs: _shapes(inputs) == _shapes(batch),
            )
        what = "took over a captured step" if self._captured is not None else "compiled and captured"
        if self._captured is None:
            self._capture(batch)
        self._seconds = time.perf_counter() - started
        log.info("%s in %.1f s", what, self.setup_seconds)

    def _tensors(self) -> dict[str, Tensor]:
        """What the job holds on the device, but for the optimizers' states."""
        eager = self.compiled.eager
        held = held_tensors({"task": eager.task, "compressor": self.compiled.compressor, "bank": eager.bank})
        return held | rates(eager.optimizers)

    def _fixed(self) -> Values:
        return fixed_values(self.compiled.eager.task, self.compiled.eager.optimizers)

    def _capture(self, batch: Any) -> None:
        eager = self.compiled.eager
        before = Undo(eager.task, eager.optimizers)
        inputs = tree_map(lambda value: value.clone(), batch)
        try:
            fixed, read = self._fixed(), self._read(inputs)
            with self.compiled.compiled():
                self._warm_up(inputs, WARM_UP - 1)
                held = self._check_state(inputs)
                replay, loss = self._graphs.capture(lambda: eager(inputs))
            kept = self.compiled.functions if read is not None else (held, self.compiled.functions)
            self._captured = Captured(replay, inputs, loss, read, optimizer_tensors(eager.optimizers), fixed, kept)
        except Exception as error:
            self._failed = True
            log.warning("this step can't be captured as a CUDA graph and runs compiled: %s", first_line(error))
        before.restore(allocated=self._captured is not None)
        if eager.device.type == "cuda":
            torch.cuda.synchronize()

    def _read(self, inputs: Any) -> dict[str, Tensor] | None:
        """What a step reads of that which the job holds; None if it reads anything else, or nobody wants to know."""
        if self.shared is None:
            return None
        try:
            with self.compiled.static(), Reads() as reads:
                self._warm_up(inputs, 1)
        except Exception as error:  # what can't be watched may still be captured
            log.info("other jobs can't take over this step: %s", first_line(error))
            return None
        known, states = self._tensors(), optimizer_tensors(self.compiled.eager.optimizers)
        if other := reads.beyond([*known.values(), *states.values(), *tree_flatten(inputs)[0]]):
            log.info("other jobs can't take over this step: it reads a tensor of shape %s", [*other[0].shape])
            return None
        # other tensors on the same memory: the job may move its own to another device once it has ended
        return {path: each.detach() for path, each in reads.among(known).items()}

    def _warm_up(self, inputs: Any, steps: int) -> None:
        """Steps that compile, choose kernels and allocate the optimizers' state."""

        def run() -> None:
            for _ in range(steps):
                self.compiled.eager(inputs)

        self._graphs.warm_up(run)
        for optimizer in self.compiled.eager.optimizers.values():
            optimizer.zero_grad(set_to_none=True)

    def _check_state(self, inputs: Any) -> object:
        """Raises RuntimeError if a step changes what replaying one would not, as only the device repeats it.

        Returns what keeps the tensors alive that the graph reads.
        """
        before = self._host_state()
        self._warm_up(inputs, 1)
        held = self._host_state()
        if changed := differences(before, held):
            raise RuntimeError(f"each step changes {changed[0]}, outside of the device's memory")
        return held

    def _host_state(self) -> dict[str, Written]:
        eager = self.compiled.eager
        return host_state(eager.task, eager.optimizers, self._tensors(), eager.device)


def _shapes(batch: Any) -> list[torch.Size]:
    return [value.shape for value in tree_flatten(batch)[0]]
