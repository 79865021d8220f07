from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from qp_runner.data import digits
from qp_runner.errors import ConfigError
from qp_runner.models import SmallCNN, vgg11
from qp_runner.tasks import ClassificationTask

DATA = digits()
SMALL = partial(SmallCNN, width=4)


def make(build=SMALL, **arguments):
    return ClassificationTask(**{"data": DATA, "networks": {"network": build}, "batch_size": 64, "seed": 0} | arguments)


def train(task, optimizer, epochs):
    for epoch in range(epochs):
        task.network.train()
        for batch in task.batches(epoch):
            for _, loss in task.updates(batch):
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()


def refused(build=SMALL, **arguments):
    with pytest.raises(ConfigError) as caught:
        make(build, **arguments)
    assert "\n" not in str(caught.value)
    return caught.value


@pytest.mark.parametrize(
    "optimizer",
    [partial(torch.optim.SGD, lr=0.1, momentum=0.9, weight_decay=5e-4), partial(torch.optim.Adam, lr=3e-3)],
    ids=["sgd", "adam"],
)
def test_the_small_cnn_learns_the_digits(optimizer):
    task = make(partial(SmallCNN, width=6))
    untrained = task.evaluate("test")
    train(task, optimizer(task.network.parameters()), epochs=8)
    trained = task.evaluate("test")
    assert untrained["accuracy"] < 30
    assert trained["accuracy"] >= 95
    assert trained["loss"] < 0.3 < untrained["loss"]


def test_a_step_yields_the_cross_entropy_once():
    task = make(label_smoothing=0.1)
    batch = next(task.batches(0))
    assert batch.images.shape == (64, 1, 8, 8)
    ((name, loss),) = task.updates(batch)
    assert name == "network"
    assert set(task.parameter_groups()) == set(task.networks()) == set(task.compressible()) == {name}
    expected = F.cross_entropy(task.network(batch.images), batch.labels, label_smoothing=0.1)
    assert torch.equal(loss, expected)


def test_an_epoch_has_as_many_steps_as_said():
    task = make(batch_size=100)
    assert task.steps_per_epoch == 8 == len(list(task.batches(0)))


def test_evaluation_agrees_with_the_obvious_way():
    task = make(eval_batch_size=7)
    train(task, torch.optim.SGD(task.network.parameters(), lr=0.1), epochs=1)
    for split, samples in (("val", DATA.val), ("test", DATA.test)):
        measured = task.evaluate(split)
        task.network.eval()
        logits = task.network(DATA.normalise(samples).images)
        right = int((logits.argmax(1) == samples.labels).sum())
        assert measured["accuracy"] == 100 * right / len(samples)
        assert measured["loss"] == pytest.approx(F.cross_entropy(logits, samples.labels).item(), rel=1e-5)


def test_building_leaves_the_network_as_it_was_made():
    network = make().network
    assert all(module.training for module in network.modules())
    assert network.bn1.num_batches_tracked == 0
    assert all(parameter.grad is None for parameter in network.parameters())


def test_batches_and_calibration_depend_on_seed_and_epoch():
    one, same, other = make(seed=1), make(seed=1), make(seed=2)
    train(one, torch.optim.SGD(one.network.parameters(), lr=0.1), epochs=1)  # training makes no difference
    for ours, theirs in zip(one.batches(5), same.batches(5), strict=True):
        assert torch.equal(ours.images, theirs.images)
    assert not torch.equal(next(one.batches(5)).labels, next(other.batches(5)).labels)
    assert not torch.equal(next(one.batches(5)).labels, next(one.batches(6)).labels)
    drawn = [batch.labels for batch in one.calibration_batches(samples=100, batch_size=40)]
    assert [len(part) for part in drawn] == [40, 40, 20]
    again = same.calibration_batches(samples=100, batch_size=40)
    assert all(torch.equal(a, b.labels) for a, b in zip(drawn, again, strict=True))


def test_a_sample_is_one_image_that_the_network_takes():
    task = make()
    assert task.sample().images.shape == (1, 1, 8, 8)
    seen = []
    task.network.register_forward_hook(lambda _m, _i, out: seen.append(out.shape))
    assert task.infer(task.sample()) is None
    assert seen == [(1, 10)]


def test_moving_includes_networks_and_data():
    task = make()
    task.to(torch.device("meta"))
    assert task.sample().images.device.type == "meta"
    assert all(parameter.device.type == "meta" for parameter in task.network.parameters())


class Wrong(nn.Module):
    """Returns what `result` makes of right logits."""

    def __init__(self, *, in_channels, classes, result):
        super().__init__()
        self.fc, self.result = nn.Linear(64 * in_channels, classes), result

    def forward(self, x):
        return self.result(self.fc(x.flatten(1)))


def test_a_network_too_deep_for_the_images_is_refused_with_shapes():
    error = refused(vgg11)
    assert error.key == "model"
    assert "1×8×8" in error.allowed
    assert "too small" in error.allowed


@pytest.mark.parametrize(
    ("result", "said"),
    [
        (lambda logits: logits[:, :9], "it returns (1, 9)"),
        (lambda logits: logits[0], "it returns (10,)"),
        (lambda logits: (logits, logits), "it returns tuple"),
    ],
)
def test_a_network_that_returns_something_else_is_refused(result, said):
    error = refused(partial(Wrong, result=result))
    assert error.key == "model"
    assert "[n, 10] for images of 1×8×8" in error.allowed
    assert said in error.allowed


@pytest.mark.parametrize(
    ("arguments", "shown"), [({"widht": 3}, "widht=3"), ({"width": "big"}, "width=big"), ({"width": -1}, "width=-1")]
)
def test_wrong_arguments_of_a_model_are_refused(arguments, shown):
    error = refused(partial(SmallCNN, **arguments))
    assert error.key == "model.networks.network"
    assert error.value == f"SmallCNN({shown})"


@pytest.mark.parametrize("size", [0, -1, 899])
def test_an_impossible_batch_size_is_refused(size):
    error = refused(batch_size=size)
    assert error.key == "trainer.batch_size"
    assert "898" in error.allowed


def test_a_batch_may_be_the_whole_training_set():
    assert make(batch_size=898).steps_per_epoch == 1


@pytest.mark.parametrize("names", [[], ["generator"], ["network", "other"]])
def test_one_network_is_needed(names):
    assert refused(networks=dict.fromkeys(names, SMALL)).key == "model.networks"


@pytest.mark.parametrize("value", [-0.1, 1.0, "some"])
def test_label_smoothing_is_a_share(value):
    assert refused(label_smoothing=value).key == "task.factory.label_smoothing"
