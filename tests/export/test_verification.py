"""What is accepted of an exported file."""

from pathlib import Path

import pytest
import torch

from qp_runner.errors import ExportError
from qp_runner.export.comparison import Agreement, Compared
from qp_runner.export.settings import ExportSettings
from qp_runner.export.usage import Usage
from qp_runner.export.verification import Verified, judge_onnx, judge_packed
from qp_runner.metric import Metric

ACCURACY = Metric("accuracy", True, "%")
EXACT, INT8 = ExportSettings(("onnx",)), ExportSettings(("onnx",), "int8")
BRANCHES = ExportSettings(("onnx",), "int8", branches=True)


def compared(*, wrong: int = 0, accuracy: float = 90.0, apart: float = 0.0) -> Compared:
    """A thousand samples of two classes: of other classes, with another metric, with runs that differ."""
    wanted = torch.tensor([[1.0, 0.0]]).repeat(1000, 1)
    made = wanted.clone()
    made[:wrong] = made[:wrong].flip(1)
    network, runs = Agreement(), Agreement()
    network.add(made, wanted)
    runs.add(made + apart, made)
    return Compared({"accuracy": accuracy}, network, runs)


@pytest.mark.parametrize(
    ("settings", "accepted", "refused"),
    [
        (EXACT, {"wrong": 1, "accuracy": 90.1}, {"wrong": 2}),
        (EXACT, {"apart": 0.02}, {"accuracy": 90.2}),
        (INT8, {"wrong": 10, "accuracy": 90.5}, {"wrong": 11}),
        (INT8, {"accuracy": 89.5}, {"accuracy": 89.4}),
        (INT8, {"apart": 0.01}, {"apart": 0.03}),
        (INT8, {}, {"accuracy": float("nan")}),
        (BRANCHES, {"wrong": 15, "accuracy": 90.75}, {"wrong": 16}),
        (BRANCHES, {}, {"accuracy": 90.8}),
    ],
)
def test_an_onnx_file_may_differ_so_much(settings: ExportSettings, accepted: dict, refused: dict) -> None:
    for differing, failures in ((accepted, 0), (refused, 1)):
        verified = Verified(Path("a.onnx"), "onnx")
        judge_onnx(verified, compared(**differing), metric=ACCURACY, before=90.0, settings=settings)
        assert len(verified.failures) == failures


def test_a_packed_file_may_not_differ() -> None:
    same, other = Verified(Path("a"), "packed"), Verified(Path("a"), "packed")
    judge_packed(same, compared(), metric=ACCURACY, before=90.0)
    judge_packed(other, compared(wrong=1), metric=ACCURACY, before=90.0)
    assert same.failures == []
    assert other.failures == ["outputs differ by up to 1"]


def test_outputs_of_another_shape_are_not_equal() -> None:
    found = Agreement()
    found.add([torch.zeros(2, 3)], [torch.zeros(2, 3), torch.zeros(2, 1)])
    assert (found.share_equal, found.largest) == (0, float("inf"))


@pytest.mark.parametrize(
    ("args", "kwargs", "given"),
    [((torch.zeros(1), 3), {}, "Tensor, int"), ((torch.zeros(1),), {"flag": torch.zeros(1)}, "Tensor, flag")],
)
def test_a_network_that_is_called_otherwise_is_one_line(args: tuple, kwargs: dict, given: str) -> None:
    with pytest.raises(ExportError, match=f"called with tensors alone, by place; this with {given}"):
        Usage().add(args, kwargs)
