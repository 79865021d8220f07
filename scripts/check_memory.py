"""Memory over many training steps of a run with its events: the process's resident memory, the tensors that are alive,
and what a GPU has allocated. Fails where the second half grows by more than --slack, the stretches in which an event
fires left out: what a compressed step needs more than a float one, the allocator takes once.

    scripts/check_memory experiment=orders/detection schedule=p_q_wf
"""

import argparse
import gc
from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor

from qp_runner.config.compose import jobs
from qp_runner.run.build import Parts, build, build_trainer
from qp_runner.training import Trainer, seed_everything, set_numerics


class Nothing:
    """A recorder that keeps nothing."""

    def metrics(self, values: object, *, step: int) -> None:
        """Forgets."""


def resident() -> float:
    """MiB of the process that are in memory (Linux)."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) / 1024
    return float("nan")


def alive() -> int:
    """Tensors that Python knows of."""
    gc.collect()
    return sum(issubclass(type(each), Tensor) for each in gc.get_objects())


def watch(trainer: Trainer, parts: Parts, *, steps: int, every: int) -> list[tuple[int, float, int, float]]:
    """Trains, evaluation left out; (step, resident MiB, tensors, MiB on the GPU) after every so many steps."""
    rows, step = [], 0
    trainer._train_mode()
    while step < steps:
        for batch in parts.task.batches(step):
            trainer._enter_due(step)
            trainer.step(batch)
            step += 1
            if step % every == 0:
                gpu = torch.cuda.memory_allocated() / 2**20 if torch.cuda.is_available() else 0.0
                rows.append((step, resident(), alive(), gpu))
                print(
                    f"step {step:5d}: {rows[-1][1]:8.1f} MiB resident, {rows[-1][2]} tensors, {gpu:.1f} MiB on the GPU"
                )
            if step == steps:
                break
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("overrides", nargs="+", help="as for qp-runner; the first job is taken")
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--every", type=int, default=50)
    parser.add_argument("--slack", type=float, default=5.0, help="MiB")
    arguments = parser.parse_args()
    planned, _ = jobs(arguments.overrides, multirun=False)
    config = planned[0].config
    set_numerics(deterministic=config.trainer.deterministic, threads=config.trainer.threads)
    seed_everything(config.seed)
    parts = build(config)
    trainer = build_trainer(config, parts, recorder=Nothing())
    rows = watch(trainer, parts, steps=arguments.steps, every=arguments.every)
    half = rows[len(rows) // 2 :]
    fired = {stage.first for stage in parts.stages if stage.fires}
    quiet = [(a, b) for a, b in pairwise(half) if fired.isdisjoint(range(a[0], b[0]))]
    grown, tensors = (sum(b[column] - a[column] for a, b in quiet) for column in (1, 2))
    print(f"the second half grew by {grown:.1f} MiB and {tensors} tensors in {len(quiet)} stretches without events")
    if grown > arguments.slack:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
