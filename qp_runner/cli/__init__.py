"""The command line, from overrides to runs. Its entry point is `qp_runner.__main__`, which imports it with care."""
