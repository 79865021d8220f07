"""A training step whose networks are compiled."""

import logging
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from qp_runner.compress import Compressor
from qp_runner.errors import ConfigError, first_line
from qp_runner.training.step import EagerStep
from qp_runner.training.undo import Undo

log = logging.getLogger(__name__)


class CompiledStep:
    """The eager step with every network's forward and backward pass compiled by torch.compile.

    Only training steps are compiled. Evaluation and calibration have other shapes and modes; they run eagerly, so they
    never cause a recompilation. What can't be compiled runs eagerly, after one warning.
    """

    def __init__(self, eager: EagerStep, *, compressor: Compressor | None) -> None:
        self.eager, self.compressor = eager, compressor
        self.functions: dict[int, Callable[..., Any]] = {}  # what compiles and runs the networks, by their ids
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
            log.warning("this step can't be compiled and runs eagerly: %s", first_line(error))
            return self.eager(batch)
        self.setup_seconds = time.perf_counter() - started
        log.info("compiled in %.1f s", self.setup_seconds)
        return loss

    @contextmanager
    def compiled(self) -> Iterator[None]:
        """A context in which networks call their compiled forward and sites read their state from buffers only."""
        networks = self.eager.task.networks().values()
        if not self.functions:
            self.functions = _compiled(networks)
        with self.static():
            for network in networks:
                network._compiled_call_impl = self.functions[id(network)]
            try:
                yield
                self._check_reached()
            finally:
                for network in networks:
                    network._compiled_call_impl = None

    @contextmanager
    def static(self) -> Iterator[None]:
        """A context in which sites read their state from buffers only."""
        if self.compressor is not None:
            self.compressor.static = True
        try:
            yield
        finally:
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


def _compiled(networks: Iterable[nn.Module]) -> dict[int, Callable[..., Any]]:
    """Functions that compile networks when they are first called, by the networks' ids."""
    # Jobs of a sweep share a process: without a reset, torch would silently stop compiling at the ninth network.
    # Networks compiled before come from its caches on disk, which have to include our autograd functions.
    torch._dynamo.reset()
    torch._functorch.config.autograd_cache_allow_custom_autograd_functions = True
    # torch 2.11 stops its idle compile workers after a minute and forks them anew for the next network. Its authors
    # know of hangs there, and one of our processes stood still at its second network; so the workers stay.
    torch._inductor.config.quiesce_async_compile_pool = False
    return {id(network): torch.compile(network._call_impl, dynamic=False) for network in networks}
