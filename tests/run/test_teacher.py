"""A teacher comes from a file of weights, which can do no harm; what does not fit is named."""

import pickle
from pathlib import Path
from typing import Any

import pytest
import torch

from qp_runner.errors import ConfigError
from qp_runner.models import SmallCNN
from qp_runner.run.build import Parts, build, build_trainer
from support import Records, execute
from tiny import tiny_config


def weights(width: int = 6) -> dict[str, torch.Tensor]:
    torch.manual_seed(3)
    return SmallCNN(width=width, in_channels=1, classes=10).state_dict()


def built(path: Path, *overrides: str, task: str = "classification") -> Parts:
    return build(tiny_config(task, f"trainer.teacher={path}", *overrides))


@pytest.mark.parametrize("wrap", [lambda x: x, lambda x: {"state_dict": x}])
def test_the_teacher_has_the_weights_of_the_file(tmp_path: Path, wrap: Any) -> None:
    torch.save(wrap(weights()), tmp_path / "teacher.pt")
    teacher = built(tmp_path / "teacher.pt").task.teacher
    assert teacher is not None
    assert all(torch.equal(each, weights()[name]) for name, each in teacher.network.state_dict().items())
    assert not any(each.training for each in teacher.network.modules())


def test_a_teacher_may_be_a_run(tmp_path: Path) -> None:
    command = ["schedule=float", "trainer.epochs=1", "tracking=none", "trainer.progress=false", f"results={tmp_path}"]
    assert execute(command) == 0
    [folder] = (tmp_path / "runs").iterdir()
    teacher = built(folder).task.teacher
    assert teacher is not None
    assert any(not torch.equal(each, weights()[name]) for name, each in teacher.network.state_dict().items())


def test_a_teacher_may_be_another_network(tmp_path: Path) -> None:
    torch.save(weights(width=9), tmp_path / "teacher.pth")
    wider = "trainer.distillation.network={_target_: qp_runner.models.SmallCNN, width: 9}"
    parts = built(tmp_path / "teacher.pth", wider)
    assert parts.task.teacher is not None
    assert parts.task.teacher.network.state_dict()["fc.weight"].shape != parts.task.network.fc.weight.shape  # type: ignore[attr-defined]


def test_a_student_comes_closer_to_its_teacher(tmp_path: Path) -> None:
    torch.save(weights(), tmp_path / "teacher.pt")

    def agreement(*overrides: str) -> float:
        config = tiny_config("classification", "trainer.epochs=6", *overrides)
        parts = build(config)
        build_trainer(config, parts, recorder=Records()).run()
        teacher = built(tmp_path / "teacher.pt").task.teacher
        assert teacher is not None
        network = parts.task.networks()["network"].eval()
        batches = list(parts.task.data.evaluation("test", batch_size=720))  # type: ignore[attr-defined]
        said = [(network(b.images).argmax(1) == teacher.network(b.images).argmax(1)).float().mean() for b in batches]
        return float(said[0])

    taught = agreement(f"trainer.teacher={tmp_path / 'teacher.pt'}", "trainer.distillation.weight=1.0")
    assert taught > agreement() + 0.2


class Hostile:
    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return exec, ("import pathlib; pathlib.Path('harm').touch()",)


def test_a_file_that_would_run_code_does_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"weight": Hostile()}, "torch.pt")
    Path("plain.pt").write_bytes(pickle.dumps({"weight": Hostile()}))
    for name in ("torch.pt", "plain.pt"):
        with pytest.raises(ConfigError, match=rf"^trainer\.teacher={name}: not a file of weights") as caught:
            built(Path(name))
        assert "\n" not in str(caught.value)
    assert not Path("harm").exists()


def test_what_does_not_fit_is_named(tmp_path: Path) -> None:
    path = tmp_path / "teacher.pt"
    with pytest.raises(ConfigError, match=r"^trainer\.teacher=.*teacher\.pt: no such file"):
        built(path)
    for content, said in (
        (b"nothing", "not a file of weights"),
        ([1, 2], "tensors by name"),
        ({"epoch": 3}, "tensors by name"),
        ({k: v for k, v in weights().items() if k != "fc.bias"}, "weights of this network: 1 missing: fc.bias$"),
        (weights() | {"more": torch.zeros(1)}, "1 unexpected: more$"),
        (weights(width=5), "of another shape: conv1.weight"),
    ):
        path.write_bytes(content) if isinstance(content, bytes) else torch.save(content, path)
        with pytest.raises(ConfigError, match=said):
            built(path)
    with pytest.raises(ConfigError, match=r"^trainer\.teacher=.*: null: task=super_resolution does not learn"):
        built(path, task="super_resolution")
