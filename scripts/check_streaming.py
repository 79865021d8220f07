"""Memory over many steps on a folder of images that are read again for every batch: this process's and that of those
that read. Fails where it has grown by more than 5 % between a fifth of the steps and the end.

    scripts/check_streaming --steps 500 --images 4000     # cut from the photographs in scikit-image's wheel
"""

import argparse
import os
import sys
import tempfile
from functools import partial
from pathlib import Path

import numpy as np
import skimage.data
import torch
from PIL import Image

from qp_runner.data import image_folder
from qp_runner.models import SmallCNN
from qp_runner.tasks import ClassificationTask

MOTIFS = ("astronaut", "chelsea", "coffee", "rocket")
GROWTH = 1.05


def write_images(root: Path, count: int, side: int) -> None:
    """Pieces of photographs, one class for each."""
    random = np.random.default_rng(0)
    for motif in MOTIFS:
        (root / motif).mkdir()
        photograph = Image.fromarray(getattr(skimage.data, motif)())
        for number in range(count // len(MOTIFS)):
            left, top = (int(random.integers(0, whole - side)) for whole in photograph.size)
            photograph.crop((left, top, left + side, top + side)).save(root / motif / f"{number:06d}.jpg")


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
    return total / 1024


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--images", type=int, default=4000)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--workers", type=int, default=1)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        write_images(Path(folder), given.images, 2 * given.size)
        data = image_folder(root=folder, size=given.size, resize=given.size + 8, memory_gb=0, workers=given.workers)
        task = ClassificationTask(data=data, networks={"network": partial(SmallCNN, width=6)}, batch_size=64, seed=0)
        optimizer = torch.optim.SGD(task.network.parameters(), lr=0.05, momentum=0.9)
        in_memory = given.images * 3 * (given.size + 8) ** 2 / 2**20
        print(f"{given.images} images, {in_memory:.0f} MB as uint8; {task.steps_per_epoch} steps an epoch")
        measured, step, epoch = list[float](), 0, 0
        while step < given.steps:
            for batch in task.batches(epoch):
                for _, loss in task.updates(batch):
                    optimizer.zero_grad()
                    loss.backward()
                    optimizer.step()
                step += 1
                if step % max(1, given.steps // 10) == 0:
                    measured.append(resident())
                    print(f"step {step}: {measured[-1]:.0f} MB", flush=True)
                if step == given.steps:
                    break
            epoch += 1
    growth = measured[-1] / measured[1]
    print(f"grown by {growth - 1:+.1%} from step {given.steps // 5} to {given.steps}")
    return int(growth > GROWTH)


if __name__ == "__main__":
    sys.exit(main())
