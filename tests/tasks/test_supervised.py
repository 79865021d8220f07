"""A supervised task by configuration: any loss, metrics, objective, inputs and outputs."""

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from sklearn.metrics import f1_score
from torch import nn
from torchmetrics.classification import MulticlassAccuracy, MulticlassF1Score
from torchmetrics.regression import MeanAbsoluteError

from own_sets import Reader, diabetes, tokens, tumours
from photos import write_folder
from qp_runner.config import Config
from qp_runner.config.compose import jobs, requesting
from qp_runner.errors import ConfigError
from qp_runner.run.build import build, build_task, build_trainer
from qp_runner.schedule import Target
from qp_runner.tasks import SupervisedTask
from qp_runner.training import content_of
from support import Records

SHORT = ["trainer.device=cpu", "trainer.executor=eager", "compress.calibration.samples=16"]
F1 = "+task.factory.metrics.f1={_target_: torchmetrics.classification.MulticlassF1Score, num_classes: classes}"
NETWORKS = {
    "coins": """
        name: lraspp
        networks: {network: {_target_: torchvision.models.segmentation.lraspp_mobilenet_v3_large, weights: null,
                             weights_backbone: null}}""",
    "tumours": """
        name: mlp
        networks: {network: {_target_: torchvision.ops.MLP, hidden_channels: [16, 16, 16, 2]}}""",
    "diabetes": """
        name: mlp
        networks: {network: {_target_: torchvision.ops.MLP, hidden_channels: [16, 16, 16, 1]}}""",
    "tokens": """
        name: reader
        networks: {network: {_target_: own_sets.Reader}}""",
}
MAE = "{_target_: torchmetrics.regression.MeanAbsoluteError}"
IOU = "{_target_: torchmetrics.classification.MulticlassJaccardIndex, num_classes: classes}"
SETTINGS = {
    "coins": [
        "task.factory.inputs=[image]",
        *("task.factory.target=mask", "task.factory.output=out", "task.factory.class_weights=balanced"),
        *(f"+task.factory.metrics.iou={IOU}", "task.factory.objective=iou", "trainer.batch_size=4"),
        *("trainer.optimizer.lr=0.01", "trainer.epochs=4"),
    ],
    "tumours": ["trainer.epochs=6", "trainer.batch_size=32"],
    "diabetes": [
        "task.factory.loss._target_=torch.nn.MSELoss",
        *("task.factory.metrics.accuracy=null", f"+task.factory.metrics.mae={MAE}", "task.factory.objective=mae"),
        *("task.factory.unit=''", "trainer.optimizer.lr=0.02", "trainer.epochs=10", "trainer.batch_size=32"),
    ],
    "tokens": [
        "task.factory.inputs={input_ids: input_ids, attention_mask: attention_mask}",
        *("task.factory.target=labels", "task.factory.output=logits", "trainer.epochs=4", "trainer.batch_size=8"),
        "task.factory.metrics.accuracy.num_classes=3",
    ],
}


def own(folder: Path, name: str, *overrides: str) -> Config:
    """The configuration of a network and a data function that are nobody's but the user's."""
    files = {"model/own": NETWORKS[name], "data/own": f"name: own\nfactory: {{_target_: own_sets.{name}}}\n"}
    for path, text in files.items():
        (folder / path).parent.mkdir(exist_ok=True)
        (folder / f"{path}.yaml").write_text(text)
    with requesting(
        ["task=supervised", "data=own", "model=own", *SETTINGS[name], *SHORT, *overrides], extra_dir=folder
    ) as request:
        return request.compose(request.overrides).config


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_and_a_data_function_are_all_it_takes(tmp_path: Path, name: str) -> None:
    config = own(tmp_path, name, "schedule=p_q_wf")
    parts, records = build(config), Records()
    assert not parts.content.problem
    torch.manual_seed(0)
    build_trainer(config, parts, recorder=records).run()
    for target in Target:
        assert parts.compressor.bits(target) == 8
        assert parts.compressor.sparsity(target) == pytest.approx(0.5, abs=0.02)
    losses = [value for _, value in records.series("train/loss")]
    assert min(losses[1:]) < losses[0]
    assert parts.task.metric.name in parts.task.evaluate("test")
    assert content_of(build_task(config)).digest == parts.content.digest


def test_directions_and_units(tmp_path: Path) -> None:
    found = {name: build_task(own(tmp_path, name)).metric for name in ("tumours", "diabetes")}
    assert (found["tumours"].name, found["tumours"].higher_is_better, found["tumours"].unit) == ("accuracy", True, "%")
    assert (found["diabetes"].name, found["diabetes"].higher_is_better, found["diabetes"].unit) == ("mae", False, "")


