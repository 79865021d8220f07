"""Does to sweeps what people and machines do to them, and looks for what is lost.

- kills: SIGKILL at a random moment, to all processes of a command or to its main process alone, with and without
  joblib's workers; then the same command until it ends well
- pairs: two sweeps started up to three seconds apart on one fresh `results`, equal ones and different ones
- outages: a tracking server on PostgreSQL that is killed during a sweep, started again, then the same command
  (needs `initdb`, `pg_ctl` and psycopg2, and not to be root, or a user `postgres`)

Every job must end FINISHED, once, with the figures of an undisturbed run to the last bit, and with all of its values in
MLflow. Prints tried, survived and lost; ends with 1 if anything was lost.
"""

import argparse
import csv
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from check_parallel import losses

SWEEP = ["-m", "schedule=float,q_wf", "trainer.epochs=8", "trainer.progress=false"]
JOBLIB = ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2"]
LIMIT_S = 300  # for any command; one that takes longer is stuck
NOT_COMPARED = ("time/",)
Figures = dict[str, list[tuple[str, str, str]]]


def command(results: Path, *more: str) -> list[str]:
    """A sweep's command line."""
    return [sys.executable, "-m", "qp_runner", *SWEEP, f"results={results}", *more]


def start(arguments: Sequence[str]) -> "subprocess.Popen[str]":
    """A command in a process group of its own."""
    return subprocess.Popen(
        arguments, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, start_new_session=True
    )


def finish(arguments: Sequence[str], tries: int = 3) -> list[str]:
    """Gives a command until it ends well; returns what went wrong."""
    last = ""
    for _ in range(tries):
        try:
            done = subprocess.run(arguments, capture_output=True, text=True, timeout=LIMIT_S)
        except subprocess.TimeoutExpired:
            return [f"stuck for {LIMIT_S} s"]
        if done.returncode == 0:
            return []
        last = done.stderr.strip().splitlines()[-1] if done.stderr.strip() else f"exit {done.returncode}"
    return [f"did not end well in {tries} tries: {last}"]


def figures(results: Path) -> Figures:
    """What the jobs below `results` recorded, but for times, by `schedule seed` in order of the sweeps."""
    found: Figures = {}
    for file in sorted(results.glob("sweeps/*/[0-9]*/metrics.csv")):
        rows = [(row["step"], row["name"], row["value"]) for row in csv.DictReader(file.open(encoding="utf-8"))]
        kept = [row for row in rows if not row[1].startswith(NOT_COMPARED)]
        found[f"{file.parent.parent.name}/{file.parent.name}"] = kept
    return found


def different(results: Path, reference: Sequence[list[tuple[str, str, str]]]) -> list[str]:
    """The jobs whose figures are none of the undisturbed ones."""
    return [f"{name}: other figures" for name, rows in figures(results).items() if rows not in reference]


def kill(reference: Figures, chance: random.Random, number: int) -> list[str]:
    """One kill; what is lost after the same command was given again."""
    alone, workers = number % 2 == 1, JOBLIB if number % 4 >= 2 else []
    with tempfile.TemporaryDirectory() as name:
        results = Path(name, "results")
        process = start(command(results, "seed=0,1", *workers))
        time.sleep(chance.uniform(0.2, 9.0))
        if alone:
            process.kill()
        else:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        wrong = finish(command(results, "seed=0,1", *workers))
        wrong += checked(results, list(reference.values()))
        with suppress(ProcessLookupError):  # nothing should be left, but the next round must not wait for it
            os.killpg(process.pid, signal.SIGKILL)
    return wrong


def checked(results: Path, reference: Sequence[list[tuple[str, str, str]]], uri: str = "") -> list[str]:
    """Losses and differences of all sweeps below `results`."""
    try:
        _, missing = losses(results, uri)
    except (OSError, SystemExit, ValueError) as error:
        return [f"{type(error).__name__}: {error}"]
    return missing + different(results, reference)


def pair(reference: Figures, chance: random.Random, number: int) -> list[str]:
    """Two sweeps at once on one `results`."""
    with tempfile.TemporaryDirectory() as name:
        results = Path(name, "results")
        second = "seed=0,1" if number % 2 else "seed=1,0"  # equal, or another sweep
        both = [start(command(results, "seed=0,1"))]
        time.sleep(chance.choice([0.0, 0.0, 1.0, 2.0, 3.0]))
        both.append(start(command(results, second)))
        wrong = []
        for process in both:
            _, stderr = process.communicate(timeout=LIMIT_S)
            if process.returncode:
                wrong.append(stderr.strip().splitlines()[-1] if stderr.strip() else f"exit {process.returncode}")
        return wrong + checked(results, list(reference.values()))


