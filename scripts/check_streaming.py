"""Memory and time on a folder of images that don't fit in memory: what happens before the first step, then over many.

Memory is that of this process and of those that read. Fails where it has grown by more than 5 % between a fifth of the
steps and the end, or where a second look at the same set takes as long as the first.

    scripts/check_streaming --images 4000 --memory-gb 0      # a minute; streamed although it would fit
    scripts/check_streaming --images 170000                  # 33 GB as uint8, 2 to 3 GB of files below --folder
"""

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np
import skimage.data
import torch
from PIL import Image
from sklearn.datasets import load_sample_image
from torch import nn

from qp_runner.data import image_folder
from qp_runner.models import SmallCNN
from qp_runner.tasks import ClassificationTask
from qp_runner.training import content_of

SPARE = 32  # pixels that images are larger than what the network gets
GROWTH = 1.05
MEGA, GIGA = 10**6, 10**9

T = TypeVar("T")


def photographs() -> dict[str, Image.Image]:
    """The photographs that pieces are cut from, one class for each."""
    found = {name: getattr(skimage.data, name)() for name in ("astronaut", "chelsea", "coffee", "rocket")}
    found |= {name: load_sample_image(f"{name}.jpg") for name in ("china", "flower")}
    return {name: Image.fromarray(pixels) for name, pixels in found.items()}


def write_images(root: Path, count: int, side: int) -> None:
    """Square pieces at random places. A folder that has any is left as it is."""
    random = np.random.default_rng(0)
    motifs = photographs()
    for place, (motif, photograph) in enumerate(motifs.items()):
        folder = root / motif
        if folder.is_dir():
            continue
        folder.mkdir(parents=True)
        for number in range(place, count, len(motifs)):
            left, top = (int(random.integers(0, whole - side + 1)) for whole in photograph.size)
            photograph.crop((left, top, left + side, top + side)).save(folder / f"{number:07d}.jpg", quality=70)


def resident() -> float:
    """Megabytes of this process and its children, shared pages counted once by their share."""
    own = os.getpid()
    children = Path(f"/proc/{own}/task/{own}/children").read_text().split()
    total = 0
    for process in (own, *children):
        try:
            lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
        except OSError:  # it has just ended
            continue
        total += next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return total * 1024 / MEGA


def small_network(**given: int) -> nn.Module:
    """A network that takes less time than reading its images."""
    return nn.Sequential(nn.AvgPool2d(8), SmallCNN(width=6, **given))


def make_task(folder: Path, given: argparse.Namespace) -> ClassificationTask:
    """The set and a small network for it."""
    options = {} if given.memory_gb is None else {"memory_gb": given.memory_gb}
    data = image_folder(root=str(folder), size=given.size, resize=given.size + SPARE, workers=given.workers, **options)
    return ClassificationTask(data=data, networks={"network": small_network}, batch_size=64, seed=0)


def timed(what: str, do: Callable[[], T]) -> tuple[T, float]:
    """The result, and the seconds that it took, which are printed with the memory held after it."""
    started = time.perf_counter()
    found = do()
    seconds = time.perf_counter() - started
    print(f"{what}: {seconds:.1f} s, {resident():.0f} MB", flush=True)
    return found, seconds


def start(folder: Path, given: argparse.Namespace) -> tuple[ClassificationTask, float]:
    """What a run does before its first step, twice, as runs of a sweep do; and the second's share of the time."""
    task, first = timed("listed, mean and standard deviation", partial(make_task, folder, given))
    content, digesting = timed("digest of the content", partial(content_of, task))
    again, second = timed("the same, again", partial(make_task, folder, given))
    content_again, digesting_again = timed("the same, again", partial(content_of, again))
    assert content.digest == content_again.digest
    return task, (second + digesting_again) / (first + digesting)


def train(task: ClassificationTask, steps: int) -> list[float]:
    """Trains; returns the memory after each tenth of the steps, in megabytes."""
    optimizer = torch.optim.SGD(task.networks()["network"].parameters(), lr=0.05, momentum=0.9)
    measured, step, epoch = list[float](), 0, 0
    while step < steps:
        for batch in task.batches(epoch):
            for _, loss in task.updates(batch):
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
            step += 1
            if step % max(1, steps // 10) == 0:
                measured.append(resident())
                print(f"step {step}: {measured[-1]:.0f} MB", flush=True)
            if step == steps:
                break
        epoch += 1
    return measured


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--images", type=int, default=4000)
    parser.add_argument("--size", type=int, default=224, help="pixels a side of what the network gets")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--memory-gb", type=float, help="what may be kept in memory; default: as a run has it")
    parser.add_argument("--folder", type=Path, help="where the images are, or are written and kept; default: nowhere")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = given.folder or Path(temporary)
        timed("images written", partial(write_images, folder, given.images, given.size + SPARE))
        files = sum(each.stat().st_size for each in folder.rglob("*.jpg"))
        decoded = given.images * 3 * (given.size + SPARE) ** 2
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        print(
            f"{given.images} images: {files / GIGA:.2f} GB of files, {decoded / GIGA:.1f} GB as uint8; "
            f"this machine has {memory / GIGA:.1f} GB"
        )
        task, share = start(folder, given)
        print(f"{task.steps_per_epoch} steps an epoch; started again in {share:.0%} of the time")
        measured = train(task, given.steps)
    growth = measured[-1] / measured[1]
    print(f"grown by {growth - 1:+.1%} from step {given.steps // 5} to {given.steps}")
    return int(growth > GROWTH or share > 0.5)


if __name__ == "__main__":
    sys.exit(main())
