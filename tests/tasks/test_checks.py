import pytest

from qp_runner.errors import ConfigError
from qp_runner.tasks.checks import check_batch_size, check_data, check_networks, fitting


def test_what_fits_passes() -> None:
    check_data(1, int, task="t", such_as="one")
    check_networks({"b": 0, "a": 0}, ("a", "b"), task="t")
    check_batch_size(5, 5, of="images")
    assert fitting("net", "images", lambda: 3) == 3


def test_data_of_another_type_are_refused() -> None:
    with pytest.raises(ConfigError, match="data=str: t takes int: data=one, two"):
        check_data("x", int, task="t", such_as="one, two")


@pytest.mark.parametrize("given", [[], ["a"], ["a", "b", "c"], ["a", "c"]])
def test_other_networks_are_refused(given: list[str]) -> None:
    with pytest.raises(ConfigError, match="t takes networks named a, b"):
        check_networks(given, ("a", "b"), task="t")


@pytest.mark.parametrize("size", [0, -1, 6])
def test_a_batch_that_cannot_be_is_refused(size: int) -> None:
    with pytest.raises(ConfigError, match=r"trainer\.batch_size.*from 1 to the 5 training images"):
        check_batch_size(size, 5, of="images")


@pytest.mark.parametrize("error", [RuntimeError, ValueError, IndexError, TypeError])
def test_a_network_that_fails_is_to_blame_in_one_line(error: type[Exception]) -> None:
    def forward() -> None:
        raise error("no room\nand more")

    with pytest.raises(ConfigError, match=r"model=net: does not fit images of 3×2: no room$"):
        fitting("net", "images of 3×2", forward)
