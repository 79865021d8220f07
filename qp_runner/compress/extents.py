"""Which bytes of which storage a tensor lies in: several Parameters can share one, as in recurrent layers on a GPU."""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Extent:
    """The bytes from `start` to `stop` of a storage; of a tensor with gaps, those in between too."""

    storage: int
    start: int
    stop: int

    def overlaps(self, other: "Extent") -> bool:
        """Whether they have a byte in common."""
        return self.storage == other.storage and max(self.start, other.start) < min(self.stop, other.stop)


def extent(tensor: Tensor) -> Extent:
    """Where a tensor lies."""
    size = tensor.element_size()
    start = int(tensor.storage_offset()) * size
    spanned = 1 + sum(int((n - 1) * stride) for n, stride in zip(tensor.shape, tensor.stride(), strict=True))
    return Extent(tensor.untyped_storage()._cdata, start, start + (spanned * size if tensor.numel() else 0))