def test_macro_f1_over_a_folder_of_images(tmp_path: Path) -> None:
    write_folder(tmp_path, 20)
    given = [
        "task=supervised",
        "data=image_folder",
        f"data.root={tmp_path}",
        "data.size=16",
        "data.resize=20",
        "trainer.batch_size=8",
    ]
    [job], _ = jobs([*given, F1, "task.factory.objective=f1", "task.factory.unit=''", *SHORT], multirun=False)
    task = build_task(job.config)
    assert (task.metric.name, task.metric.higher_is_better) == ("f1", True)
    right, said = [], []
    task.networks()["network"].eval()
    for batch in task.data.evaluation("test", batch_size=7):
        right += batch.labels.tolist()
        said += task.networks()["network"](batch.images).argmax(1).tolist()
    assert task.evaluate("test")["f1"] == pytest.approx(f1_score(right, said, average="macro"), abs=1e-6)


def made(**options: Any) -> SupervisedTask:
    """A linear classifier of tumours."""
    given = {"loss": nn.CrossEntropyLoss(), "metrics": {"accuracy": MulticlassAccuracy(2, average="micro")}}
    given |= {"data": tumours(), "networks": {"network": lambda in_channels, classes: nn.Linear(in_channels, classes)}}
    return SupervisedTask(**{**given, "batch_size": 32, "seed": 0, "objective": "accuracy", **options})


def test_the_loss_and_the_metrics_are_those_of_all_samples() -> None:
    task = made()
    inputs, labels = task.data.test.tensors
    logits = task.network(inputs)
    found = task.evaluate("test")
    assert found["loss"] == pytest.approx(F.cross_entropy(logits, labels).item(), rel=1e-5)
    assert found["accuracy"] == pytest.approx((logits.argmax(1) == labels).float().mean().item())
    assert task.evaluate("test") == found


def test_balanced_weights_count_every_class_alike() -> None:
    loss = nn.CrossEntropyLoss()
    task = made(loss=loss, class_weights="balanced")
    labels = task.data.train.tensors[1]
    assert (loss.weight * labels.bincount()).tolist() == pytest.approx([len(labels) / 2] * 2)
    made(loss=loss, class_weights=[1, 3])
    assert loss.weight.tolist() == [1, 3]


def test_one_output_and_real_targets_are_compared_one_by_one() -> None:
    task = made(
        data=diabetes(),
        networks={"network": lambda in_channels: nn.Linear(in_channels, 1)},
        loss=nn.MSELoss(),
        metrics={"mae": MeanAbsoluteError()},
        objective="mae",
    )
    inputs, target = task.data.val.tensors
    wanted = F.mse_loss(task.network(inputs).squeeze(1), target).item()
    assert task.evaluate("val")["loss"] == pytest.approx(wanted, rel=1e-5)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"objective": "f1"}, r"^task\.factory\.objective=f1: one of accuracy, loss"),
        ({"direction": "down"}, r"^task\.factory\.direction=down: up, for accuracy"),
        ({"metrics": {"loss": MulticlassAccuracy(2)}, "objective": "loss"}, r"^task\.factory\.metrics\.loss=.*not"),
        ({"loss": nn.MSELoss()}, r"^task\.factory\.loss=MSELoss: does not fit the data"),
        ({"loss": nn.CrossEntropyLoss(reduction="none")}, r"^task\.factory\.loss=.*has to return a number"),
        ({"loss": nn.L1Loss(), "class_weights": [1, 2]}, r"^task\.factory\.class_weights=.*L1Loss takes no weights"),
        ({"class_weights": [1, 2, 3]}, r"^task\.factory\.class_weights=.*or 2 numbers"),
        ({"inputs": ["image"]}, r"^task\.factory\.inputs=image: a position: these are not named"),
        ({"target": 2}, r"^task\.factory\.target=2: a position in what has 2 parts"),
        ({"output": "out"}, r"^task\.factory\.output=out: a position"),
        ({"networks": {"network": lambda classes: nn.Linear(7, classes)}}, r"^model=Linear: does not fit the data"),
        ({"metrics": {"f1": MulticlassF1Score(5)}, "objective": "f1", "data": diabetes()}, r"^model\.networks"),
        ({"data": 3}, r"^data=int: supervised takes ImageData: .*or Items"),
        ({"data": {**diabetes(), "val": []}}, r"^data=val split: has no items"),
        ({"batch_size": 1000}, r"^trainer\.batch_size=1000: from 1 to"),
        (
            {"data": tokens(), "inputs": ["words"], "target": "labels"},
            r"^task\.factory\.inputs=words: one of input_ids, attention_mask, labels",
        ),
        (
            {"data": tokens(), "inputs": {"input_ids": "input_ids", "attention_mask": "attention_mask"},
             "target": "labels", "networks": {"network": Reader}},
            r"^task\.factory\.output=None: the network returns dict: one of loss, logits",
        ),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_named(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said) as caught:
        made(**options)
    assert "\n" not in str(caught.value)


def test_classes_are_filled_in_only_where_the_data_have_them(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"^task\.factory=classes: a number: the data have no classes"):
        build_task(own(tmp_path, "tokens", "task.factory.metrics.accuracy.num_classes=classes"))
