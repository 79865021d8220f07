"""ONNX files compute what the network computes, in a runtime."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

pytest.importorskip("onnxruntime", reason="needs the extra `export`")
pytest.importorskip("onnxscript", reason="needs the extra `export`")

import onnx
import onnx_ir as ir

from qp_runner.compress import SiteSelection
from qp_runner.errors import ExportError
from qp_runner.export.contents import contents
from qp_runner.export.exact import WORTH_BITS
from qp_runner.export.onnx_file import NetworkToExport, save_onnx, sections
from qp_runner.export.patterns import is_layer
from qp_runner.export.runtime import call, flat, integer_convolutions, kernels, session
from qp_runner.export.settings import ExportSettings
from qp_runner.models import ESPCN, MobileNetV2, SmallCNN, UNetGenerator, resnet20
from qp_runner.schedule import Op, Target

WITHOUT_MASKS = {(Op.PRUNE, Target.WEIGHT), (Op.QUANTIZE, Target.WEIGHT), (Op.QUANTIZE, Target.ACTIVATION)}
RESNET = SiteSelection(("*",), ("*relu?", "fc"), ("conv1.weight", "relu1", "fc.weight", "fc"))
MOBILENET = SiteSelection(
    ("*",), ("relu1", "layers.*.relu[12]", "layers.[0-9]", "layers.1[0-9]", "relu2", "fc"), ("conv1.weight", "fc*")
)


def images(*shape: int, seed: int = 2) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def settled(network: nn.Module, x: torch.Tensor, *, negative: bool = False) -> nn.Module:
    """A network whose batch norms have seen data, some with negative factors."""
    random = torch.Generator().manual_seed(0)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5, generator=random)
            module.weight.data[::7] *= -1 if negative else 1
            nn.init.normal_(module.bias, 0, 0.2, generator=random)
    network.train()
    for _ in range(8):
        network(x)
    return network.eval()


def exported(path: Path, compressor, network: nn.Module, x: torch.Tensor, *, free=(), **settings) -> Path:
    given = NetworkToExport(network, compressor, contents(compressor, network), (x[:2],), free, [(x,)])
    save_onnx(path / "net.onnx", given, ExportSettings(("onnx",), **settings))
    return path / "net.onnx"


def outputs(
    path: Path, network: nn.Module, x: torch.Tensor, *, optimised: bool = True
) -> tuple[np.ndarray, np.ndarray]:
    """The runtime's outputs and the network's, a row for each sample."""
    with torch.no_grad():
        expected = network(x)
    return flat(call(session(path, optimised=optimised), [x.numpy()])), flat([expected.numpy()])


@pytest.mark.parametrize(
    ("bits", "scale"), [(2, "power_of_two"), (8, "power_of_two"), (8, "float"), (12, "power_of_two"), (16, "float")]
)
def test_exact_files_compute_the_same(tmp_path: Path, compressed, bits: int, scale: str) -> None:
    x = images(16, 3, 12, 12)
    network = settled(SmallCNN(in_channels=3, classes=10), x)
    compressor = compressed(network, x, bits=bits, scale=scale)
    path = exported(tmp_path, compressor, network, x)
    for optimised in (True, False):
        made, expected = outputs(path, network, x[:5], optimised=optimised)
        assert (made.argmax(1) == expected.argmax(1)).all()
        if scale == "power_of_two" and bits <= 8:
            assert np.array_equal(made, expected)
        else:
            assert (made == expected).mean() > 0.8
    assert integer_convolutions(kernels(path)) == (0, 3)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=str)
def test_exact_files_have_the_bits_of_batch_norms(tmp_path: Path, compressed, layout: torch.memory_format) -> None:
    x = (images(16, 3, 12, 12) * 16).round() / 16  # as if it were quantized, so that sums are exact
    torch.manual_seed(0)
    layers = (nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8))
    network = settled(nn.Sequential(*layers), x, negative=True).to(memory_format=layout)
    compressor = compressed(network, x, fires={(Op.QUANTIZE, Target.WEIGHT)})
    path = exported(tmp_path, compressor, network, x)
    for optimised in (True, False):
        made, expected = outputs(path, network, x, optimised=optimised)
        assert np.array_equal(made, expected)


@pytest.mark.parametrize("granularity", ["element", "channel"])
def test_espcn_computes_the_same_at_any_size(tmp_path: Path, compressed, granularity: str) -> None:
    torch.manual_seed(0)
    network, x = ESPCN(scale=3), images(8, 1, 17, 17)
    compressor = compressed(network, x, granularity=granularity)
    path = exported(tmp_path, compressor, network, x, free=[[2, 3]])
    for shape in ((3, 1, 17, 17), (1, 1, 5, 40), (2, 1, 34, 51)):
        made, expected = outputs(path, network, images(*shape))
        assert np.array_equal(made, expected)


@pytest.mark.parametrize("mode", ["exact", "int8"])
@pytest.mark.parametrize("norm", ["instance", pytest.param("batch", marks=pytest.mark.slow)])
def test_a_unet_computes_the_same(tmp_path: Path, compressed, norm: str, mode: str) -> None:
    x = images(4, 3, 32, 32)
    torch.manual_seed(0)
    network = UNetGenerator(in_channels=3, out_channels=3, width=4, depth=3, norm=norm).eval()
    compressor = compressed(network, x)
    made, expected = outputs(exported(tmp_path, compressor, network, x, mode=mode), network, x[:3])
    if mode == "exact":
        assert np.array_equal(made, expected)
    assert np.abs(made - expected).mean() < 0.01


class Product(nn.Module):
    """A product of matrices between two linear layers, as the function that is given writes it."""

    def __init__(self, product, bias: tuple[int, ...]) -> None:
        super().__init__()
        self.first, self.last, self.product = nn.Linear(12, 8), nn.Linear(8, 6), product
        self.weight, self.bias = nn.Parameter(torch.randn(8, 8) / 2), nn.Parameter(torch.rand(bias))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(torch.relu(self.product(self.bias, torch.relu(self.first(x)), self.weight)))


@pytest.mark.parametrize("float_bias", [True, False])
@pytest.mark.parametrize("bias", [(8,), (1, 8)])
@pytest.mark.parametrize(
    "product",
    [
        lambda b, x, w: nn.functional.linear(x, w, b),
        lambda b, x, w: torch.addmm(b, x, w),
        lambda b, x, w: torch.addmm(b, x, w.t(), alpha=2, beta=3),
        lambda b, x, w: torch.addmm(b, x, w.t(), beta=0),
        lambda b, x, w: torch.addmm(b, x, w, alpha=0.5),
    ],
)
def test_a_product_with_other_factors_or_another_bias_than_a_linear_layers_computes_the_same(
    tmp_path: Path, compressed, product, bias: tuple[int, ...], float_bias: bool
) -> None:
    torch.manual_seed(0)
    network, x = Product(product, bias), images(64, 12)
    compressor = compressed(network, x, sites=SiteSelection(("*weight",), None, ()))
    made, expected = outputs(exported(tmp_path, compressor, network, x, mode="int8", float_bias=float_bias), network, x)
    assert (made == expected).mean() > (0.99 if float_bias else 0.9)
    assert np.abs(made - expected).max() < 0.1


@pytest.mark.parametrize(
    ("attributes", "layer"),
    [
        ({"transB": 1}, True),
        ({"transA": 0, "transB": 1, "alpha": 1.0, "beta": 1.0}, True),
        ({}, False),
        ({"transB": 0}, False),
        ({"transB": 1, "transA": 1}, False),
        ({"transB": 1, "alpha": 2.0}, False),
        ({"transB": 1, "beta": 0.5}, False),
        ({"transB": 1, "beta": 0.0}, False),
    ],
)
def test_a_gemm_is_a_layer_only_with_the_factors_and_the_weight_of_one(attributes: dict, layer: bool) -> None:
    x, weight, bias = (ir.Value(name=name) for name in "xwb")
    node = ir.node("Gemm", [x, weight, bias], attributes)
    assert is_layer(node, weight) == layer
    assert not is_layer(node, x)
    assert not is_layer(node, bias)


def test_several_calls_and_shared_weights_compute_the_same(tmp_path: Path, compressed) -> None:
    class Shared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two = nn.Conv2d(3, 3, 3, padding=1), nn.Conv2d(3, 3, 3, padding=1)
            self.two.weight = self.one.weight
            self.up = nn.ConvTranspose2d(3, 6, 2, stride=2, groups=3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = torch.relu(self.one(x))
            return self.up(torch.relu(self.two(x)) + x)

    torch.manual_seed(0)
    network, x = Shared(), images(6, 3, 8, 8)
    compressor = compressed(network, x)
    for mode in ("exact", "int8"):
        made, expected = outputs(exported(tmp_path, compressor, network, x, mode=mode), network, x)
        assert np.allclose(made, expected, atol=0.05)
        assert (made == expected).mean() > 0.9


@pytest.mark.parametrize(("bits", "signed"), [(2, False), (3, True), (6, False), (8, False), (8, True)])
def test_int8_files_compute_nearly_the_same_by_integer_kernels(tmp_path: Path, compressed, bits: int, signed) -> None:
    x = images(16, 3, 12, 12)
    network = settled(SmallCNN(in_channels=3, classes=10), x, negative=bits < 8)
    compressor = compressed(network, x, bits=bits)
    path = exported(tmp_path, compressor, network, x, mode="int8", signed_weights=signed)
    made, expected = outputs(path, network, x)
    plain, _ = outputs(path, network, x, optimised=False)
    assert (made.argmax(1) == expected.argmax(1)).mean() >= 0.9
    assert np.abs(made - expected).mean() < 0.05 * expected.std()
    assert np.abs(made - plain).mean() <= 0.02
    assert integer_convolutions(kernels(path)) == (2, 3)  # the first one reads floats


@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize("signed", [False, True])
def test_float_biases_leave_nearly_all_outputs_as_they_are(tmp_path: Path, compressed, bits: int, signed: bool) -> None:
    class Layers(nn.Sequential):
        """A pooled and a flattened input, a depthwise convolution, a linear layer that is not the last."""

        def __init__(self) -> None:
            convolution = nn.Conv2d(8, 16, 3, padding=1, stride=2)
            depthwise = nn.Conv2d(16, 16, 3, padding=1, groups=16, bias=False)
            first = (nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2))
            second = (convolution, nn.BatchNorm2d(16), nn.ReLU(), depthwise, nn.BatchNorm2d(16), nn.ReLU())
            super().__init__(*first, *second, nn.Flatten(), nn.Linear(256, 32), nn.ReLU(), nn.Linear(32, 10))

    torch.manual_seed(0)
    x = images(64, 3, 18, 18)
    network = settled(Layers(), x)
    compressor = compressed(network, x, bits=bits)
    path = exported(tmp_path, compressor, network, x, mode="int8", signed_weights=signed)
    made, expected = outputs(path, network, x)
    plain, _ = outputs(path, network, x, optimised=False)
    counts = kernels(path)
    assert (made == plain).mean() > 0.98
    assert (made == expected).mean() > 0.98
    assert (counts["ConvInteger"], counts["MatMulInteger"], counts["Gemm"]) == (1, 2, 0)


@pytest.mark.parametrize(
    ("options", "integer", "sums"),
    [
        ({}, 18, range(1)),
        ({"branches": True}, 18, range(5, 10)),  # those whose codes that does not change
        ({"float_bias": False}, 9, range(1)),
        ({"float_bias": False, "branches": True}, 18, range(9, 10)),
    ],
    ids=str,
)
def test_a_residual_network_runs_by_integer_kernels(
    tmp_path: Path, compressed, options: dict, integer: int, sums: range
) -> None:
    x = images(8, 3, 16, 16)
    torch.manual_seed(0)
    network = settled(resnet20(in_channels=3, classes=10), x)
    compressor = compressed(network, x, sites=RESNET)
    path = exported(tmp_path, compressor, network, x, mode="int8", **options)
    made, expected = outputs(path, network, x)
    plain, _ = outputs(path, network, x, optimised=False)
    counts = kernels(path)
    assert integer_convolutions(counts) == (integer, 19)
    assert counts["QLinearAdd"] in sums
    assert np.abs(made - plain).mean() <= 0.02
    assert np.corrcoef(made.ravel(), expected.ravel())[0, 1] > 0.97
    if "float_bias" not in options:
        assert (made == expected).mean() > 0.9


def test_sums_of_integers_change_next_to_nothing(tmp_path: Path, compressed) -> None:
    x = images(8, 3, 16, 16)
    torch.manual_seed(0)
    network = settled(resnet20(in_channels=3, classes=10), x)
    compressor = compressed(network, x, sites=RESNET)
    plain, expected = outputs(exported(tmp_path, compressor, network, x, mode="int8"), network, x)
    made, _ = outputs(exported(tmp_path, compressor, network, x, mode="int8", branches=True), network, x)
    assert np.abs(made - expected).mean() <= np.abs(plain - expected).mean() + 0.01 * expected.std()


@pytest.mark.parametrize("float_bias", [True, False])
def test_a_code_without_a_counterpart_behind_a_negative_norm_runs_by_an_integer_kernel(
    tmp_path: Path, compressed, float_bias: bool
) -> None:
    first = (nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU())
    torch.manual_seed(0)
    x = images(16, 3, 12, 12)
    network = settled(nn.Sequential(*first, nn.Conv2d(8, 8, 3), nn.BatchNorm2d(8), nn.ReLU()), x, negative=True)
    with torch.no_grad():
        network[3].weight[0] = -1
        network[3].weight[0, 0, 0, 0] = 0.5
    compressor = compressed(network, x, fires=WITHOUT_MASKS)
    [weight] = [each for each in contents(compressor, network).weights if each.name == "3.weight"]
    assert int(weight.codes.min()) == -128
    assert float(network[4].weight[0].detach()) < 0
    path = exported(tmp_path, compressor, network, x, mode="int8", float_bias=float_bias)
    made, expected = outputs(path, network, x)
    assert integer_convolutions(kernels(path)) == (1, 2)
    assert (made == expected).mean() > 0.98


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "integer"),
    [
        ({}, 39),  # depthwise convolutions are in float
        ({"branches": True}, 56),
        ({"float_bias": False}, 38),
        ({"float_bias": False, "branches": True}, 56),
    ],
    ids=str,
)
def test_mobilenetv2_runs_by_integer_kernels_and_is_small(tmp_path: Path, compressed, options: dict, integer) -> None:
    x = images(8, 3, 32, 32)
    network = settled(MobileNetV2(in_channels=3, classes=10), x)
    for bits, megabytes in ((8, 2.65), (4, 1.5)):
        compressor = compressed(network, x, bits=bits, sites=MOBILENET, fires=WITHOUT_MASKS)
        path = exported(tmp_path, compressor, network, x, mode="int8", **options)
        assert integer_convolutions(kernels(path)) == (integer, 57)
        assert path.stat().st_size <= megabytes * 1e6
        compressor.detach()
    with_masks = compressed(network, x, sites=MOBILENET)
    path = exported(tmp_path, with_masks, network, x, mode="int8", **options)
    assert integer_convolutions(kernels(path)) == (integer, 57)


def test_a_file_says_nothing_of_where_it_was_made_and_its_sections_add_up(tmp_path: Path, compressed) -> None:
    network, x = SmallCNN(in_channels=3, classes=10), images(8, 3, 12, 12)
    compressor = compressed(network, x)
    pruned = [site.mask for site in compressor.sites(Target.ACTIVATION) if site.is_pruning]
    large = [each for each in pruned if each.numel() >= WORTH_BITS]
    assert 0 < len(large) < len(pruned)
    shapes = sum(8 * each.dim() for each in large)
    for mode in ("exact", "int8"):
        path = exported(tmp_path, compressor, network, x, mode=mode)
        model = onnx.load(path)
        onnx.checker.check_model(model, full_check=True)
        assert not any(node.metadata_props or node.doc_string for node in model.graph.node)
        assert [each.domain for each in model.opset_import] == [""]
        found = sections(path)
        assert sum(found.values()) == path.stat().st_size
        bits = sum(-(-each.numel() // (8 if each.numel() >= WORTH_BITS else 1)) for each in pruned)
        assert found["masks"] == bits + shapes
        assert found["codes"] == sum(site.mask.numel() for site in compressor.sites(Target.WEIGHT))


@pytest.mark.parametrize("optimised", [True, False])
@pytest.mark.parametrize("mode", ["exact", "int8"])
def test_bits_of_a_mask_that_fill_no_whole_byte(tmp_path: Path, compressed, mode: str, optimised: bool) -> None:
    network, x = nn.Sequential(nn.Conv2d(3, 3, 3, padding=1), nn.ReLU(), nn.Conv2d(3, 2, 1)), images(8, 3, 19, 19)
    compressor = compressed(network, x)
    [size] = {site.mask.numel() for site in compressor.sites(Target.ACTIVATION) if site.mask.numel() >= WORTH_BITS}
    assert size % 8
    made, expected = outputs(exported(tmp_path, compressor, network, x, mode=mode), network, x, optimised=optimised)
    assert (made == expected).mean() > 0.999
    assert (expected == 0).mean() > 0.1


@pytest.mark.parametrize("mode", ["exact", "int8"])
def test_weights_that_are_not_quantized_stay_float(tmp_path: Path, compressed, mode: str) -> None:
    x = images(16, 3, 12, 12)
    network = settled(SmallCNN(in_channels=3, classes=10), x)
    compressor = compressed(network, x, fires={(Op.PRUNE, Target.WEIGHT), (Op.QUANTIZE, Target.ACTIVATION)})
    path = exported(tmp_path, compressor, network, x, mode=mode)
    made, expected = outputs(path, network, x)
    assert integer_convolutions(kernels(path)) == (0, 3)
    assert (made == expected).mean() > 0.95
    values = {onnx.numpy_helper.to_array(each).tobytes() for each in onnx.load(path).graph.initializer}
    assert all(site.value(latent).numpy().tobytes() in values for site, latent in compressor.latents().items())


@pytest.mark.parametrize("mode", ["exact", "int8"])
@pytest.mark.parametrize("bits", [4, 8])
def test_a_runtime_does_not_round_what_linear_layers_of_sequences_read(
    tmp_path: Path, compressed, bits: int, mode: str
) -> None:
    torch.manual_seed(0)
    network, x = nn.Sequential(nn.Linear(32, 48), nn.GELU(), nn.Linear(48, 8)), images(4, 5, 32)
    compressor = compressed(network, x, bits=bits, fires={(Op.QUANTIZE, Target.WEIGHT)})
    made, expected = outputs(exported(tmp_path, compressor, network, x, mode=mode), network, x)
    assert np.abs(made - expected).max() < 1e-5 * expected.std()


def test_a_runtime_does_not_quantize_weights_that_training_did_not(tmp_path: Path, compressed) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.ReLU(), nn.Conv2d(4, 2, 1))
    x = images(8, 3, 12, 12)
    compressor = compressed(network, x, fires={(Op.QUANTIZE, Target.ACTIVATION)})
    path = exported(tmp_path, compressor, network, x, mode="int8")
    made, expected = outputs(path, network, x)
    assert integer_convolutions(kernels(path)) == (0, 3)
    assert (made == expected).mean() > 0.98


@pytest.mark.parametrize(("groups", "integer"), [(2, 2), (8, 1)])  # depthwise ones are in float
def test_convolutions_of_groups_read_numbers_of_both_signs(
    tmp_path: Path, compressed, groups: int, integer: int
) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3, padding=1, groups=groups), nn.Conv2d(8, 2, 1))
    x = images(8, 3, 12, 12)
    path = exported(tmp_path, compressed(network, x), network, x, mode="int8")
    made, expected = outputs(path, network, x)
    assert integer_convolutions(kernels(path)) == (integer, 3)
    assert (made == expected).mean() > 0.98


@pytest.mark.parametrize("activation", [nn.Hardtanh(), nn.ReLU6(), nn.LeakyReLU(), nn.Sigmoid()], ids=str)
def test_what_an_activation_function_lets_through_keeps_its_sign(tmp_path: Path, compressed, activation) -> None:
    torch.manual_seed(0)
    network, x = nn.Sequential(nn.Conv2d(3, 8, 3), activation, nn.Conv2d(8, 4, 3)), images(8, 3, 12, 12)
    made, expected = outputs(exported(tmp_path, compressed(network, x), network, x, mode="int8"), network, x)
    assert (made == expected).mean() > 0.98


def test_what_torch_cannot_export_is_one_line(tmp_path: Path, compressed) -> None:
    class Undecided(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.conv(x) if float(x.sum()) > 0 else self.conv(-x)

    network, x = Undecided(), images(4, 3, 8, 8)
    compressor = compressed(network, x, fires={(Op.QUANTIZE, Target.WEIGHT)})
    with pytest.raises(ExportError, match="torch can't export Undecided") as caught:
        exported(tmp_path, compressor, network, x)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_a_network_of_other_numbers_is_one_line(tmp_path: Path, compressed, dtype: torch.dtype) -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3)).to(dtype)
    x = images(4, 3, 8, 8).to(dtype)
    with pytest.raises(ExportError, match=r"a network of float32; its 0\.weight is (float64|bfloat16); use packed"):
        exported(tmp_path, compressed(network, x), network, x)


@pytest.mark.parametrize("mode", ["exact", "int8"])
def test_openvino_loads_the_same_files(tmp_path: Path, compressed, mode: str) -> None:
    openvino = pytest.importorskip("openvino", reason="needs openvino")
    x = images(16, 3, 12, 12)
    network = settled(SmallCNN(in_channels=3, classes=10), x)
    path = exported(tmp_path, compressed(network, x), network, x, mode=mode)
    compiled = openvino.Core().compile_model(openvino.Core().read_model(path), "CPU")
    made = compiled([x.numpy()])[compiled.output(0)]
    with torch.no_grad():
        expected = network(x).numpy()
    assert (made.argmax(1) == expected.argmax(1)).mean() >= 0.9
