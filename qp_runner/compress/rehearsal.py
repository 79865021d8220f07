"""What passes before training show of later faults: writes that would be lost, outputs that no mask or scale fits."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.dropout import _DropoutNd
from torch.utils._python_dispatch import TorchDispatchMode

from qp_runner.compress.arguments import written_arguments
from qp_runner.compress.errors import infinite_output, lost_write, no_sample, single_sample, wrong_shape
from qp_runner.compress.extents import extent
from qp_runner.compress.isolation import parameters_kept, undisturbed
from qp_runner.compress.sites import ActivationSite
from qp_runner.errors import ConfigError
from qp_runner.schedule import Op, Target

_TOO_FEW = "Expected more than 1 value per channel when training"  # torch's words


@dataclass(frozen=True)
class Fault:
    """An error that a schedule with such an event would run into; others have nothing to fear."""

    op: Op
    target: Target
    error: ConfigError


class Writes(TorchDispatchMode):
    """Notes which of some tensors are written to, in place or by giving them other contents (`tensor.data = ...`)."""

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        super().__init__()
        self._tensors = dict(tensors)
        self._before = {name: extent(tensor) for name, tensor in tensors.items()}
        self._written: set[str] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        for tensor in written_arguments(func, args, kwargs or {}):
            written = extent(tensor)
            self._written |= {name for name, place in self._before.items() if place.overlaps(written)}
        return func(*args, **(kwargs or {}))

    def faults(self) -> list[Fault]:
        """A fault for each kind of event of each tensor that was written to."""
        moved = {name for name, tensor in self._tensors.items() if extent(tensor) != self._before[name]}
        return [
            Fault(op, Target.WEIGHT, lost_write(name))
            for name in self._tensors
            if name in moved | self._written
            for op in Op
        ]


def check_output(site: ActivationSite, output: Tensor) -> list[Fault]:
    """The faults of a site's output; raises ConfigError for one that can never be compressed."""
    if output.dim() == 0 or (len(output) and not output.numel()):
        raise no_sample(site.path, output.shape)
    if bool(output.isinf().any()) and not bool(output.isnan().any()):
        return [Fault(op, Target.ACTIVATION, infinite_output(site.path)) for op in Op]
    return []


def check_calls(sites: Iterable[ActivationSite], calls: Mapping[str, Sequence[tuple[int, ...]]]) -> list[Fault]:
    """The faults of sites whose module is called on samples that one mask does not fit.

    Args:
        sites: activation sites.
        calls: the shapes of their outputs in a forward pass, batch included.
    """
    faults = []
    for site in sites:
        axis = site.batch_axis
        shapes = list(dict.fromkeys(shape[:axis] + shape[axis + 1 :] for shape in calls.get(site.path, ())))
        masks = {_mask_shape(shape) if site.granularity == "channel" else shape for shape in shapes}
        if site.prunable and len(masks) > 1:
            error = wrong_shape(site.path, site.granularity, shapes, calls=len(calls[site.path]))
            faults.append(Fault(Op.PRUNE, Target.ACTIVATION, error))
    return faults


def _mask_shape(sample: tuple[int, ...]) -> tuple[int, ...]:
    return (sample[0], *[1] * (len(sample) - 1)) if len(sample) > 1 else sample


def in_training_mode(networks: Iterable[nn.Module], run: Callable[[], None]) -> None:
    """Passes a sample in training mode, as far as that goes: a detector, for example, then wants targets.

    Norms and dropout stay in evaluation mode: a norm may need more than one sample. Call it where modes are put back.
    """
    for network in networks:
        for module in network.modules():
            module.training = not isinstance(module, _NormBase | _DropoutNd)
    with suppress(Exception):
        run()


@contextmanager
def norms_named(networks: Mapping[str, nn.Module]) -> Iterator[None]:
    """Inside, ConfigError instead of ValueError for a norm in training mode that sees one value for each channel."""
    last = ""

    def remember(path: str) -> Callable[..., None]:
        def hook(*_: object) -> None:
            nonlocal last
            last = path

        return hook

    handles = [
        module.register_forward_pre_hook(remember(path or name))
        for name, network in networks.items()
        for path, module in network.named_modules()
        if isinstance(module, _NormBase)
    ]
    try:
        yield
    except ValueError as error:
        if not str(error).startswith(_TOO_FEW):
            raise
        raise single_sample(last) from error
    finally:
        for handle in handles:
            handle.remove()


def check_single_samples(networks: Mapping[str, nn.Module], run: Callable[[], None]) -> None:
    """Raises ConfigError if a norm can't be trained on batches of one sample, such as `run` passes. Other errors don't
    count: in training mode a network may want more than a sample.
    """
    with undisturbed(networks.values()), parameters_kept(networks.values()):
        for network in networks.values():
            network.train()
        try:
            with norms_named(networks):
                run()
        except ConfigError:
            raise
        except Exception:
            return
