"""Pretrained weights of a ResNet's stages: torchvision's own, or a file."""

from typing import Any, cast
from urllib.error import URLError

from torch import Tensor, nn
from torchvision.models import get_model_weights

from qp_runner.errors import ConfigError
from qp_runner.models.weight_files import read_weights

DOWNLOADED = "DEFAULT"


def load_backbone(network: nn.Module, weights: str, *, depth: int, key: str) -> None:
    """Loads ImageNet weights into a ResNet without classifier (and perhaps without its last stages).

    Args:
        network: its parameters have the names of torchvision's ResNets.
        weights: `DEFAULT`, torchvision's best (downloaded once, then cached), or a file with a state_dict.
        depth: of the ResNet.
        key: the configuration key, for errors.

    Raises:
        ConfigError: a failed download, no such file, or weights of another network.
    """
    state = _downloaded(depth, key) if weights == DOWNLOADED else read_weights(weights, key=key)
    wanted = network.state_dict()
    fits = {name: value for name, value in state.items() if name in wanted and value.shape == wanted[name].shape}
    missing = [name for name in wanted if name not in fits and not name.endswith("num_batches_tracked")]
    if missing:
        allowed = (
            f"weights of a ResNet-{depth}; {len(missing)} of {len(wanted)} tensors are missing or of another shape"
        )
        raise ConfigError(key, weights, f"{allowed}, such as {missing[0]}")
    network.load_state_dict(fits, strict=False)


def _downloaded(depth: int, key: str) -> dict[str, Tensor]:
    best: Any = get_model_weights(f"resnet{depth}").DEFAULT
    try:
        return cast("dict[str, Tensor]", best.get_state_dict(progress=False, check_hash=True))
    except (URLError, OSError, RuntimeError) as error:
        allowed = (
            f"{best.url} can't be fetched ({error}); give a file with these weights, or null to train from scratch "
            "(with norm batch or group)"
        )
        raise ConfigError(key, DOWNLOADED, allowed) from error
