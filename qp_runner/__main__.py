"""The command `qp-runner`, and `python -m qp_runner`."""

import sys

from qp_runner.lasting import lasting


def main() -> None:
    """Runs the command line and exits."""
    with lasting():
        from qp_runner.cli.main import main as run
    sys.exit(run())


if __name__ == "__main__":
    main()
