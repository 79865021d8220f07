"""What comes out of a run, and goes back in: model.safetensors and `qp_runner.load`."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn

import qp_runner
from qp_runner.compress import site_states
from qp_runner.data import digits
from qp_runner.errors import ConfigError
from qp_runner.run.build import build
from qp_runner.schedule import Target
from qp_runner.tasks import ClassificationTask
from support import execute, metrics
from tiny import TINY

QUICK = ["trainer.epochs=2", "trainer.batch_size=128", "tracking=none", "trainer.progress=false"]


def trained(*arguments: str) -> Path:
    assert execute([*QUICK, *arguments]) == 0
    return max(Path("results/runs").iterdir())


def final(folder: Path, name: str) -> float:
    return float(metrics(folder).groupby("name")["value"].last()[f"final/{name}"])


def test_a_loaded_run_has_the_very_accuracy_that_was_recorded(here: Path) -> None:
    folder = trained("schedule=p_q_wf")
    loaded = qp_runner.load(folder)
    test = digits().test
    assert loaded.preprocessing is not None
    right = (loaded(test.images).argmax(1) == test.labels).sum()
    assert 100 * int(right) / len(test) == final(folder, "accuracy")
    assert not any(module.training for module in loaded.network.modules())
    assert loaded.classes == tuple("0123456789")
    assert loaded.config.trainer.epochs == 2
    assert loaded.compressor.sparsity(Target.WEIGHT) == final(folder, "sparsity_weight")
    assert loaded.compressor.bits(Target.ACTIVATION) == 8
    assert torch.equal(loaded.bake()(loaded.preprocessing(test.images)), loaded(test.images))


def test_it_takes_images_as_people_have_them(here: Path) -> None:
    loaded = qp_runner.load(str(trained("schedule=float") / "model.safetensors"))
    pixels = digits().test.images[:2]
    grey = [Image.fromarray(each[0].numpy()) for each in pixels]
    assert torch.equal(loaded(grey), loaded(pixels))
    assert torch.equal(loaded(grey[0]), loaded(pixels[:1]))
    assert loaded(grey[0].convert("RGB").resize((31, 20))).shape == (1, 10)
    with pytest.raises(ValueError, match=r"uint8 \[c, h, w\]; this is torch.int64"):
        loaded(pixels.long())


def test_the_file_holds_plain_names_masks_scales_bits_and_the_configuration(here: Path) -> None:
    folder = trained("schedule=p_q_wf", "seed=3")
    tensors = load_file(folder / "model.safetensors")
    with safe_open(folder / "model.safetensors", "pt") as file:
        about = json.loads(file.metadata()["qp_runner"])
    assert about["config"]["seed"] == 3
    assert about["bits"]["conv2.weight"] == 8
    assert tensors["conv2.weight"].dtype == torch.float32
    mask = tensors["mask:conv2.weight"]
    assert mask.dtype == torch.bool
    assert mask.shape == tensors["conv2.weight"].shape
    assert int((~mask).sum()) == round(0.5 * mask.numel())
    assert "mask:conv1.weight" not in tensors  # quantized, not pruned
    assert tensors["scale:relu2"].numel() == 1
    codes = (mask * tensors["conv2.weight"] / tensors["scale:conv2.weight"]).round().clamp(-128, 127)
    loaded = qp_runner.load(folder)
    assert torch.equal(loaded.bake().conv2.weight, codes * tensors["scale:conv2.weight"])


@pytest.mark.parametrize("task", sorted(set(TINY) - {"classification"}))
def test_every_tasks_networks_come_back_without_its_data(
    task: str, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cut = [each for each in TINY[task] if not each.startswith(("trainer.epochs", "trainer.lr_schedule"))]
    rest = ["trainer.epochs=1", "tracking=none", "trainer.progress=false", "schedule=p_q_w"]
    lr = [each for each in TINY[task] if each.startswith("trainer.lr_schedule")]
    granularity = ["compress.granularity=channel"] if task == "detection" else []
    assert execute([*cut, *lr, *rest, *granularity]) == 0
    [folder] = Path("results/sweeps").glob("*/0")

    def no_data(*_: object) -> None:
        raise AssertionError("the data is not needed")

    with monkeypatch.context() as patched:
        patched.setattr("qp_runner.run.task.build_data", no_data)
        loaded = qp_runner.load(folder)
    parts = build(loaded.config)
    assert list(site_states(parts.compressor)) == list(site_states(loaded.compressor))
    assert loaded.compressor.sparsity(Target.WEIGHT) == final(folder, "sparsity_weight")
    assert loaded.networks.keys() == parts.task.networks().keys()
    name = next(iter(parts.task.compressible()))
    args, kwargs = loaded.example(name)
    with torch.no_grad():
        loaded.networks[name](*args, **kwargs)
        loaded.bake(name)(*args, **kwargs)


def test_a_task_with_objects_of_its_own_is_loaded_with_its_data(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("qp_runner.run.records.calls_of", lambda *_: None)  # as if they were no plain data
    folder = trained("schedule=p_q_wf")
    loaded = qp_runner.load(folder)
    test = digits().test
    right = (loaded(test.images).argmax(1) == test.labels).sum()
    assert 100 * int(right) / len(test) == final(folder, "accuracy")
    with pytest.raises(ValueError, match="not known how network is called"):
        loaded.example()


class Changed(ClassificationTask):
    """Changes its network after it has built it: freezes the stem, or replaces a layer."""

    def __init__(self, *, replaces: bool, **given: Any) -> None:
        super().__init__(**given)
        self.network.conv1.requires_grad_(False)
        if replaces:
            self.network.relu2 = nn.Sequential(nn.Conv2d(12, 12, 1), nn.ReLU())


@pytest.mark.parametrize("replaces", [False, True])
def test_a_task_may_change_its_networks(replaces: bool, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    task = [f"task.factory._target_={__name__}.Changed", f"+task.factory.replaces={replaces}"]
    folder = trained("schedule=p_q_wf", "model.sites=auto", *task)
    if not replaces:  # then its data are not needed
        monkeypatch.setattr("qp_runner.run.task.build_data", None)
    loaded = qp_runner.load(folder)
    assert not loaded.network.conv1.weight.requires_grad
    test = digits().test
    right = (loaded(test.images).argmax(1) == test.labels).sum()
    assert 100 * int(right) / len(test) == final(folder, "accuracy")


def test_what_is_no_run_is_refused_by_name(here: Path) -> None:
    with pytest.raises(ConfigError, match=r"^run=nowhere: the folder of a finished run, or its model\.safetensors"):
        qp_runner.load("nowhere")
    save_file({"a": torch.zeros(2)}, "plain.safetensors")
    with pytest.raises(ConfigError, match=r"^run=plain\.safetensors: .*weights, but no configuration"):
        qp_runner.load("plain.safetensors")
    folder = trained("schedule=p_q_w")
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ConfigError, match=r"^run=\S+: a model\.safetensors that can be read \("):
        qp_runner.load(folder)
