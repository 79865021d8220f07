"""A run's side of the store: where it can start from, and what it leaves for others and for itself."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

from qp_runner.training.checkpoint import CheckpointError
from qp_runner.training.identity import Identity
from qp_runner.training.store import Store

log = logging.getLogger(__name__)

Content = dict[str, Any]


class Trunk:
    """What a run takes from the store and puts into it. Nothing that goes wrong here ends a run.

    States are kept before every event, at the steps `also` (where runs of a sweep part from this one) and every
    `every` steps; the last kind makes way for its next, and goes when the run has ended.
    """

    def __init__(
        self, store: Store, identity: Identity, *, every: int | None = None, also: frozenset[int] = frozenset()
    ) -> None:
        self.store, self.identity, self.every = store, identity, every
        self._lasting = {step for step in (*identity.events, *also) if step > 0}
        self._damaged: set[Path] = set()
        self._progress: Path | None = None
        self._silent = False

    def deepest(self) -> Content | None:
        """The state stored furthest along this run's own way, or None. Damaged files are named and passed over."""
        for step in self.store.steps(self.identity):
            path = self.store.path(self.identity, step)
            try:
                content = self.store.load(self.identity, step)
            except FileNotFoundError:  # made room for another since it was listed
                continue
            except (CheckpointError, OSError) as error:
                log.warning("the checkpoint %s is ignored, its part is computed again: %s", path, error)
                self._damaged.add(path)
            else:
                if self._is_progress(step):
                    self._progress = path
                return content
        return None

    def due(self, step: int) -> bool:
        """Whether the state before this step is to be kept."""
        return step in self._lasting or self._is_progress(step)

    def keep(self, step: int, content: Callable[[], Content]) -> None:
        """Stores a state unless it is there already; a disk or a limit that does not take it costs one warning."""
        path = self.store.path(self.identity, step)
        if path not in self._damaged and self.store.holds(path):
            self.store.used(path)
        elif not self._save(step, content):
            return
        self._damaged.discard(path)
        if self._is_progress(step):
            self._drop_progress()
            self._progress = path

    def finish(self) -> None:
        """The run has ended: what was kept for its own resumption alone goes."""
        self._drop_progress()

    def _save(self, step: int, content: Callable[[], Content]) -> bool:
        try:
            self.store.save(self.identity, step, content())
        except (CheckpointError, OSError) as error:
            if not self._silent:
                log.warning("the state at step %d is not kept, the run goes on without: %s", step, error)
            self._silent = True
            return False
        return True

    def _is_progress(self, step: int) -> bool:
        return self.every is not None and step > 0 and step % self.every == 0 and step not in self._lasting

    def _drop_progress(self) -> None:
        if self._progress is not None:
            self.store.remove(self._progress)
        self._progress = None
