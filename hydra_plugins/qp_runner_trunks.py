"""Where Hydra looks for plugins: it takes sweepers from below `hydra_plugins` alone. The work is done in qp_runner."""

from typing import Any

from hydra.plugins.sweeper import Sweeper


class TrunkSweeper(Sweeper):
    """`hydra/sweeper=trunks`: see `qp_runner.sweep.sweeper.WaveSweeper`.

    Every Hydra program of an environment imports this file when it starts, so what is heavy is imported when needed.
    """

    def __init__(self, params: dict[str, str] | None = None) -> None:
        """`params` is what an experiment sweeps over; the sweeper reads it from the configuration."""

    def setup(self, *, config: Any, **arguments: Any) -> None:
        """Hydra's hook: chooses between a grid and a search."""
        from qp_runner.sweep.sweeper import WaveSweeper

        if config.get("search") is None:
            from qp_runner.sweep.grid import plan_grid as make_plan
        else:
            from qp_runner.search.plan import plan_search as make_plan
        self._sweeper = WaveSweeper(make_plan)
        self._sweeper.setup(config=config, **arguments)

    def sweep(self, arguments: list[str]) -> Any:
        """Runs the sweep."""
        return self._sweeper.sweep(arguments)
