import threading
from collections.abc import Sequence

import pytest

from qp_runner.tracking.buffer import Buffer, Record

WAIT_S = 20  # for what happens at once; only a failing test waits so long


class Store:
    """A store that takes records, or refuses them while told to."""

    def __init__(self) -> None:
        self.batches: list[list[Record]] = []
        self.refuses = False
        self.errors: list[Exception] = []
        self.heard = threading.Event()

    def send(self, records: Sequence[Record]) -> None:
        self.heard.set()
        if self.refuses:
            raise OSError("database is gone")
        self.batches.append(list(records))

    @property
    def values(self) -> list[float]:
        return [record.value for batch in self.batches for record in batch]


@pytest.fixture
def store() -> Store:
    return Store()


def buffer(store: Store, *, interval_s: float = 1000.0, size: int = 1000) -> Buffer:
    return Buffer(store.send, on_error=store.errors.append, interval_s=interval_s, retry_s=interval_s, size=size)


def test_values_wait_until_they_are_asked_for(store: Store) -> None:
    waiting = buffer(store)
    waiting.add({"a": 1.0, "b": 2.0}, step=7)
    assert store.batches == []
    assert waiting.flush()
    assert [(record.name, record.value, record.step) for record in store.batches[0]] == [("a", 1.0, 7), ("b", 2.0, 7)]
    assert waiting.close() == 0
    assert store.values == [1.0, 2.0]  # nothing twice


def test_values_are_sent_without_any_further_call(store: Store) -> None:
    waiting = buffer(store, interval_s=0.01)
    waiting.add({"a": 1.0}, step=0)
    assert store.heard.wait(WAIT_S)
    waiting.close()
    assert store.values == [1.0]


def test_a_full_buffer_is_sent_before_its_time(store: Store) -> None:
    waiting = buffer(store, size=10)
    for step in range(10):
        waiting.add({"a": float(step)}, step=step)
    assert store.heard.wait(WAIT_S)
    waiting.close()
    assert store.values == [float(step) for step in range(10)]


def test_no_batch_is_larger_than_the_store_takes(store: Store) -> None:
    waiting = buffer(store, size=10)
    waiting.add({f"metric {index}": float(index) for index in range(35)}, step=0)
    waiting.close()
    assert max(len(batch) for batch in store.batches) == 10
    assert store.values == [float(index) for index in range(35)]


def test_what_a_store_refuses_is_offered_again(store: Store) -> None:
    waiting = buffer(store)
    store.refuses = True
    waiting.add({"a": 1.0}, step=0)
    assert not waiting.flush()
    assert len(store.errors) == 1
    store.refuses = False
    waiting.add({"a": 2.0}, step=1)
    assert waiting.close() == 0
    assert store.values == [1.0, 2.0]


def test_closing_tells_how_much_a_store_never_took(store: Store) -> None:
    waiting = buffer(store)
    store.refuses = True
    waiting.add({"a": 1.0, "b": 2.0}, step=0)
    assert waiting.close() == 2


def test_every_call_has_a_later_time_than_the_one_before(store: Store) -> None:
    waiting = buffer(store)
    for _ in range(50):
        waiting.add({"a": 0.0}, step=0)
    waiting.close()
    times = [record.time_ms for batch in store.batches for record in batch]
    assert times == sorted(set(times))


def test_many_threads_lose_nothing(store: Store) -> None:
    waiting = buffer(store, interval_s=0.001, size=7)
    threads = [
        threading.Thread(target=lambda: [waiting.add({"a": 1.0}, step=step) for step in range(100)]) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert waiting.close() == 0
    assert len(store.values) == 400
