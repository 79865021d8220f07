"""Optimizers as people write them."""

from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer


class Descent(Optimizer):
    """Without state."""

    def __init__(self, params: Any, lr: float = 0.1, **settings: float) -> None:
        super().__init__(params, {"lr": lr, **settings})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self.change(parameter, parameter.grad, group)

    def change(self, parameter: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
        parameter.sub_(gradient * group["lr"])


class Shrinking(Descent):
    """Its decay is a share of its rate."""

    def __init__(self, params: Any, lr: float = 0.1) -> None:
        super().__init__(params, lr, decay=0.1 * lr)

    def change(self, parameter: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
        parameter.mul_(1 - group["decay"]).sub_(gradient * group["lr"])


class FromOne(Descent):
    """Has state that does not start at zero."""

    def change(self, parameter: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
        state = self.state[parameter]
        if "size" not in state:
            state["size"] = torch.ones_like(parameter)
        parameter.sub_(gradient * state["size"].mul_(0.9) * group["lr"])


class Counting(Descent):
    """Counts its steps in a number."""

    def change(self, parameter: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
        state = self.state[parameter]
        state["count"] = state.get("count", 0) + 1
        parameter.sub_(gradient * group["lr"] / state["count"])


class Replacing(Descent):
    """Has a new tensor in every step."""

    def change(self, parameter: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
        state = self.state[parameter]
        state["mean"] = gradient + 0.9 * state.get("mean", torch.zeros_like(gradient))
        parameter.sub_(state["mean"] * group["lr"])
