"""Signals that ask a command to end."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

ENDING = ("SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2")
"""From whoever stops a process, from a terminal that closes, from Slurm's `--signal` before a job's time is over."""


@contextmanager
def ending_as_interrupt() -> Iterator[None]:
    """Within, the first signal that asks to end raises KeyboardInterrupt as Ctrl-C does, so that the end is recorded.

    Others that follow are ignored, since they would cut off the records. Left alone are signals that somebody else
    handles, such as submitit, which requeues the job, and those that are ignored, as HUP is with `nohup`. Only the main
    thread of a process can do this; elsewhere nothing changes.
    """
    names = ENDING if threading.current_thread() is threading.main_thread() else ()
    known = [getattr(signal, name) for name in names if hasattr(signal, name)]
    ours = [number for number in known if signal.getsignal(number) is signal.SIG_DFL]

    def interrupt(_signum: int, _frame: object) -> None:
        for number in ours:
            signal.signal(number, signal.SIG_IGN)
        raise KeyboardInterrupt

    try:
        for number in ours:
            signal.signal(number, interrupt)
        yield
    finally:
        for number in ours:
            signal.signal(number, signal.SIG_DFL)
