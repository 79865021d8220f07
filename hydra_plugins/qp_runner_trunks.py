"""Where Hydra looks for plugins: it takes sweepers from below `hydra_plugins` alone. The work is done in qp_runner."""

from typing import Any

from hydra.plugins.sweeper import Sweeper


class TrunkSweeper(Sweeper):
    """`hydra/sweeper=trunks`; see `qp_runner.sweep.sweeper.WaveSweeper`.

    Every Hydra program of an environment imports this file when it starts: what is heavy is imported when needed.
    """

    def __init__(self, **arguments: Any) -> None:
        from qp_runner.sweep.sweeper import WaveSweeper

        self._sweeper = WaveSweeper(**arguments)

    def setup(self, **arguments: Any) -> None:
        """Hydra's hook."""
        self._sweeper.setup(**arguments)

    def sweep(self, arguments: list[str]) -> Any:
        """Runs the sweep."""
        return self._sweeper.sweep(arguments)
