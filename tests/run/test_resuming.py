"""A run that is resumed, or goes on from a trunk of another, has the bits of one made alone: whatever trains it."""

from pathlib import Path

import pytest
import torch

from photos import write_folder
from qp_runner.config import Config
from qp_runner.models import SmallCNN
from qp_runner.run.build import Parts, build, build_trainer
from qp_runner.run.identity import identity
from qp_runner.training import CheckpointStore, Identity, RunCheckpoints, Trainer, seed_everything
from support import Records
from tiny import tiny_config

FOLDER = ["data=image_folder", "data.size=12", "data.resize=14", "trainer.batch_size=16", "data.workers=1"]
TEACHER = ["trainer.teacher=teacher.pt", "trainer.distillation.temperature=2"]
SETTINGS = {
    "grad_clip": ["trainer.grad_clip=0.5"],
    "warmup": ["trainer.warmup=0.5dur"],
    "accumulate": ["trainer.accumulate=4"],
    "ema": ["trainer.ema=0.99"],
    "mixed": ["data.mixup=0.4", "data.cutmix=1.0"],
    "teacher": TEACHER,
    "early_stop": ["trainer.early_stop.patience=1", "trainer.epochs=5"],
    "adamw": ["trainer/optimizer=adamw", "trainer.warmup=2ep"],
    "all": [
        "trainer.grad_clip=1",
        "trainer.warmup=1ep",
        "trainer.accumulate=2",
        "trainer.ema=0.9",
        "data.mixup=0.2",
        *TEACHER,
    ],
    "folder": FOLDER,
    "streamed": [*FOLDER, "data.memory_gb=0"],
    "transformed": [*FOLDER, "data.transforms=[{_target_: torchvision.transforms.v2.RandomResizedCrop, size: 12}]"],
    "supervised": ["task=supervised", "data.cutmix=1.0", "trainer.ema=0.9"],
}
ADDED = ("grad_clip", "warmup", "accumulate", "ema", "mixed", "teacher", "early_stop")


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of photographs, and the weights of a teacher."""
    root = tmp_path_factory.mktemp("given")
    write_folder(root / "photos", 20)
    torch.manual_seed(1)
    torch.save(SmallCNN(width=6, in_channels=1, classes=10).state_dict(), root / "teacher.pt")
    return root


def configured(name: str, given: Path, *overrides: str) -> Config:
    places = {"trainer.teacher=teacher.pt": f"trainer.teacher={given / 'teacher.pt'}"}
    chosen = [places.get(each, each) for each in SETTINGS[name]]
    root = [f"data.root={given / 'photos'}"] if FOLDER[0] in chosen else []
    return tiny_config("classification", *chosen, *root, *overrides)


def started(config: Config, store: Path | None) -> tuple[Trainer, Parts, Records]:
    parts, records = build(config), Records()
    seed_everything(config.seed)
    trainer = build_trainer(config, parts, recorder=records)
    if store is not None:
        own = Identity({"all": "alike"}, trainer.stages, {})
        third = frozenset({trainer.total_steps // 3})
        trainer.checkpoints = RunCheckpoints(CheckpointStore(store, 10**10), own, every=3, checkpoint_steps=third)
    return trainer, parts, records


@pytest.mark.parametrize("name", SETTINGS)
def test_resumed_and_branched_runs_equal_the_run_made_alone(name: str, given: Path, tmp_path: Path) -> None:
    def finish(schedule: str, *, stored: bool) -> tuple[int, list[torch.Tensor], object]:
        trainer, parts, records = started(configured(name, given, f"schedule={schedule}"), tmp_path if stored else None)
        trainer.run()
        state = [each for network in parts.task.networks().values() for each in network.state_dict().values()]
        return trainer.resumed_from, [*state, *parts.compressor.state_dict().values()], records.untimed()

    finish("q_wf", stored=True)  # leaves the checkpoint that the next one starts from
    first, again, alone = (finish("p_q_wf", stored=each) for each in (True, True, False))
    assert again[0] > first[0] > alone[0] == 0
    for found in (first, again):
        assert all(torch.equal(*pair) for pair in zip(found[1], alone[1], strict=True))
        assert found[2] == alone[2]


@pytest.mark.parametrize("name", ADDED)
def test_whatever_training_is_made_of_is_part_of_a_runs_identity(name: str, given: Path) -> None:
    def root(config: Config) -> str:
        parts = build(config)
        return identity(config, stages=parts.stages, steps_per_epoch=parts.task.steps_per_epoch, parts=parts).root

    length = [each for each in SETTINGS[name] if each.startswith("trainer.epochs=")]
    assert root(configured(name, given)) != root(tiny_config("classification", *length))


def test_a_teachers_weights_are_part_of_a_runs_identity(given: Path, tmp_path: Path) -> None:
    known = build(configured("teacher", given)).content.digest
    assert build(configured("teacher", given)).content.digest == known
    weights = torch.load(given / "teacher.pt")
    next(iter(weights.values())).view(-1)[0] += 1
    torch.save(weights, given / "teacher.pt")
    assert build(configured("teacher", given)).content.digest != known


def test_a_changed_image_is_other_content(given: Path) -> None:
    for name in ("folder", "streamed"):
        known = build(configured(name, given)).content.digest
        path = next((given / "photos" / "rocket").iterdir())
        before, times = path.read_bytes(), path.stat()
        path.write_bytes((given / "photos" / "coffee" / path.name).read_bytes())
        assert build(configured(name, given)).content.digest != known
        path.write_bytes(before)
        assert build(configured(name, given)).content.digest == known  # whatever its times are
        assert path.stat().st_mtime_ns != times.st_mtime_ns
