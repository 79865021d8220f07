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
