"""The command `qp-runner`, and `python -m qp_runner`."""

import sys
from collections.abc import Sequence
from contextlib import nullcontext

from qp_runner.lasting import lasting

NO_STORE = {"plan", "tracking=none", "-h", "--help", "--hydra-help", "-c", "--cfg", "-i", "--info", "-sc"}
"""Arguments of a command line that needs no MLflow store."""


def main() -> None:
    """Runs the command line and exits."""
    from qp_runner.tracking.beside import started

    with started() if wants_store(sys.argv[1:]) else nullcontext():
        with lasting():
            from qp_runner.cli.main import main as run
        run()


def wants_store(arguments: Sequence[str]) -> bool:
    """Whether it is worth starting a process for MLflow at once, while the configuration is not known yet.

    A wrong answer costs time alone.
    """
    return not any(each in NO_STORE or each.startswith("--shell") for each in arguments)


if __name__ == "__main__":
    main()
