"""A process beside the one that trains, where MLflow lives and pictures are drawn.

Importing MLflow and making a store take seconds, and writing to it takes time from the one interpreter that prepares
the next training step. Beside it all that happens on another core, and what goes wrong there can't hurt a run. The
command line starts such a process. Where there is none (in a launcher's workers, in other programs) all happens here.
"""

import contextlib
import logging
import os
import pickle
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import wraps
from typing import Any, BinaryIO, ParamSpec, TypeVar, cast

log = logging.getLogger(__name__)

P = ParamSpec("P")
Result = TypeVar("Result")


class EndedError(RuntimeError):
    """The process beside this one is gone, or out of step."""


@dataclass(frozen=True)
class Request:
    """A function to call there (one that can be pickled), and who asked: `argv` is what records call the command."""

    number: int
    function: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    answer: bool
    argv: list[str]


class Beside:
    """Calls functions in a process of its own, one after another, in the order in which they were asked for.

    The process has a session of its own, so that Ctrl-C reaches the run alone. It ends when this one closes it or dies,
    after having done what it was asked for until then.
    """

    def __init__(self) -> None:
        start = f"import sys; sys.path[:] = {sys.path!r}; from qp_runner.tracking.beside import serve; serve()"
        self._process = subprocess.Popen(
            [sys.executable, "-c", start], stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
        )
        self._owner, self._answers, self._told = os.getpid(), True, False
        self._requests, self._asking = 0, threading.Lock()
        self._outbox: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._writer = threading.Thread(target=self._write, name="qp-runner-beside", daemon=True)
        self._writer.start()

    @property
    def alive(self) -> bool:
        """Whether the process answers, and is this one's: a fork of this process has to do without."""
        return self._answers and os.getpid() == self._owner and self._process.poll() is None

    def send(self, function: Callable[P, object], *args: P.args, **kwargs: P.kwargs) -> None:
        """Has a function called some time soon, and does not wait. What it raises is a warning."""
        self._put(function, args, kwargs, answer=False)

    def ask(self, function: Callable[P, Result], *args: P.args, **kwargs: P.kwargs) -> Result:
        """Calls a function after all that was asked for before. Raises what it raises, and EndedError."""
        with self._asking:
            number = self._put(function, args, kwargs, answer=True)
            while True:
                try:
                    answered, result, error = pickle.load(cast(BinaryIO, self._process.stdout))
                except (EOFError, OSError, pickle.UnpicklingError) as gone:
                    self._answers = False
                    raise EndedError("the process beside this one does not answer any more") from gone
                if answered == number:  # answers to questions that Ctrl-C cut off are passed over
                    break
        if error is not None:
            raise error
        return cast(Result, result)

    def close(self) -> None:
        """Waits until everything is done; ends the process at once where nothing was asked for."""
        if not self._requests:
            self._process.kill()
        self._outbox.put(None)
        self._writer.join()
        if self._process.wait() and self._requests:
            self._say_that_it_ended()
        cast(BinaryIO, self._process.stdout).close()

    def _put(
        self, function: Callable[..., object], args: tuple[Any, ...], kwargs: dict[str, Any], *, answer: bool
    ) -> int:
        self._requests += 1
        request = Request(self._requests, function, args, kwargs, answer, list(sys.argv))
        self._outbox.put(pickle.dumps(request))
        return request.number

    def _write(self) -> None:
        """Hands requests on; a pipe takes no more than it can hold, and nobody is to wait for that."""
        pipe = cast(BinaryIO, self._process.stdin)
        while (data := self._outbox.get()) is not None:
            try:
                pipe.write(data)
                pipe.flush()
            except OSError:
                self._say_that_it_ended()
        with contextlib.suppress(OSError):
            pipe.close()

    def _say_that_it_ended(self) -> None:
        if not self._told:
            log.warning("the process beside this one has ended: MLflow lacks the rest, the run's files have it")
        self._told = True


_current: Beside | None = None


@contextlib.contextmanager
def started() -> Iterator[Beside]:
    """Within, this process has one beside it for MLflow; at the end, all that was asked for is done."""
    global _current
    helper = _current = Beside()
    try:
        yield helper
    finally:
        _current = None
        with contextlib.suppress(KeyboardInterrupt):  # nobody has to wait for it: it ends by itself
            helper.close()


def current() -> Beside | None:
    """The process beside this one, if there is one."""
    return _current if _current is not None and _current.alive else None


def where_mlflow_is(function: Callable[P, Result]) -> Callable[P, Result]:
    """The function, called beside if there is a process to do so, else here. Either way its result is waited for."""

    @wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> Result:
        helper = current()
        if helper is not None:
            with contextlib.suppress(EndedError):
                return helper.ask(function, *args, **kwargs)
        return function(*args, **kwargs)

    return call


def later(function: Callable[P, object], *args: P.args, **kwargs: P.kwargs) -> None:
    """Calls the function beside if there is a process to do so, some time soon; else here and now."""
    helper = current()
    if helper is None:
        function(*args, **kwargs)
    else:
        helper.send(function, *args, **kwargs)


def serve() -> None:
    """The other side: imports MLflow, then does what it is asked for until nobody can ask any more."""
    for number in (signal.SIGINT, signal.SIGTERM):  # the run is told, and says here how it ended
        signal.signal(number, signal.SIG_IGN)
    requests, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")  # other processes don't inherit these
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(2, 1)  # what libraries print is no answer
    from qp_runner.tracking.client import warm_up

    warm_up()
    with contextlib.suppress(EOFError, pickle.UnpicklingError):  # the last one may be cut off where the run was killed
        while True:
            _answer(pickle.load(requests), answers)
    from qp_runner.tracking.mlflow_beside import flush_all

    flush_all()


def _answer(request: Request, answers: BinaryIO) -> None:
    sys.argv = request.argv
    result, error = None, None
    try:
        result = request.function(*request.args, **request.kwargs)
    except Exception as raised:
        error = raised
    if request.answer:
        answers.write(_pickled(request.number, result, error))
        answers.flush()
    elif error is not None:
        log.warning("%s beside the run: %s: %s", request.function.__name__, type(error).__name__, error)


def _pickled(number: int, result: object, error: Exception | None) -> bytes:
    try:
        data = pickle.dumps((number, result, error))
        pickle.loads(data)  # some errors can be sent and not be received
    except Exception:
        told = error if error is not None else "its result can't be sent"
        return pickle.dumps((number, None, RuntimeError(f"{type(told).__name__}: {told}")))
    return data
