import pytest
from torch import nn

from qp_runner.compress.selection import SiteSelection, select
from qp_runner.errors import ConfigError

NETWORK = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.ReLU(), nn.Sequential(nn.Linear(2, 2), nn.ReLU()))


def paths(selection, networks=None):
    found = select(networks or {"net": NETWORK}, selection)
    return [p.path for p in found.weights], [p.path for p in found.activations]


def test_weights_are_those_of_convolutions_and_linear_layers():
    assert paths(SiteSelection(("*",), ())) == (["0.weight", "3.0.weight"], [])


def test_activations_are_modules_outputs():
    assert paths(SiteSelection((), ("2", "3.1"))) == ([], ["2", "3.1"])


def test_unpruned_marks_sites_of_both_kinds():
    found = select({"net": NETWORK}, SiteSelection(("*",), ("2",), ("0.weight", "2")))
    assert [place.prunable for place in found.weights + found.activations] == [False, True, False]


@pytest.mark.parametrize(
    ("selection", "message"),
    [
        (SiteSelection(("conv*",), ()), r"^model\.sites\.weight=conv\*: matches nothing .*0\.weight"),
        (SiteSelection(("1.weight",), ()), r"^model\.sites\.weight=1\.weight: .*0\.weight"),
        (SiteSelection((), ("3.2",)), r"^model\.sites\.activation=3\.2: .*3\.[01]"),
        (SiteSelection(("0.*",), (), ("3.0.weight",)), r"^model\.sites\.unpruned=3\.0\.weight: .*0\.weight"),
    ],
)
def test_a_glob_that_matches_nothing_names_what_is_near(selection, message):
    with pytest.raises(ConfigError, match=message):
        paths(selection)


def test_a_module_or_weight_with_several_names_is_one_site_that_any_name_finds():
    relu, linear = nn.ReLU(), nn.Linear(2, 2)
    network = nn.Sequential(linear, relu, nn.Linear(2, 2), relu, linear, nn.Linear(2, 2))
    network[5].weight = network[2].weight
    assert paths(SiteSelection(("*",), ("*",)), {"net": network}) == (
        ["0.weight", "2.weight"],
        ["0", "1", "2", "5"],
    )
    for weight, activation in (("0.weight", "1"), ("4.weight", "3")):
        assert paths(SiteSelection((weight,), (activation,)), {"net": network}) == (["0.weight"], ["1"])
    found = select({"net": network}, SiteSelection(("2.weight",), ("1",), ("5.weight", "3")))
    assert [place.prunable for place in found.weights + found.activations] == [False, False]
    assert found.weights[0].users == ((network[2], "weight"), (network[5], "weight"))


def test_a_weight_that_something_else_reads_as_it_is_can_be_no_site():
    class Transposed(nn.Module):
        def __init__(self):
            super().__init__()
            self.encode = nn.Linear(3, 2)
            self.decode = nn.Module()
            self.decode.matrix = self.encode.weight

    network = Transposed()
    with pytest.raises(ConfigError, match=r"^model\.sites\.weight=encode\.weight: .*decode\.matrix.*leave it out"):
        select({"net": network}, SiteSelection(("*",), ()))
    network.matrix = network.encode.weight
    network.decode.matrix = None
    with pytest.raises(ConfigError, match=r"^model\.sites\.weight=encode\.weight: .* matrix, the same"):
        select({"net": network}, SiteSelection(("*",), ()))


def test_weights_that_are_not_trained_are_left_alone_and_named():
    network = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 2))
    network[0].requires_grad_(False)
    found = select({"net": network}, SiteSelection(("*",), (), ("0.weight",)))
    assert [each.path for each in found.weights] == ["1.weight"]
    assert [(each.path, each.reason) for each in found.skipped] == [("0.weight", "frozen")]
    found = select({"net": network}, SiteSelection(("*",), (), ("0.weight",), frozen=True))
    assert [(each.path, each.prunable) for each in found.weights] == [("0.weight", False), ("1.weight", True)]
    assert not found.skipped


@pytest.mark.filterwarnings("ignore:Initializing zero-element tensors")
def test_weights_without_elements_or_without_a_shape_are_refused():
    for layer, message in [
        (nn.Conv2d(3, 0, 3), r"has no elements \(shape \[0, 3, 3, 3\]\)"),
        (nn.Linear(0, 4), r"has no elements \(shape \[4, 0\]\)"),
        (nn.LazyLinear(4), "must have a shape"),
    ]:
        network = nn.Sequential(nn.ReLU(), layer)
        with pytest.raises(ConfigError, match=rf"^model\.sites\.weight=1\.weight: {message}"):
            select({"net": network}, SiteSelection(("*",), ()))
