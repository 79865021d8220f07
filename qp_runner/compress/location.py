"""Where a site is."""

from dataclasses import dataclass

from torch import nn

_Transposed = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)


@dataclass(frozen=True)
class SiteLocation:
    """Where a site is.

    Attributes:
        path: its name.
        module: the module whose weight or output it is; the network, for a function's result.
        users: all modules that hold this weight, each with the name by which it does.
        name: of the weight in its module.
        call: the name without number, the number, and how many calls have this name, of a call that is not the only one
            of a module.
        batch_axis: the dimension of an activation that is the batch.
        bits: in place of an event's.
        kind: the class of the module, or the name of the function.
    """

    path: str
    module: nn.Module
    prunable: bool
    users: tuple[tuple[nn.Module, str], ...] = ()
    name: str = "weight"
    call: tuple[str, int, int] | None = None
    batch_axis: int = 0
    bits: int | None = None
    kind: str = ""

    @property
    def channel_axis(self) -> int:
        """The dimension of the module's weight that runs over output channels (those of one group, if transposed)."""
        return 1 if isinstance(self.module, _Transposed) else 0

    @property
    def groups(self) -> int:
        """How many parts dimension 0 of the weight has, each with output channels of its own.

        1 except for transposed grouped convolutions, whose weight is [in, out / groups, ...].
        """
        return int(self.module.groups) if isinstance(self.module, _Transposed) else 1
