"""Records the operations of a forward pass, and which tensors they hand to each other.

Two of torch's modes see everything a network computes, whatever kind of `nn.Module` it is: a function mode sees the
calls that its code makes (`F.conv2d`, `x + y`, `torch.lstm`), and a dispatch mode the primitive operations behind them.
What one call does counts as one operation, as in a runtime with fused layers; a primitive operation that no such call
made counts by itself.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode, resolve_name
from torch.utils._python_dispatch import TorchDispatchMode

from qp_runner.compress.arguments import argument_of, tensors_of, written_arguments
from qp_runner.compress.extents import Extent, extent
from qp_runner.compress.operations import COMPUTING, JOINING, SAME_CODES, SIZE_DEPENDS_ON_VALUES
from qp_runner.compress.values import Form, Value, input_form, numel
from qp_runner.errors import ConfigError

_LOOKED_INTO = {"torch.nn.functional.multi_head_attention_forward"}  # calls that are several operations
_STATE = "dropout_state"  # the argument by which cuDNN's recurrent layers are given a generator that the process keeps


class Recorder(TorchDispatchMode):
    """Follows storages through all operations; use `with recorder, recorder.calls:`.

    Args:
        parameters: Parameters (and what stands for them) by name.
        constants: other tensors that are not the network's input: its buffers.
    """

    def __init__(self, parameters: Iterable[tuple[str, Tensor]], constants: Iterable[Tensor] = ()) -> None:
        super().__init__()
        self.values: list[Value] = []
        self.computing: set[int] = set()  # numbers of the operations that read each value many times
        self.parameter_reads: dict[str, str] = {}  # parameter → module that read it first
        self.modules: list[str] = []
        self.calls = _Calls(self)
        self.operation = 0
        self.call: str | None = None
        self._reads: list[Value] = []  # of the current operation
        self._reading = 0
        self._now: dict[int, tuple[Form, ...]] = {}
        self._storages: dict[int, torch.UntypedStorage] = {}  # kept alive, so that no address is used again
        self.parameters_of: dict[int, set[str]] = {}  # operation → Parameters that it reads
        self.first_layers: set[int] = set()  # numbers of the computing operations that read a network's input
        self._parameters: dict[int, list[tuple[Extent, str]]] = {}  # by storage
        for name, tensor in parameters:
            self._parameters.setdefault(self._key(tensor), []).append((extent(tensor), name))
        self._constants = {self._key(tensor) for tensor in constants}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        name = func._schema.name.rpartition("::")[2]
        self._constants |= {self._key(tensor) for tensor in tensors_of(argument_of(func, args, kwargs or {}, _STATE))}
        inputs, results = tensors_of((args, kwargs)), tensors_of(result)
        written = written_arguments(func, args, kwargs or {})
        known = {self._key(tensor) for tensor in inputs}
        fresh = [tensor for tensor in results if self._key(tensor) not in known]
        if torch.Tag.inplace_view in func.tags or (not fresh and not written):
            return result  # a view
        if self.call is None:
            self.operation += 1
        if name in SAME_CODES and self._hands_on(name, inputs, [*fresh, *written]):
            return result
        self._computes(name, inputs, fresh, written)
        return result

    def _hands_on(self, name: str, inputs: Sequence[Tensor], made: Sequence[Tensor]) -> bool:
        """Lets the results be the values that were read; False if there are none. What is changed in place in a part
        alone stays what it was: no result of a call is all of it.
        """
        self._read_parameters(inputs)
        forms = [form for tensor in (inputs if name in JOINING else inputs[:1]) for form in self.of(tensor)]
        for tensor in made if forms else ():
            in_part = self._key(tensor) == self._key(inputs[0]) and _is_part(tensor)
            if tensor.is_floating_point() and not in_part:
                self._now[self._key(tensor)] = tuple(Form(form.value, form, name) for form in forms)
        return bool(forms)

    def _computes(
        self, name: str, inputs: Sequence[Tensor], fresh: Sequence[Tensor], written: Sequence[Tensor]
    ) -> None:
        computing = name.startswith(COMPUTING)
        forms = [form for tensor in inputs for form in self.of(tensor)]
        self._read(forms)
        if computing:
            self.computing.add(self.operation)
            if any(form.value.is_input for form in forms):
                self.first_layers.add(self.operation)
        read = [form.value for form in forms]
        parameters = self._read_parameters(inputs)
        of_input = any(value.of_input for value in read)
        is_input = not computing and not parameters and all(value.is_input for value in read if value.of_input)
        by_index = name == "index" and any(tensor.dtype == torch.bool for tensor in inputs[1:])
        varies = name in SIZE_DEPENDS_ON_VALUES or by_index or any(value.varies for value in read)
        for tensor in {self._key(each): each for each in [*fresh, *written]}.values():
            before = [form.value.shape for form in self._now.get(self._key(tensor), ())]
            whole = max(before, key=numel, default=(0,))
            in_part = _is_part(tensor) and numel(whole) > tensor.numel()
            value = Value(
                self.operation,
                whole if in_part else tuple(tensor.shape),
                self.module,
                self.call or name,
                self._reads,
                of_input=of_input,
                is_input=of_input and is_input,
                varies=varies,
                in_part=in_part,
            )
            self._now[self._key(tensor)] = (Form(value),)
            if tensor.is_floating_point():
                self.values.append(value)

    def _read(self, forms: Iterable[Form]) -> None:
        """Notes what the current operation reads from others."""
        if self._reading != self.operation:
            self._reading, self._reads = self.operation, []
        for form in forms:
            value = form.value
            if value.made != self.operation:
                value.read_by.add(self.operation)
                value.readers.append(form)
                self._reads.append(value)

    def _read_parameters(self, inputs: Iterable[Tensor]) -> set[str]:
        names = {
            name
            for tensor in inputs
            for place, name in self._parameters.get(self._key(tensor), ())
            if place.overlaps(extent(tensor))
        }
        for name in names:
            self.parameter_reads.setdefault(name, self.module)
        self.parameters_of.setdefault(self.operation, set()).update(names)
        return names

    @property
    def module(self) -> str:
        """The path of the innermost module that is running."""
        return self.modules[-1] if self.modules else ""

    def of(self, tensor: Tensor) -> tuple[Form, ...]:
        """What a tensor holds now: several values after a concatenation, none for Parameters and buffers.

        Any other tensor from outside is taken to be the network's input.
        """
        key = self._key(tensor)
        if key in self._parameters or key in self._constants:
            return self._now.get(key, ())
        return self._now.setdefault(key, (input_form(tensor),))

    def set_input(self, tensors: Iterable[Tensor]) -> None:
        """These tensors are a network's input, unless they are another network's output."""
        for tensor in tensors:
            if not any(form.value.returned for form in self.of(tensor)):
                self._now[self._key(tensor)] = (input_form(tensor),)

    def _key(self, tensor: Tensor) -> int:
        try:
            storage = tensor.untyped_storage()
        except NotImplementedError as error:
            allowed = (
                "computes inside torch.vmap or another transform of torch.func, where no operation can be followed"
            )
            raise ConfigError("model.networks", self.module, allowed) from error
        self._storages.setdefault(storage._cdata, storage)
        return storage._cdata


def _is_part(tensor: Tensor) -> bool:
    """Whether a tensor is a view of a part of what its storage holds."""
    return bool(tensor.numel() * tensor.element_size() < tensor.untyped_storage().nbytes())


class _Calls(TorchFunctionMode):
    """Tells a recorder which primitive operations belong to one call."""

    def __init__(self, recorder: Recorder) -> None:
        super().__init__()
        self.recorder = recorder

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = resolve_name(func) or getattr(func, "__name__", "call")
        recorder = self.recorder
        if recorder.call is not None or name in _LOOKED_INTO:
            return func(*args, **(kwargs or {}))
        recorder.operation += 1
        recorder.call = name.rpartition(".")[2].strip("_")
        try:
            return func(*args, **(kwargs or {}))
        finally:
            recorder.call = None
