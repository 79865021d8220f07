"""Importing large libraries without the garbage collector walking through them again and again."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def lasting() -> Iterator[None]:
    """Within, nothing is collected; what there is at its end, modules above all, is exempt from collection for good.

    PyTorch and MLflow make half a million objects that stay. Unfrozen, they cost the imports a third of their time, and
    every later full collection a quarter of a second.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if was_on:
            gc.enable()
