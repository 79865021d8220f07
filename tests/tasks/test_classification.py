from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from qp_runner.data import digits
from qp_runner.errors import ConfigError
from qp_runner.models import SmallCNN, vgg11
from qp_runner.tasks import ClassificationTask
from support import fit

DATA = digits()
SMALL = partial(SmallCNN, width=4)


def make(build=SMALL, **arguments):
    return ClassificationTask(**{"data": DATA, "networks": {"network": build}, "batch_size": 64, "seed": 0} | arguments)


@pytest.mark.parametrize(
    "optimizer",
    [partial(torch.optim.SGD, lr=0.1, momentum=0.9, weight_decay=5e-4), partial(torch.optim.Adam, lr=3e-3)],
    ids=["sgd", "adam"],
)
def test_the_small_cnn_learns_the_digits(optimizer):
    task = make(partial(SmallCNN, width=6))
    untrained = task.evaluate("test")
    fit(task, optimizer, epochs=8)
    trained = task.evaluate("test")
    assert untrained["accuracy"] < 30
    assert trained["accuracy"] >= 95
    assert trained["loss"] < 0.3 < untrained["loss"]


def test_a_step_yields_the_cross_entropy_once():
    task = make(label_smoothing=0.1)
    batch = next(task.batches(0))
    ((name, loss),) = task.updates(batch)
    assert name == "network"
    expected = F.cross_entropy(task.network(batch.images), batch.labels, label_smoothing=0.1)
    assert torch.equal(loss, expected)


def test_evaluation_agrees_with_the_obvious_way():
    task = make(eval_batch_size=7)
    fit(task, partial(torch.optim.SGD, lr=0.1), epochs=1)
    for split, samples in (("val", DATA.val), ("test", DATA.test)):
        measured = task.evaluate(split)
        task.network.eval()
        logits = task.network(DATA.normalise(samples).images)
        right = int((logits.argmax(1) == samples.labels).sum())
        assert measured["accuracy"] == 100 * right / len(samples)
        assert measured["loss"] == pytest.approx(F.cross_entropy(logits, samples.labels).item(), rel=1e-5)


class Wrong(nn.Module):
    """Returns what `result` makes of right logits."""

    def __init__(self, *, in_channels, classes, result):
        super().__init__()
        self.fc, self.result = nn.Linear(64 * in_channels, classes), result

    def forward(self, x):
        return self.result(self.fc(x.flatten(1)))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"build": vgg11}, r"model=VGG: does not fit images of 1×8×8: .*too small"),
        (
            {"build": partial(Wrong, result=lambda logits: logits[:, :9])},
            r"\(1, 10\) for images of 1×8×8; it returns \(1, 9\)",
        ),
        ({"build": partial(Wrong, result=lambda logits: logits[0])}, r"model=Wrong: .*it returns \(10,\)"),
        ({"build": partial(Wrong, result=lambda logits: (logits, logits))}, "it returns tuple"),
        ({"build": partial(SmallCNN, widht=3)}, r"model\.networks\.network=SmallCNN\(widht=3\): "),
        ({"build": partial(SmallCNN, width="big")}, r"model\.networks\.network=SmallCNN\(width=big\)"),
        ({"build": partial(SmallCNN, width=-1)}, r"model\.networks\.network=SmallCNN\(width=-1\)"),
        ({"batch_size": 0}, r"trainer\.batch_size=0: from 1 to the 898 training samples"),
        ({"batch_size": -1}, r"trainer\.batch_size=-1"),
        ({"batch_size": 899}, r"trainer\.batch_size=899"),
        ({"networks": {}}, r"model\.networks=\[\]: classification takes one network, named network"),
        ({"networks": {"generator": SMALL}}, r"model\.networks=\['generator'\]"),
        ({"networks": {"network": SMALL, "other": SMALL}}, r"model\.networks=\['network', 'other'\]"),
        ({"label_smoothing": -0.1}, r"task\.factory\.label_smoothing=-0\.1"),
        ({"label_smoothing": 1.0}, r"task\.factory\.label_smoothing"),
        ({"label_smoothing": "some"}, r"task\.factory\.label_smoothing"),
    ],
)
def test_what_does_not_fit_is_refused(arguments, said):
    with pytest.raises(ConfigError, match=f"^[^\n]*{said}[^\n]*$"):
        make(**arguments)
    assert make(batch_size=898).steps_per_epoch == 1  # the whole training set fits
