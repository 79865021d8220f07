"""Networks of which more than the weights is drawn when they are built."""

import random
from typing import Any

import torch
from torch import Tensor, nn

from qp_runner.models import SmallCNN


class Plain(nn.Module):
    """The small CNN behind a name."""

    def __init__(self, *, in_channels: int = 1, classes: int = 10) -> None:
        super().__init__()
        self.body = SmallCNN(width=6, in_channels=in_channels, classes=classes)

    def forward(self, x: Tensor) -> Any:
        return self.body(x)


class Number(Plain):
    def __init__(self, *, in_channels: int = 1, classes: int = 10) -> None:
        super().__init__(in_channels=in_channels, classes=classes)
        self.gain = 0.5 + torch.rand(()).item()

    def forward(self, x: Tensor) -> Any:
        return self.body(x) * self.gain


class Layer(Plain):
    def __init__(self, *, in_channels: int = 1, classes: int = 10) -> None:
        super().__init__(in_channels=in_channels, classes=classes)
        self.last = [nn.Hardtanh(-9, 9), nn.Tanh()][int(torch.randint(2, ()))]

    def forward(self, x: Tensor) -> Any:
        return self.last(self.body(x))


class Hook(Plain):
    def __init__(self, *, in_channels: int = 1, classes: int = 10) -> None:
        super().__init__(in_channels=in_channels, classes=classes)
        gain = 0.5 + torch.rand(()).item()
        self.body.register_forward_hook(lambda _, __, output: output * gain)


class InSlots(Plain):
    class Factor:
        __slots__ = ("value",)

        def __init__(self, value: float) -> None:
            self.value = value

    def __init__(self, *, in_channels: int = 1, classes: int = 10) -> None:
        super().__init__(in_channels=in_channels, classes=classes)
        self.factor = self.Factor(0.5 + torch.rand(()).item())

    def forward(self, x: Tensor) -> Any:
        return self.body(x) * self.factor.value


class OneOrTwo(Plain):
    """Of two buffers, which may be one tensor."""

    def __init__(self, *, in_channels: int = 1, classes: int = 10) -> None:
        super().__init__(in_channels=in_channels, classes=classes)
        one = torch.full((10,), 1.5)
        self.register_buffer("one", one)
        self.register_buffer("other", one if int(torch.randint(2, ())) else torch.full((10,), 0.5))

    def forward(self, x: Tensor) -> Any:
        return self.body(x) * self.one * self.other


class Draws(Plain):
    """Draws in every step, but not on the device."""

    def forward(self, x: Tensor) -> Any:
        return self.body(x) * (0.5 + random.random())
