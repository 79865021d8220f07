"""Values written as plain data come back the same, in the objects that had their places."""

import random
from collections import Counter, OrderedDict, deque
from typing import Any

import numpy as np
import pytest
import torch

from qp_runner.compress.plain import Reference, is_plain, read, same, write
from qp_runner.training.checkpoint_file import decode, encode

VALUES: dict[str, Any] = {
    "numbers": [None, True, 3, 2**80, 0.1, float("nan"), float("inf"), "text", b"bytes", b"", 1 + 2j],
    "tensors": {"a": torch.rand(2, 3), "b": torch.ones((), dtype=torch.int8), "c": torch.zeros(0).bfloat16()},
    "arrays": (np.arange(6).reshape(2, 3), np.float32(1.5), np.array(["a", "b"])),
    "containers": OrderedDict(a=deque([1], maxlen=2), b=Counter("aab"), c={1, 2}, d=frozenset("x"), e=torch.Size([1])),
    "settings": [torch.float16, torch.device("cpu")],
    "generators": [torch.Generator().manual_seed(3), np.random.default_rng(3), random.Random(3)],
    "legacy": [np.random.RandomState(3)],
    "keys": {1: "a", (1, 2): "b", None: "c"},
}  # fmt: skip


@pytest.mark.parametrize("name", VALUES)
def test_a_value_survives_a_checkpoint(name: str) -> None:
    written = write(VALUES[name])
    assert is_plain(written)
    stored = decode(encode({"it": written}))["it"]
    back = read(stored)
    assert type(back) is type(VALUES[name])
    assert same(write(back), written)


def test_it_is_a_copy() -> None:
    value = {"a": torch.zeros(2), "b": [1]}
    written = write(value)
    value["a"].fill_(1)
    value["b"].append(2)
    assert not same(write(value), written)
    assert read(written)["a"].tolist() == [0, 0]


def test_objects_that_can_take_a_value_keep_their_places() -> None:
    inner = torch.zeros(2)
    value = {"list": [inner, 1], "set": {1}, "array": np.zeros(2), "random": random.Random(0)}
    parts = dict(value)
    written = write(value)
    inner.fill_(1)
    value["list"].append(3)
    value["set"].add(2)
    value["array"][0] = 5
    value["random"].random()
    value["new"] = 1
    assert read(written, value) is value
    assert same(write(value), written)
    assert all(value[name] is parts[name] for name in ("set", "array", "random", "list"))
    value["list"][0].fill_(2)
    assert read(written, value)["list"][0] is value["list"][0]


@pytest.mark.parametrize("value", [object(), [object()], {"a": lambda: 1}, [[print]]])
def test_what_is_not_plain_is_told_by_identity(value: object) -> None:
    written = write(value)
    assert not is_plain(written)
    assert same(write(value), written)
    assert not same(write(object()), write(object()))


def test_a_list_in_itself_is_no_plain_value() -> None:
    value: list[Any] = []
    value.append(value)
    assert not is_plain(write(value))


def test_tensors_of_another_kind_are_replaced() -> None:
    written = write(torch.ones(2))
    for current in (torch.zeros(3), torch.zeros(2, dtype=torch.int64), torch.zeros(1).expand(2), None):
        assert read(written, current).tolist() == [1, 1]
    assert same(written, write(torch.ones(2)))
    assert not same(written, write(torch.ones(2, dtype=torch.float64)))
    assert isinstance(write(torch.ones(1), tensor=Reference), Reference)
