import pytest
import torch

from qp_runner.compress import CalibrationError
from qp_runner.compress.observers import MeanMagnitude, Subsample
from qp_runner.errors import ConfigError

X = torch.randn(12, 3, 4, 5, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("split", [1, 5, 12])
def test_streaming_mean_equals_the_mean_over_all_samples(split):
    observer = MeanMagnitude("relu", "element")
    for batch in X.split(split):
        observer(batch)
    expected = torch.zeros(3, 4, 5, dtype=torch.float64)
    for sample in X:
        expected += sample.abs().double() / 12
    torch.testing.assert_close(observer.result(), expected, rtol=1e-12, atol=0)


def test_channel_mean_takes_samples_of_any_size_and_weighs_them_equally():
    observer = MeanMagnitude("relu", "channel")
    observer(X)
    observer(X[:, :, :2, :1])
    per_sample = [x.abs().double().mean(dim=(1, 2)) for x in [*X, *X[:, :, :2, :1]]]
    torch.testing.assert_close(observer.result()[:, 0, 0], sum(per_sample) / 24)
    assert observer.result().shape == (3, 1, 1)


def test_a_sample_of_another_shape_asks_for_channel_granularity():
    observer = MeanMagnitude("layers.1.relu", "element")
    observer(X)
    with pytest.raises(ConfigError, match=r"layers\.1\.relu.*compress\.granularity=channel"):
        observer(X[:, :, :2])


@pytest.mark.parametrize("observer", [MeanMagnitude("relu", "element"), Subsample("relu", 100)])
def test_a_module_that_is_never_called_and_bad_values_are_refused(observer):
    with pytest.raises(ConfigError, match=r"model\.sites\.activation=relu.*no part"):
        observer.result()
    with pytest.raises(CalibrationError, match="site relu"):
        observer(torch.tensor([[float("inf")], [float("nan")]]))
    with pytest.raises(ConfigError, match=r"^model\.sites\.activation=relu: infinite output of relu"):
        observer(torch.tensor([[float("-inf")], [float("inf")]]))


def test_everything_is_kept_while_it_fits():
    observer = Subsample("relu", X.numel())
    for batch in X.split(5):
        observer(batch)
    assert torch.equal(observer.result(), X.flatten())


def test_a_long_stream_leaves_a_bounded_deterministic_fair_sample():
    stream = torch.linspace(0, 1, 200_000)
    global_state = torch.get_rng_state()

    def sample(site: str) -> torch.Tensor:
        observer = Subsample(site, 4096)
        for batch in stream.split(7777):
            observer(batch)
        return observer.result()

    kept = sample("relu")
    assert 1024 <= kept.numel() <= 4096
    assert kept.unique().numel() == kept.numel()  # no value twice
    assert torch.equal(kept, sample("relu"))
    assert not torch.equal(kept, sample("other"))
    uniform = (torch.arange(kept.numel()) + 0.5) / kept.numel()
    assert (kept.sort().values - uniform).abs().max() < 0.05  # early and late values alike
    assert torch.equal(torch.get_rng_state(), global_state)
