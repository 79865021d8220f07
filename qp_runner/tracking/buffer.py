"""Numbers on their way to a store: collected at once, sent in batches by a thread, never twice and never lost."""

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Record:
    """One number: its name, value, training step and time in milliseconds since 1970."""

    name: str
    value: float
    step: int
    time_ms: int


class Buffer:
    """Collects records and sends them every `interval_s`, or when `size` are waiting, from a thread of its own.

    So that neither a slow store nor a locked one makes a training step wait, and a run that is killed loses no more
    than the last seconds. What could not be sent is kept and sent again later.
    """

    def __init__(
        self,
        send: Callable[[Sequence[Record]], None],
        *,
        on_error: Callable[[Exception], None],
        interval_s: float = 2.0,
        retry_s: float = 15.0,
        size: int = 1000,
    ) -> None:
        """`send` takes at most `size` records, in their order; what it raises is handed to `on_error`."""
        self._send, self._on_error = send, on_error
        self._interval_s, self._retry_s, self._size = interval_s, retry_s, size
        self._records: list[Record] = []
        self._last_ms = 0
        self._adding, self._sending = threading.Lock(), threading.Lock()
        self._wake, self._closed = threading.Event(), False
        self._thread = threading.Thread(target=self._work, name="qp-runner-tracking", daemon=True)
        self._thread.start()

    def add(self, values: Mapping[str, float], *, step: int) -> None:
        """Takes the values of one moment; each call's time is later than the one before.

        A store tells records of the same step apart by their time, and takes the latest as the current value.
        """
        with self._adding:
            self._last_ms = max(time.time_ns() // 1_000_000, self._last_ms + 1)
            self._records += [Record(name, float(value), step, self._last_ms) for name, value in values.items()]
            full = len(self._records) >= self._size
        if full:
            self._wake.set()

    def flush(self) -> bool:
        """Sends all that waits; False (and the rest kept) where the store refused."""
        with self._sending:  # one sender at a time, or both would send the same head of the list
            while self._records:
                batch = self._records[: self._size]
                try:
                    self._send(batch)
                except Exception as error:
                    self._on_error(error)
                    return False
                with self._adding:
                    del self._records[: len(batch)]
        return True

    def close(self) -> int:
        """Ends the thread and sends the rest; the number of records that the store would not take."""
        self._closed = True
        self._wake.set()
        self._thread.join()
        self.flush()
        return len(self._records)

    def _work(self) -> None:
        pause = self._interval_s
        while not self._closed:
            self._wake.wait(pause)
            self._wake.clear()
            if self._closed:  # the closing thread sends the rest, and sees the errors
                return
            sent = self.flush()
            pause = self._interval_s if sent else self._retry_s
