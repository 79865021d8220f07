"""What a network computes, traced once on one sample: the ledger of its activations, and how sites lie in it."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from qp_runner.compress.arguments import tensors_returned
from qp_runner.compress.calls import Calls, first_tensor, numbered, prefixes, with_first
from qp_runner.compress.errors import not_a_tensor
from qp_runner.compress.recorder import Recorder
from qp_runner.compress.values import Form, Value

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d)

NOT_FIRST = "not the first tensor of what a module returns, which alone can be a site"

LATENT = "latent "  # before the path of a weight site: its Parameter, which nothing but the site should read


@dataclass(frozen=True)
class LedgerTensor:
    """A tensor that one sample's forward pass writes to memory.

    It is there from operation `first`, where the chain of operations that computes it starts from other tensors of the
    ledger, to operation `last`, which reads it last.

    Attributes:
        name: of the module that returns it, or the module and operation that compute it.
        elements: of one sample. A detector's regions, whose number varies, count as one.
        sites: which compress all that is read of it, each with the elements it writes; the smallest result counts.
        reason: why no site compresses it; empty where one does.
        best: of the sites, the one where a runtime would compress.
        layers: the Parameters that its chain of operations reads.
        first_layer: whether this chain computes with the network's input.
        returned: whether it is an output of the network.
        operation: that computes it.
        shape: of one sample.
    """

    name: str
    elements: int
    first: int
    last: int
    sites: Mapping[str, int] = field(default_factory=dict)
    reason: str = ""
    best: str = ""
    layers: frozenset[str] = frozenset()
    first_layer: bool = False
    returned: bool = False
    operation: str = ""
    shape: tuple[int, ...] = ()


@dataclass(frozen=True)
class Graph:
    """A traced forward pass.

    Attributes:
        ledger: the tensors that it writes to memory, in order of computation.
        calls: of every site that was called, the shapes of its output, batch included.
        elements: of every site that was called, those of its first output for one sample.
        layer_outputs: elements of the outputs of convolutions, norms and linear layers: the published count.
        read: names of the Parameters that it reads, and for each the module that does so first.
        unread: sites without effect: nothing reads what they hand on, nor is it returned. So it is with a call that
            writes in place, where what follows reads the tensor that was written to and not the call's result.
    """

    ledger: tuple[LedgerTensor, ...]
    calls: Mapping[str, tuple[tuple[int, ...], ...]]
    elements: Mapping[str, int]
    layer_outputs: int
    read: Mapping[str, str]
    unread: frozenset[str]

    def peak(self, sizes: Sequence[float]) -> float:
        """The largest sum of sizes (one for each tensor of the ledger) in memory at any operation."""
        alive = [
            sum(size for other, size in zip(self.ledger, sizes, strict=True) if other.first <= t.first <= other.last)
            for t in self.ledger  # the sum rises only where a tensor is created
        ]
        return max(alive, default=0.0)


@dataclass
class _Seen:
    """What the hooks of a traced pass have seen."""

    outputs: list[tuple[str, Tensor, tuple[Form, ...]]] = field(default_factory=list)
    layer_outputs: int = 0


def trace(
    networks: Mapping[str, nn.Module],
    sites: Mapping[str, nn.Module],
    *,
    parameters: Mapping[str, Tensor],
    run: Callable[[], None],
    seen: Callable[[str, Tensor], None],
    calls: Sequence[Calls] = (),
    shown: Callable[[str, int, Any, Recorder], None] | None = None,
) -> Graph:
    """Traces a forward pass of one sample.

    Args:
        networks: all networks that `run` may call.
        sites: the activation sites' modules, by path. Sites must be switched off, modules in eval mode.
        parameters: the networks' Parameters by name, and what their modules compute with in place of them.
        run: the forward pass.
        seen: called with each site's path and output.
        calls: of the networks that count them.
        shown: is shown the names and results of these calls, instead of their being marked as sites.
    """
    buffers = [buffer for network in networks.values() for buffer in network.buffers()]
    recorder = Recorder(parameters.items(), buffers)
    found = _Seen()
    fast_path = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)  # it hides a transformer layer in one operation, only in evaluation
    try:
        with ExitStack() as stack:
            stack.enter_context(_watching(networks, sites, recorder, found))
            stack.enter_context(_shown(calls, shown, recorder, found))
            stack.enter_context(recorder)
            stack.enter_context(recorder.calls)
            run()
    finally:
        torch.backends.mha.set_fastpath_enabled(fast_path)
    shapes: dict[str, list[tuple[int, ...]]] = {}
    elements: dict[str, int] = {}
    for path, output, forms in found.outputs:
        shapes.setdefault(path, []).append(tuple(output.shape))
        elements.setdefault(path, _elements(output, forms))
        seen(path, output)
    return Graph(
        tuple(_ledger(recorder)),
        {path: tuple(each) for path, each in shapes.items()},
        elements,
        found.layer_outputs,
        recorder.parameter_reads,
        frozenset(shapes) - {path for path, _, forms in found.outputs if _is_read(forms)},
    )


def _is_read(forms: Sequence[Form]) -> bool:
    """Whether anything reads or returns these forms of values, or what was made from them."""
    return any(reader.comes_from(form) for form in forms for reader in form.value.readers)


def _ledger(recorder: Recorder) -> Iterator[LedgerTensor]:
    """The values that lie in memory: returned, read by a computing operation, or read by several operations."""
    members = [value for value in recorder.values if _in_memory(value, recorder.computing)]
    end = recorder.operation + 1
    chains: dict[int, set[int]] = {}  # the operations that compute a value from tensors of the ledger
    inside = set(map(id, members))
    for value in recorder.values:  # in order of computation, so that what it reads is known
        fused = (chains.get(id(read), set()) for read in value.reads if id(read) not in inside)
        chains[id(value)] = {value.made}.union(*fused)
    for value in members:
        chain = chains[id(value)]
        layers = frozenset[str]().union(*(recorder.parameters_of.get(each, set()) for each in chain))
        sites = value.compressed_by()
        yield LedgerTensor(
            name=value.outputs[-1] if value.outputs else f"{value.module}.{value.operation}".lstrip("."),
            elements=value.elements,
            first=min(chain),
            last=end if value.returned else max(value.read_by, default=value.made),
            sites=sites,
            reason="" if sites else _reason(value),
            best=value.best_site(),
            layers=layers,
            first_layer=not chain.isdisjoint(recorder.first_layers),
            returned=value.returned,
            operation=value.operation,
            shape=value.shape[1:],
        )


def _reason(value: Value) -> str:
    if value.marks:
        return f"also read without passing the site {value.marks[0][0]}"
    if not value.outputs:
        return "a function's result, which no module returns"
    if not value.comes_first:
        return NOT_FIRST
    return "no glob of model.sites.activation matches"


def _in_memory(value: Value, computing: set[int]) -> bool:
    kept = value.returned or (
        not value.is_input and (len(value.read_by) > 1 or not computing.isdisjoint(value.read_by))
    )
    return value.of_input and kept and value.elements > 0


@contextmanager
def _watching(
    networks: Mapping[str, nn.Module],
    sites: Mapping[str, nn.Module],
    recorder: Recorder,
    found: _Seen,
) -> Iterator[None]:
    """Hooks on every module that tell the recorder where it is, and what modules and sites return."""
    with ExitStack() as stack:
        for (prefix, network), name in zip(prefixes(networks), networks, strict=True):
            for path, module in network.named_modules():
                where = prefix + path if path else name
                _watch(module, where, top=not path, recorder=recorder, found=found, stack=stack)
        for path, module in sites.items():  # after the others: a site's output is then known as its module's

            def marked(_module: nn.Module, _args: Any, output: Any, path: str = path) -> Any:
                return _mark(path, output, recorder, found)

            stack.callback(module.register_forward_hook(marked).remove)
        yield


@contextmanager
def _shown(
    calls: Sequence[Calls],
    shown: Callable[[str, int, Any, Recorder], None] | None,
    recorder: Recorder,
    found: _Seen,
) -> Iterator[None]:
    """Marks the results of calls that are sites, or shows them all."""

    def watch(name: str, number: int, result: Any) -> Any:
        if shown is None:
            return _mark(numbered(name, number), result, recorder, found)
        shown(name, number, result, recorder)
        return result

    for each in calls:
        each.watch = watch
    try:
        yield
    finally:
        for each in calls:
            each.watch = None


def _mark(path: str, output: Any, recorder: Recorder, found: _Seen) -> Any:
    """Notes a site's output; returns a copy, so that whatever reads it is known to read the site's."""
    x = first_tensor(output)
    if x is None:
        raise not_a_tensor(path, output)
    result = x.clone()
    forms = recorder.of(result)
    for form in forms:
        form.value.marks.append((path, form, _elements(x, forms) if len(forms) == 1 else form.value.elements))
    found.outputs.append((path, x, forms))
    return with_first(output, result)


def _watch(module: nn.Module, path: str, *, top: bool, recorder: Recorder, found: _Seen, stack: ExitStack) -> None:
    counted = isinstance(module, (*_CONVOLUTIONS, *_NORMS, nn.Linear))

    def enter(_module: nn.Module, args: Any, kwargs: Any) -> None:
        if top and not recorder.modules:
            recorder.set_input(tensors_returned((args, kwargs)))
        recorder.modules.append(path)

    def leave(_module: nn.Module, _args: Any, output: Any) -> None:
        recorder.modules.pop()
        if counted:
            found.layer_outputs += output.shape[1:].numel()
        first = first_tensor(output)
        for leaf in tensors_returned(output):
            if leaf.is_floating_point():
                for form in recorder.of(leaf):
                    if top:
                        form.value.returned = True
                        form.value.readers.append(form)
                    elif leaf.numel() >= form.value.numel:
                        form.value.outputs.append(path)
                        form.value.comes_first |= leaf is first

    stack.callback(module.register_forward_pre_hook(enter, with_kwargs=True).remove)
    stack.callback(module.register_forward_hook(leave).remove)


def _elements(output: Tensor, forms: Sequence[Form]) -> int:
    """Elements of a site's output for one sample, or of one row where their number varies."""
    varies = output.dim() > 0 and any(form.value.varies for form in forms)
    return output.shape[1:].numel() if varies else output.numel()
