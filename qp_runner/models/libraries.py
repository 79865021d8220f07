"""Image classifiers of torchvision and timm, by name, fitted to a data set's channels and classes."""

import difflib
from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn
from torchvision import models

from qp_runner.errors import ConfigError, first_line

RGB = 3
WEIGHTS, DEFAULT = "model.weights", "DEFAULT"


def torchvision_network(
    *, name: str, in_channels: int, classes: int, small_images: bool = False, **options: Any
) -> nn.Module:
    """A classifier of `torchvision.models`, with random weights; for trained ones see `torchvision_weights`.

    These networks take three channels: grey images are repeated to three.

    Args:
        name: one of `torchvision.models.list_models(module=torchvision.models)`.
        in_channels: 1 or 3.
        classes: number of outputs.
        small_images: see `small_stem`.
        options: of the network's own factory.

    Raises:
        ConfigError: an unknown name, other channels, `small_images` without a stem to change.
    """
    _check_name(name, models.list_models(module=models), "torchvision.models")
    network: nn.Module = models.get_model(name, num_classes=classes, **{"weights": None, **options})
    if small_images:
        small_stem(network, name)
    if in_channels == 1:
        network.register_forward_pre_hook(RepeatChannels())
    elif in_channels != RGB:
        raise ConfigError("model.name", name, f"takes images of 1 or 3 channels, the data's have {in_channels}")
    return network


def timm_network(*, name: str, in_channels: int, classes: int, small_images: bool = False, **options: Any) -> nn.Module:
    """A classifier of timm (`pip install timm`), with random weights; for trained ones see `timm_weights`.

    Args:
        name: one of `timm.list_models()`.
        in_channels: of the images.
        classes: number of outputs.
        small_images: see `small_stem`.
        options: of `timm.create_model`.

    Raises:
        ConfigError: timm is missing, an unknown name, `small_images` without a stem to change.
    """
    timm = _timm(name)
    if not timm.is_model(name.partition(".")[0]):
        _check_name(name, timm.list_models(), "timm")
    network: nn.Module = timm.create_model(name, in_chans=in_channels, num_classes=classes, **options)
    if small_images:
        small_stem(network, name)
    return network


def torchvision_weights(*, name: str, weights: str) -> dict[str, Tensor]:
    """Published weights of a classifier of torchvision: `DEFAULT`, its best, or a name such as `IMAGENET1K_V1`.

    They are downloaded once, then cached, and checked by their hash. Raises ConfigError for other names, and where they
    can't be fetched.
    """
    known: Any = models.get_model_weights(name)
    if weights not in known.__members__:
        raise ConfigError(WEIGHTS, weights, f"one of {', '.join(known.__members__)}; null: random weights")
    chosen = known[weights]
    try:
        return dict(chosen.get_state_dict(progress=False, check_hash=True))
    except (OSError, RuntimeError) as error:  # no network is an OSError
        raise _not_fetched(weights, chosen.url, error) from error


def timm_weights(*, name: str, weights: str, in_channels: int) -> dict[str, Tensor]:
    """Published weights of a classifier of timm: `DEFAULT`, or a tag such as `a1_in1k`; the stem is adapted to the
    number of channels.

    They are downloaded once, then cached. Raises ConfigError for a network without such weights, and where they can't
    be fetched.
    """
    timm = _timm(name)
    tags = [each.partition(".")[2] for each in timm.list_pretrained(f"{name.partition('.')[0]}.*")]
    if not tags or (weights != DEFAULT and weights not in tags):
        allowed = (
            f"one of {', '.join([DEFAULT, *tags])}; null: random weights" if tags else "null: timm has none for it"
        )
        raise ConfigError(WEIGHTS, weights, allowed)
    tagged = name if weights == DEFAULT else f"{name.partition('.')[0]}.{weights}"
    try:
        return dict(timm.create_model(tagged, pretrained=True, in_chans=in_channels).state_dict())
    except Exception as error:  # of huggingface_hub, httpx, urllib, ...
        raise _not_fetched(weights, f"timm's weights of {tagged}", error) from error


def _not_fetched(weights: str, what: str, error: Exception) -> ConfigError:
    allowed = (
        f"{what} can't be fetched ({first_line(error)}); fetch them where there is a network, and give model.init=FILE"
    )
    return ConfigError(WEIGHTS, weights, allowed)


def _timm(name: str) -> Any:
    try:
        import timm
    except ImportError as error:
        raise ConfigError("model.name", name, "needs timm, which is not installed: pip install timm") from error
    return timm


def small_stem(network: nn.Module, name: str) -> None:
    """Changes a ResNet's stem into its CIFAR form: a 3 × 3 convolution of stride 1 and no pooling (He et al. 2016).

    Raises ConfigError for a network without a convolution `conv1` and a pooling `maxpool`.
    """
    conv = getattr(network, "conv1", None)
    if not isinstance(conv, nn.Conv2d) or not isinstance(getattr(network, "maxpool", None), nn.Module):
        raise ConfigError(
            "model.networks.network.small_images",
            True,
            f"false: {name} has no stem of conv1 and maxpool as ResNets have",
        )
    stem = nn.Conv2d(conv.in_channels, conv.out_channels, 3, padding=1, bias=conv.bias is not None)
    nn.init.kaiming_normal_(stem.weight, mode="fan_out", nonlinearity="relu")
    network.conv1, network.maxpool = stem, nn.Identity()


class RepeatChannels:
    """A forward pre-hook that shows a network of colour images grey ones, [n, 1, h, w] as [n, 3, h, w]."""

    def __call__(self, _module: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """The arguments with the first one repeated."""
        images, *others = args
        return (images.expand(-1, RGB, -1, -1), *others)


def _check_name(name: str, known: Sequence[str], library: str) -> None:
    if name not in known:
        near = ", ".join(difflib.get_close_matches(name, known, n=4, cutoff=0.4)) or "none like it"
        raise ConfigError("model.name", name, f"a model of {library}; near: {near}")
