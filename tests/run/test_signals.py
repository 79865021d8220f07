"""What ends a command is recorded as its end, wherever it was; who else handles signals goes on to do so."""

import os
import signal
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from qp_runner.run.signals import ENDING, ending_as_interrupt
from qp_runner.sweep.parent import ParentRun
from stores import load
from support import execute

pytestmark = pytest.mark.skipif(os.name == "nt", reason="signals")

QUICK = ["tracking=none", "trainer.epochs=1", "trainer.batch_size=128", "trainer.progress=false"]
SWEEP = ["-m", "schedule=float,q_wf", *QUICK]


@pytest.fixture(autouse=True)
def _handlers_stay() -> Iterator[None]:
    """Default handlers at first, whatever the tests were started with (nohup ignores SIGHUP), and at the end."""
    numbers = [getattr(signal, name) for name in ENDING]
    inherited = [signal.signal(number, signal.SIG_DFL) for number in numbers]
    before = [signal.getsignal(number) for number in numbers]
    yield
    assert [signal.getsignal(number) for number in numbers] == before
    for number, handler in zip(numbers, inherited, strict=True):
        signal.signal(number, handler)


def killing(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, number: int) -> None:
    """Has the process send itself a signal when a function is called."""
    plain: Callable[..., Any] = getattr(owner, name)

    def call(*args: Any, **options: Any) -> Any:
        os.kill(os.getpid(), number)
        return plain(*args, **options)

    monkeypatch.setattr(owner, name, call)


@pytest.mark.parametrize("name", ENDING)
def test_the_first_signal_interrupts_and_others_leave_the_records_alone(name: str) -> None:
    number = getattr(signal, name)
    with ending_as_interrupt():
        with pytest.raises(KeyboardInterrupt), ending_as_interrupt():  # a run within a command
            os.kill(os.getpid(), number)
        for each in ENDING:
            os.kill(os.getpid(), getattr(signal, each))


def test_what_is_ignored_or_handled_already_stays_so() -> None:
    received = []
    before = signal.signal(signal.SIGUSR2, lambda number, _: received.append(number))
    ignored = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
    try:
        with ending_as_interrupt():
            os.kill(os.getpid(), signal.SIGUSR2)
            os.kill(os.getpid(), signal.SIGHUP)
        assert received == [signal.SIGUSR2]
    finally:
        signal.signal(signal.SIGUSR2, before)
        signal.signal(signal.SIGHUP, ignored)


@pytest.mark.parametrize(
    ("moment", "jobs"),
    [("qp_runner.sweep.grid.outline", []), ("announce", []), ("qp_runner.run.run.build", ["KILLED"])],
)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_sweep_may_be_ended_at_any_moment_and_goes_on(
    here: Path, monkeypatch: pytest.MonkeyPatch, moment: str, jobs: list[str], number: int
) -> None:
    with monkeypatch.context() as patch:
        if moment == "announce":
            killing(patch, ParentRun, "announce", number)
        else:
            module, _, name = moment.rpartition(".")
            killing(patch, import_module(module), name, number)
        assert execute(SWEEP) == 130
    sweeps = list((here / "results").glob("sweeps/*"))
    for sweep in sweeps:
        assert load(sweep).status == "KILLED"
        assert [load(path.parent).status for path in sorted(sweep.glob("*/run.json"))] == jobs
    assert execute(SWEEP) == 0
    [sweep] = (here / "results").glob("sweeps/*")
    assert [load(folder).status for folder in (sweep, sweep / "0", sweep / "1")] == ["FINISHED"] * 3


def test_a_job_that_a_cluster_requeues_is_killed_not_failed_and_its_handler_stays(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def requeue(_number: int, _frame: object) -> None:  # as submitit ends a job that it has put back into the queue
        raise SystemExit(144)

    before = signal.signal(signal.SIGUSR2, requeue)
    try:
        killing(monkeypatch, import_module("qp_runner.run.run"), "_train", signal.SIGUSR2)
        with pytest.raises(SystemExit):
            execute(QUICK)
        assert signal.getsignal(signal.SIGUSR2) is requeue
    finally:
        signal.signal(signal.SIGUSR2, before)
    [run] = (here / "results" / "runs").iterdir()
    assert load(run).status == "KILLED"
