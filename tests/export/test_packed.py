"""A packed file gives the same network back, whatever it is, and takes what the footprint says."""

import copy
import json
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load, save
from torch import nn

from qp_runner.compress import measure
from qp_runner.export.container import FORMAT, PackedError
from qp_runner.export.contents import contents
from qp_runner.export.loading import load_packed
from qp_runner.export.packed import save_packed
from qp_runner.export.unpacked import read_packed
from qp_runner.models import SmallCNN, resnet20
from qp_runner.run.build import build
from qp_runner.schedule import Op, Target
from tiny import TINY, tiny_config

X = torch.randn(6, 3, 12, 12, generator=torch.Generator().manual_seed(3))


def convolutions(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.ConvTranspose2d(8, 12, 3, groups=4),
        nn.ReLU(),
        nn.Conv2d(12, 6, 3, groups=3),
        nn.Flatten(),
        nn.Linear(6 * 10 * 10, 5),
    )


class Shared(nn.Module):
    """One weight and one module with two names, two calls of a function."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 3, 3, padding=1), nn.Conv2d(3, 3, 3, padding=1)
        self.second.weight = self.first.weight
        self.again = self.second

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.first(x))
        return torch.relu(self.again(self.second(x))) + x


class Chain(nn.Sequential):
    """Calls its children one after the other, and functions behind them."""

    def __init__(self) -> None:
        super().__init__(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(super().forward(x)) * 2


class Parametrized(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.utils.parametrizations.weight_norm(nn.Conv2d(3, 4, 3))
        self.spectral = nn.utils.parametrizations.spectral_norm(nn.Conv2d(4, 4, 3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.spectral(torch.relu(self.conv(x)))


def there_and_back(make: Callable[[], nn.Module], compressor, network: nn.Module, path: Path) -> nn.Module:
    save_packed(path, {"network": contents(compressor, network)})
    torch.manual_seed(99)  # a fresh network has other weights
    return load_packed(path, make())


@pytest.mark.parametrize("scale", ["power_of_two", "float"])
@pytest.mark.parametrize("bits", [*range(2, 17), 32])
def test_every_width_and_scale_comes_back(tmp_path: Path, compressed, bits: int, scale: str) -> None:
    network = convolutions()
    compressor = compressed(network, X, bits=bits, scale=scale)
    loaded = there_and_back(lambda: convolutions(9), compressor, network, tmp_path / "net.safetensors")
    assert torch.equal(loaded(X), network(X))
    assert torch.equal(loaded(-3 * X), network(-3 * X))
    baked = compressor.bake(network).state_dict()
    assert all(torch.equal(loaded.state_dict()[name], each) for name, each in baked.items())


@pytest.mark.parametrize(("sparsity", "form"), [(0.0, "dense"), (0.5, "bitmask"), (0.98, "index")])
def test_every_form_comes_back(tmp_path: Path, compressed, sparsity: float, form: str) -> None:
    network = convolutions()
    compressor = compressed(network, X, sparsity=sparsity, granularity="channel")
    path = tmp_path / "net.safetensors"
    loaded = there_and_back(lambda: convolutions(9), compressor, network, path)
    assert read_packed(path)["network"].weights["7.weight"].entry.form == form
    assert torch.equal(loaded(X), network(X))


@pytest.mark.parametrize("make", [Shared, Parametrized, Chain, lambda: resnet20(in_channels=3, classes=4)])
def test_networks_that_share_or_compute_weights_come_back(tmp_path: Path, compressed, make) -> None:
    torch.manual_seed(1)
    network = make()
    compressor = compressed(network, X)
    loaded = there_and_back(make, compressor, network, tmp_path / "net.safetensors")
    assert torch.equal(loaded(X), network(X))


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
@pytest.mark.parametrize("bits", [5, 32])
def test_other_types_come_back(tmp_path: Path, compressed, dtype: torch.dtype, bits: int) -> None:
    network = convolutions().to(dtype)
    compressor = compressed(network, X.to(dtype), bits=bits)
    loaded = there_and_back(lambda: convolutions(9).to(dtype), compressor, network, tmp_path / "net.safetensors")
    assert torch.equal(loaded(X.to(dtype)), network(X.to(dtype)))


@pytest.mark.parametrize("fires", [(Op.PRUNE, Target.WEIGHT), (Op.QUANTIZE, Target.ACTIVATION)])
def test_what_is_not_compressed_comes_back_too(tmp_path: Path, compressed, fires) -> None:
    network = convolutions()
    compressor = compressed(network, X, fires={fires})
    loaded = there_and_back(lambda: convolutions(9), compressor, network, tmp_path / "net.safetensors")
    assert torch.equal(loaded(X), network(X))


@pytest.mark.parametrize("task", list(TINY))
def test_the_networks_of_every_task_come_back(tmp_path: Path, stage, task: str) -> None:
    parts, fresh = build(tiny_config(task)), build(tiny_config(task, "seed=1"))
    made, sample = parts.task, parts.task.sample()
    parts.compressor.enter(stage(0.5, 6), run=lambda: made.infer(sample))
    networks = {name: network.eval() for name, network in made.compressible().items()}
    save_packed(
        tmp_path / "nets.safetensors", {name: contents(parts.compressor, each) for name, each in networks.items()}
    )
    fresh.compressor.detach()
    for name, network in networks.items():
        loaded = load_packed(tmp_path / "nets.safetensors", fresh.task.compressible()[name], name=name)
        [(args, output)] = _calls(network, lambda: made.infer(sample))
        with torch.no_grad():
            again = loaded(*args)
        assert _tensors(again)
        assert all(torch.equal(a, b) for a, b in zip(_tensors(again), _tensors(output), strict=True))


def _calls(network: nn.Module, run: Callable[[], object]) -> list:
    seen: list = []
    handle = network.register_forward_hook(lambda _m, args, output: seen.append((args, output)))
    with torch.no_grad():
        run()
    handle.remove()
    return seen[:1]


def _tensors(output: Any) -> list[torch.Tensor]:
    if isinstance(output, torch.Tensor):
        return [output]
    values = output.values() if isinstance(output, dict) else output
    return [tensor for each in values for tensor in _tensors(each)]


@pytest.mark.parametrize("scale", ["power_of_two", "float"])
@pytest.mark.parametrize("bits", [2, 4, 8, 12, 32])
@pytest.mark.parametrize("sparsity", [0.0, 0.5, 0.97])
def test_a_file_takes_what_the_footprint_says(tmp_path: Path, compressed, bits: int, sparsity: float, scale) -> None:
    torch.manual_seed(0)
    network = SmallCNN(in_channels=3, classes=10)
    compressor = compressed(network, X, bits=bits, sparsity=sparsity, scale=scale)
    sizes = save_packed(tmp_path / "net.safetensors", {"network": contents(compressor, network)})
    stored = measure(compressor, kind="stored").weight * 1e6 / 8
    sites = len(compressor.sites(Target.WEIGHT))
    assert 0 <= sizes["codes"] + sizes["scales"] + sizes["floats"] - stored < 2 * sites
    whole = (tmp_path / "net.safetensors").stat().st_size
    assert whole == sum(sizes.values())
    assert whole - sizes["buffers"] - sizes["masks"] - stored <= max(1000, 0.01 * stored)


def _edited(path: Path, edit: Callable[[dict], None]) -> None:
    """Writes a file with an edited index."""
    arrays = load(path.read_bytes())
    index = json.loads(zlib.decompress(arrays["index"].tobytes()))
    edit(index["network"])
    arrays["index"] = np.frombuffer(zlib.compress(json.dumps(index).encode()), np.uint8)
    path.write_bytes(save(arrays, {"format": FORMAT, "version": "1"}))


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda index: index["weights"][0].update(shape=[8, 3, 10**9, 10**9]), "too early"),
        (lambda index: index["weights"][0].update(shape=[10**9, 10**9], form="index", kept=0, bits=32), "7 bytes|many"),
        (lambda index: index["weights"][0].update(kept=7), "too many"),
        (lambda index: index["weights"][0].update(form="pickle"), "a bad entry: form=pickle"),
        (lambda index: index["weights"][0].update(bits="8"), "a bad entry: bits=8"),
        (lambda index: index["weights"][0].update(groups=0), "a bad entry: groups=0"),
        (lambda index: index["weights"][0].update(axis=9), "out of range"),
        (lambda index: index["weights"][0].update(shape=None), "a bad entry: shape=None"),
        (lambda index: index["weights"][0].update(file="a"), "a bad entry: file=a"),
        (lambda index: index["parameters"][0].update(dtype=["float32"]), "a bad entry: dtype="),
        (lambda index: index["parameters"][0].update(dtype="uint128"), "numbers of type uint128"),
        (lambda index: index["results"][0].update(bits=10**30), "a bad entry: bits=1000"),
        (lambda index: index["results"][0].update(scale="1"), "a bad entry: scale=1"),
        (lambda index: index["results"][0].update(scale=float("nan")), "a bad entry: scale=nan"),
        (lambda index: index["results"][0].update(mask={}), "a bad entry: mask={}"),
        (lambda index: index["results"][0].update(name="__class__"), "does not fit the network"),
        (
            lambda index: [each.update(name="relu", count=1 + n, number=n) for n, each in enumerate(index["results"])],
            "fit",
        ),
        (lambda index: index["parameters"].pop(), "bytes of data too many"),
        (lambda index: index["parameters"][0].update(dtype="object"), "numbers of type object"),
        (lambda index: index.update(weights="no"), "damaged"),
    ],
)
def test_a_damaged_index_is_one_line(tmp_path: Path, compressed, edit, message: str) -> None:
    network, path = convolutions(), tmp_path / "net.safetensors"
    save_packed(path, {"network": contents(compressed(network, X), network)})
    _edited(path, edit)
    with pytest.raises(PackedError, match=message) as caught:
        load_packed(path, convolutions(9))
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_other_files_and_other_networks_are_refused(tmp_path: Path, compressed) -> None:
    network, path = convolutions(), tmp_path / "net.safetensors"
    save_packed(path, {"network": contents(compressed(network, X), network)})
    other = convolutions()
    other[7] = nn.Linear(600, 6)
    with pytest.raises(PackedError, match=r"7.weight is float32 \[5, 600\] in the file, float32 \[6, 600\] in the"):
        load_packed(path, other)
    with pytest.raises(PackedError, match="Sequential has no attribute"):
        load_packed(path, other[:2])
    with pytest.raises(PackedError, match="name=other: one of network"):
        load_packed(path, convolutions(), name="other")
    whole = path.read_bytes()
    path.write_bytes(whole[:-5])
    with pytest.raises(PackedError, match="damaged"):
        load_packed(path, convolutions())
    path.write_bytes(save({"a": np.zeros(3)}))
    with pytest.raises(PackedError, match="no packed file"):
        load_packed(path, convolutions())
    path.write_bytes(struct.pack("<Q", 2) + b"no")
    with pytest.raises(PackedError, match="no packed file"):
        load_packed(path, convolutions())
    path.write_bytes(save(load(whole), {"format": FORMAT, "version": "9"}))
    with pytest.raises(PackedError, match="version 9, this program reads version 1"):
        load_packed(path, convolutions())


def test_reading_needs_no_torch(tmp_path: Path, compressed) -> None:
    network, path = convolutions(), tmp_path / "net.safetensors"
    compressor = compressed(network, X)
    save_packed(path, {"network": contents(compressor, network)})
    program = (
        "import sys, pathlib, numpy; from qp_runner.export.unpacked import read_packed; "
        "[network] = read_packed(pathlib.Path(sys.argv[1])).values(); "
        "numpy.save(sys.argv[2], network.weights['0.weight'].value()); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program, str(path), str(tmp_path / "w.npy")], check=True)
    assert np.array_equal(np.load(tmp_path / "w.npy"), compressor.bake(network)[0].weight.detach().numpy())


def test_a_loaded_network_can_be_copied_and_moved(tmp_path: Path, compressed) -> None:
    network = Shared()
    compressor = compressed(network, X)
    loaded = there_and_back(Shared, compressor, network, tmp_path / "net.safetensors")
    copied = copy.deepcopy(loaded)
    assert torch.equal(copied(X), network(X))
    masks = [each for name, each in loaded.to("meta").named_buffers() if name.endswith("mask")]
    assert masks
    assert all(each.is_meta for each in masks)
    assert torch.equal(copied(X), network(X))
