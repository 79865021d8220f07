from qp_runner.cli.main import main

__all__ = ["main"]
