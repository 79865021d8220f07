"""One sweep run in several ways: wall clock, how busy the GPU was, and whether all results are equal bit for bit.

Ways: `reuse` as the product does it; `trunks` without captured steps that jobs share; with --lanes, `lanes`, in several
processes side by side, which share the GPU by CUDA's Multi-Process Service where that is installed; `alone`, every job
a command of its own that shares nothing, as with other tools. Each command is measured from its start to its end,
imports included, and finds what those before it compiled in torch's cache on disk; `reuse` comes first, so it has the
least of that.
Without overrides: six orders of ResNet-20, four seeds, 20 epochs, on images made up in CIFAR-10's layout; where there
is no GPU, the default sweep on digits. Ends with 1 where results differ.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
import yaml
from bench_trunks import differences, jobs, records

from qp_runner.sweep.gpu import MPS

RUNNER = "import sys; from qp_runner.cli.main import main; sys.exit(main())"
WAYS = {
    "reuse": RUNNER,
    "trunks": f"from qp_runner.run import run; run._LAST_STEP.of = lambda config: None; {RUNNER}",
}
ON_GPU = [
    *("experiment=published/mobilenetv2", "model=resnet20", "data.split=holdout", "seed=0,1,2,3"),
    *("trainer.epochs=20", "trainer.precision=bfloat16", "trainer.executor=graph"),
]
QUIET = ["trainer.progress=false", "tracking=none"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("overrides", nargs="*", help="the sweep's command line")
    parser.add_argument("--alone", type=int, metavar="N", help="jobs to run alone; the time of all is scaled from them")
    parser.add_argument("--lanes", type=int, metavar="N", help="run it in N processes side by side, too")
    parser.add_argument("--images", type=int, default=50_000, help="made up images of the default sweep (%(default)s)")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="keep all results there")
    args = parser.parse_args()
    cuda = torch.cuda.is_available()
    with tempfile.TemporaryDirectory() as name:
        folder = args.keep or Path(name)
        overrides = args.overrides or (ON_GPU if cuda else ["experiment=orders/digits"])
        if cuda and not args.overrides:
            overrides = [*overrides, f"data.root={made_up(folder / 'data', args.images)}"]
        wrong = measured(overrides, folder, args.alone, args.lanes)
    print(f"torch {torch.__version__}, {torch.cuda.get_device_name() if cuda else f'{os.cpu_count()} cores'}")
    print(" ".join(overrides))
    sys.exit(bool(wrong))


def measured(overrides: list[str], folder: Path, alone: int | None, lanes: int | None) -> list[str]:
    """Runs all ways and prints what they took; returns the jobs whose results differ."""
    seconds = {}
    for way, code in WAYS.items():
        seconds[way] = timed(way, code, [*overrides, f"results={folder / way}"])
    if lanes:
        side_by_side = ["hydra/launcher=joblib", f"hydra.launcher.n_jobs={lanes}"]
        with sharing_the_gpu() as environment:
            seconds["lanes"] = timed(
                f"lanes ({lanes})", RUNNER, [*overrides, *side_by_side, f"results={folder / 'lanes'}"], environment
            )
    found = {way: jobs(folder / way) for way in seconds}
    chosen = sorted(found["trunks"], key=int)
    chosen = chosen[:: -(-len(chosen) // (alone or len(chosen)))]
    seconds["alone"] = one_by_one(found["trunks"], chosen, folder / "alone")
    for way, done in found.items():
        first, *others = (set_up(done[job]) for job in sorted(done, key=int))
        if first:
            print(
                f"{way}: set-up of the first job {first:.1f} s, of the others {min(others):.2f} to {max(others):.2f} s"
            )
        print(f"{way}: {seconds['alone'] / seconds[way]:.2f} x faster than alone")
    for way in [each for each in seconds if each not in ("trunks", "alone")]:
        print(f"{way}: {seconds['trunks'] / seconds[way]:.2f} x faster than trunks")
    reuse = found["reuse"]
    pairs = [(job, reuse[job], done[job]) for way, done in found.items() if way != "reuse" for job in reuse]
    pairs += [(job, reuse[job], folder / "alone" / "sweeps" / "all" / job) for job in chosen]
    wrong = [f"job {job} differs in {', '.join(each[:5])}" for job, *two in pairs if (each := differences(*two))]
    print(f"{len(pairs) - len(wrong)} of {len(pairs)} comparisons equal bit for bit", *wrong, sep="\n")
    return wrong


def one_by_one(all_jobs: dict[str, Path], chosen: list[str], folder: Path) -> float:
    """Runs the chosen jobs, each a command of its own; returns the seconds of all, scaled from those."""
    taken = 0.0
    for job in chosen:
        record = yaml.safe_load((all_jobs[job] / ".hydra" / "overrides.yaml").read_text(encoding="utf-8"))
        apart = [f"results={folder}", f"hydra.run.dir={folder / 'sweeps' / 'all' / job}"]
        own = [*(each for each in record if not each.startswith("results=")), "hydra.mode=RUN", *apart]
        taken += timed(f"alone, job {job}", RUNNER, [*own, "checkpoint.enabled=false"])
    seconds = taken * len(all_jobs) / len(chosen)
    print(f"alone, all {len(all_jobs)} jobs (from {len(chosen)}): {seconds:.1f} s")
    return seconds


@contextmanager
def sharing_the_gpu() -> Iterator[dict[str, str]]:
    """The environment of processes that share the GPU by CUDA's Multi-Process Service, which runs meanwhile.

    Where it is not installed, the environment as it is.
    """
    control, environment = shutil.which(MPS), dict(os.environ)
    if control is None:
        yield environment
        return
    with tempfile.TemporaryDirectory() as name:
        for kind in ("PIPE", "LOG"):
            environment[f"CUDA_MPS_{kind}_DIRECTORY"] = name
        subprocess.run([control, "-d"], env=environment, check=True)
        try:
            yield environment
        finally:
            subprocess.run([control], env=environment, input="quit\n", text=True, check=True)
            log = Path(name, "server.log")
            clients = log.read_text(encoding="utf-8").lower().count("new client") if log.is_file() else 0
            print(f"clients of CUDA's Multi-Process Service: {clients}")


def timed(name: str, code: str, overrides: list[str], environment: dict[str, str] | None = None) -> float:
    """Seconds that a command takes; prints them. SystemExit where it fails."""
    command = [sys.executable, "-c", code, *overrides, *QUIET]
    with busy() as shares:
        started = time.perf_counter()
        done = subprocess.run(command, capture_output=True, text=True, env=environment)
        seconds = time.perf_counter() - started
    if done.returncode:
        raise SystemExit(f"{name} failed:\n{done.stderr[-3000:]}")
    share = f", GPU busy {np.mean(shares):.0f} % of the time" if shares else ""
    print(f"{name}: {seconds:.1f} s{share}", flush=True)
    return seconds


def set_up(job: Path) -> float:
    """Seconds in which a job compiled and captured, or took over a captured step; without what its trunk did."""
    rows = [(int(step), name, float(value)) for step, name, value in records(job)]
    [computed] = [value for _, name, value in rows if name == "time/computed_steps"]
    start = max(step for step, _, _ in rows) - computed
    return sum(value for step, name, value in rows if name == "time/setup_s" and step > start)


@contextmanager
def busy() -> Iterator[list[float]]:
    """Gathers the share of time, in percent, in which a kernel was running; empty without nvidia-smi."""
    shares: list[float] = []
    ended = threading.Event()
    query = ["nvidia-smi", "--query-gpu=utilization.gpu", "--format=csv,noheader,nounits", "-i", "0"]

    def gather() -> None:
        while shutil.which(query[0]) and not ended.wait(1.0):
            shares.append(float(subprocess.run(query, capture_output=True, text=True, check=True).stdout))

    thread = threading.Thread(target=gather)
    thread.start()
    try:
        yield shares
    finally:
        ended.set()
        thread.join()


def made_up(folder: Path, images: int) -> Path:
    """A folder with CIFAR-10's training files, binary version, of images that can be learned: noise on a pattern."""
    place = folder / "cifar-10-batches-bin"
    place.mkdir(parents=True)
    dice = np.random.default_rng(0)
    patterns = dice.integers(256, size=(10, 3072))
    for number in range(1, 6):
        labels = np.arange(images // 5) % 10
        pixels = (patterns[labels] + dice.integers(256, size=(len(labels), 3072))) // 2
        rows = np.concatenate([labels[:, None], pixels], axis=1).astype(np.uint8)
        rows.tofile(place / f"data_batch_{number}.bin")
    return folder


if __name__ == "__main__":
    main()
