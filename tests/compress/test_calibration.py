import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from qp_runner.compress import CalibrationError, choose_scale
from qp_runner.compress.calibration import check_finite, clip_quantiles, squared_error

rows = st.lists(
    st.one_of(
        st.just(0.0),
        st.floats(-1, 1, width=32),
        st.floats(-(2.0**-10), 2.0**-10, width=32),
        st.floats(-300, 300, width=32),
    ),
    min_size=1,
    max_size=50,
)


def error(values: list[float], scale: float, bits: int) -> float:
    """The squared error, one value after another."""
    low, high = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
    return sum((scale * min(max(round(v / scale), low), high) - v) ** 2 for v in values)


@settings(max_examples=100)
@given(values=rows, bits=st.integers(2, 10))
def test_the_power_of_two_is_the_best_there_is(values, bits):
    scale = choose_scale(torch.tensor([values]), bits=bits, kind="power_of_two").item()
    least = min(error(values, 2.0**-d, bits) for d in range(-12, 60))
    assert error(values, scale, bits) <= least * (1 + 1e-5) + 1e-30
    assert torch.frexp(torch.tensor(scale)).mantissa.item() == 0.5


@settings(max_examples=60)
@given(values=rows, bits=st.integers(2, 8))
def test_the_float_scale_is_never_worse(values, bits):
    data = torch.tensor([values])
    chosen = [squared_error(data, choose_scale(data, bits=bits, kind=kind), bits) for kind in ("power_of_two", "float")]
    assert chosen[1] <= chosen[0]


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_the_float_scale_is_near_the_best_of_a_dense_search(bits):
    data = torch.randn(1, 4000, generator=torch.Generator().manual_seed(bits))
    found = squared_error(data, choose_scale(data, bits=bits, kind="float"), bits).item()
    dense = min(squared_error(data, torch.tensor([s]), bits).item() for s in torch.logspace(-3, 0.6, 1500).tolist())
    assert found <= dense * 1.005


def test_one_outlier_among_many_values_is_clamped():
    data = torch.cat([torch.linspace(-0.1, 0.1, 100_000), torch.tensor([10.0])])[None]
    scale = choose_scale(data, bits=4, kind="power_of_two").item()
    assert scale * 7 < 0.2  # a scale without clamping would be 2: every other value would become zero
    assert error(data[0].tolist(), scale, 4) == pytest.approx(
        min(error(data[0].tolist(), 2.0**-d, 4) for d in range(-2, 14))
    )


@pytest.mark.parametrize("kind", ["power_of_two", "float"])
def test_rows_are_independent_and_a_row_of_zeros_gets_one(kind):
    data = (
        torch.randn(5, 64, generator=torch.Generator().manual_seed(0))
        * torch.tensor([1e-3, 0.0, 1.0, 7.0, 1e-20])[:, None]
    )
    together = choose_scale(data, bits=6, kind=kind)
    alone = torch.cat([choose_scale(row[None], bits=6, kind=kind) for row in data])
    assert torch.equal(together, alone)
    assert together[1] == 1
    assert together[4] < 1e-19


@pytest.mark.parametrize("value", [3e38, -3e38, 1e-38, -1e-45])
def test_extreme_values_get_a_usable_scale(value):
    for kind in ("power_of_two", "float"):
        scale = choose_scale(torch.tensor([[value]]), bits=8, kind=kind)
        assert torch.isfinite(scale).all()
        assert (scale > 0).all()


@settings(max_examples=60)
@given(
    values=st.lists(st.floats(-5, 5, width=32), min_size=1, max_size=30), low=st.floats(0, 0.4), high=st.floats(0.6, 1)
)
def test_quantiles_clip_to_order_statistics(values, low, high):
    ordered = sorted(values)
    position = high * (len(values) - 1)
    bottom, top = ordered[int(low * (len(values) - 1))], ordered[int(position) + (position > int(position))]
    clipped = clip_quantiles(torch.tensor([values]), (low, high))[0].tolist()
    assert clipped == [min(max(v, bottom), top) for v in values]


def test_non_finite_values_are_refused_with_the_sites_name():
    with pytest.raises(CalibrationError, match=r"site layers\.3\.relu"):
        check_finite(torch.tensor([1.0, float("nan")]), "layers.3.relu")
