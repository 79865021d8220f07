"""Warnings that are given once."""

import logging
from functools import cache


@cache
def warn_once(log: logging.Logger, text: str) -> None:
    """Logs a warning once per process: the jobs of a sweep have it in common."""
    log.warning(text)
