import pytest
import torch
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


def test_a_weight_is_one_site_under_all_names_that_modules_have_for_it():
    network = nn.Module()
    network.encode = nn.Linear(3, 2)
    network.matrix = network.encode.weight
    for glob in ("matrix", "encode.weight", "*"):
        (place,) = select({"net": network}, SiteSelection((glob,), ())).weights
        assert place.path == "matrix"
        assert place.users == ((network, "matrix"), (network.encode, "weight"))


def test_every_matrix_of_any_module_can_be_a_weight():
    layers = {"lstm": nn.LSTM(2, 3), "table": nn.Embedding(4, 2), "attention": nn.MultiheadAttention(4, 2)}
    network = nn.ModuleDict(layers)
    network.token = nn.Parameter(torch.zeros(1, 1, 4))
    network.scale = nn.Parameter(torch.zeros(4))
    assert paths(SiteSelection(("*",), ()), {"net": network})[0] == [
        "token",
        "lstm.weight_ih_l0",
        "lstm.weight_hh_l0",
        "table.weight",
        "attention.in_proj_weight",
        "attention.out_proj.weight",
    ]


@pytest.mark.parametrize("arguments", [{"max_norm": 1.0}, {"sparse": True}])
def test_embeddings_that_change_or_skip_their_parameter_are_refused(arguments):
    network = nn.Sequential(nn.Embedding(4, 2, **arguments), nn.Linear(2, 2))
    with pytest.raises(ConfigError, match=r"^model\.sites\.weight=0\.weight: is an embedding"):
        select({"net": network}, SiteSelection(("*",), ()))
    assert paths(SiteSelection(("*",), (), exclude=("0.*",)), {"net": network})[0] == ["1.weight"]


@pytest.mark.filterwarnings("ignore:`torch.nn.utils.weight_norm` is deprecated")
def test_weights_that_hooks_compute_are_refused():
    network = nn.Sequential(nn.utils.weight_norm(nn.Linear(2, 2)))
    with pytest.raises(ConfigError, match=r"^model\.sites\.weight=0\.weight_g: .*parametrizations"):
        select({"net": network}, SiteSelection(("*",), ()))


def test_what_is_excluded_is_no_site_and_bits_go_to_what_their_glob_matches():
    found = select({"net": NETWORK}, SiteSelection(("*",), ("2", "3.1"), exclude=("3.1",), bits={"3.*": 4, "*": 6}))
    assert [each.path for each in found.weights + found.activations] == ["0.weight", "3.0.weight", "2"]
    assert [each.bits for each in found.weights + found.activations] == [6, 4, 6]
    for key, selection in (
        ("exclude", SiteSelection(("*",), (), exclude=("x",))),
        ("bits", SiteSelection(("*",), (), bits={"x": 4})),
    ):
        with pytest.raises(ConfigError, match=rf"^model\.sites\.{key}=x: matches nothing"):
            select({"net": NETWORK}, selection)


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
def test_weights_without_elements_are_refused():
    for layer, message in [
        (nn.Conv2d(3, 0, 3), r"has no elements \(shape \[0, 3, 3, 3\]\)"),
        (nn.Linear(0, 4), r"has no elements \(shape \[4, 0\]\)"),
    ]:
        network = nn.Sequential(nn.ReLU(), layer)
        with pytest.raises(ConfigError, match=rf"^model\.sites\.weight=1\.weight: {message}"):
            select({"net": network}, SiteSelection(("*",), ()))