def outage(reference: Figures, chance: random.Random, _number: int) -> list[str]:
    """A tracking server on PostgreSQL that goes away during a sweep."""
    with tempfile.TemporaryDirectory() as name, postgres(Path(name, "pg")) as database:
        results, port = Path(name, "results"), free_port()
        uri = f"http://127.0.0.1:{port}"
        server = mlflow_server(database, port, Path(name))
        process = start(command(results, "seed=0,1", f"tracking.uri={uri}"))
        time.sleep(chance.uniform(4.0, 9.0))
        os.killpg(server.pid, signal.SIGKILL)
        began = time.monotonic()
        process.wait(timeout=LIMIT_S)
        print(f"  the sweep ended {time.monotonic() - began:.0f} s after its server", flush=True)
        server = mlflow_server(database, port, Path(name))
        try:
            return finish(command(results, "seed=0,1", f"tracking.uri={uri}")) + checked(
                results, list(reference.values()), uri
            )
        finally:
            os.killpg(server.pid, signal.SIGKILL)


@contextmanager
def postgres(folder: Path) -> Iterator[str]:
    """A PostgreSQL server of its own; gives its address for MLflow."""
    port = free_port()
    as_user = ["runuser", "-u", "postgres", "--"] if os.getuid() == 0 else []
    folder.mkdir(parents=True)
    folder.parent.chmod(0o755)
    if as_user:
        shutil.chown(folder, "postgres", "postgres")
    quiet = {"check": True, "stdout": subprocess.DEVNULL, "cwd": "/"}
    subprocess.run([*as_user, tool("initdb"), "-D", str(folder / "data"), "-A", "trust", "-U", "mlflow"], **quiet)  # type: ignore[call-overload]
    options = f"-p {port} -k {folder} -c listen_addresses=127.0.0.1"
    control = [*as_user, tool("pg_ctl"), "-D", str(folder / "data"), "-w"]
    subprocess.run([*control, "-l", str(folder / "log"), "-o", options, "start"], **quiet)  # type: ignore[call-overload]
    try:
        yield f"postgresql+psycopg2://mlflow@127.0.0.1:{port}/postgres"
    finally:
        subprocess.run([*control, "-m", "immediate", "stop"], stdout=subprocess.DEVNULL, cwd="/")


def tool(name: str) -> str:
    """A program of PostgreSQL, which Debian keeps off the PATH."""
    found = shutil.which(name) or next(map(str, sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))), None)
    if found is None:
        raise SystemExit(f"check_faults: {name} of PostgreSQL is not installed; leave outages out: --outages 0")
    return found


def mlflow_server(database: str, port: int, folder: Path) -> "subprocess.Popen[str]":
    """`mlflow server` on a database, once it answers."""
    arguments = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", database, "--workers", "1"]
    arguments += ["--host", "127.0.0.1", "--port", str(port), "--artifacts-destination", str(folder / "artifacts")]
    log = (folder / "server.log").open("a")
    server = subprocess.Popen(arguments, stdout=log, stderr=log, text=True, start_new_session=True)
    end = time.monotonic() + 120
    while time.monotonic() < end:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return server
        time.sleep(0.5)
    raise SystemExit(f"check_faults: mlflow server does not answer: {(folder / 'server.log').read_text()[-500:]}")


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def repeat(
    what: str, times: int, one: Callable[[Figures, random.Random, int], list[str]], reference: Figures, *, seed: int
) -> int:
    """Tries something several times and prints how it went; returns how often something was lost."""
    chance, lost = random.Random(seed), 0
    for number in range(times):
        wrong = one(reference, chance, number)
        lost += bool(wrong)
        print(f"{what} {number + 1}/{times}: {'; '.join(wrong[:3]) if wrong else 'nothing lost'}", flush=True)
    if times:
        print(f"{what}: tried {times}, survived {times - lost}, lost {lost}", flush=True)
    return lost


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--pairs", type=int, default=20)
    parser.add_argument("--outages", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0, help="of the moments; several can run side by side")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        subprocess.run(command(Path(name), "seed=0,1"), check=True, capture_output=True)
        reference = figures(Path(name))
    lost = repeat("kill", arguments.kills, kill, reference, seed=arguments.seed)
    lost += repeat("pair", arguments.pairs, pair, reference, seed=arguments.seed)
    lost += repeat("outage", arguments.outages, outage, reference, seed=arguments.seed)
    sys.exit(1 if lost else 0)


if __name__ == "__main__":
    main()
