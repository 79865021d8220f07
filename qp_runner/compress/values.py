"""What tensors hold during a forward pass: values, and the forms in which they are moved, clipped or pooled."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from qp_runner.compress.operations import CLIPPING


@dataclass(eq=False)
class Value:
    """The contents of a tensor between two writes.

    Attributes:
        made: the number of the operation that computed it.
        shape: with the batch.
        module: path of the innermost module that was running then; `operation` the call's name.
        reads: what that operation read from others.
        of_input: whether it depends on the network's input.
        is_input: whether it still is that input: at most normalised, resized or padded without any Parameter.
        varies: whether its size depends on values, as with a detector's regions.
        in_part: whether the operation that made it wrote into a part of a tensor, so that its result is not all of it.
        read_by: numbers of the operations that read it.
        readers: the forms of it that are read or returned.
        outputs: paths of the modules that return it, the innermost first.
        comes_first: whether it is the first tensor that one of them returns.
        marks: the sites that compress it: path, form and elements.
    """

    made: int
    shape: tuple[int, ...]
    module: str = ""
    operation: str = ""
    reads: list["Value"] = field(default_factory=list)
    of_input: bool = False
    is_input: bool = False
    varies: bool = False
    in_part: bool = False
    read_by: set[int] = field(default_factory=set)
    returned: bool = False
    readers: list["Form"] = field(default_factory=list)
    outputs: list[str] = field(default_factory=list)
    comes_first: bool = False
    marks: list[tuple[str, "Form", int]] = field(default_factory=list)

    def compressed_by(self) -> dict[str, int]:
        """The sites without whose compression nothing reads it, with the elements that each writes for one sample."""
        return {
            path: elements
            for path, form, elements in self.marks
            if all(reader.comes_from(form) for reader in self.readers)
        }

    def best_site(self) -> str:
        """Of those sites the one where a runtime would compress: the last before values are pooled or moved."""
        sites = self.compressed_by()
        marks = [(path, form) for path, form, _ in self.marks if path in sites]
        computed = [path for path, form in marks if form.before is None or form.made_by in CLIPPING]
        return computed[-1] if computed else next((path for path, _ in marks), "")

    @property
    def numel(self) -> int:
        """Elements, of the batch."""
        return numel(self.shape)

    @property
    def elements(self) -> int:
        """Elements of one sample, for a batch of one; of one row where their number varies."""
        return numel(self.shape[1:]) if self.varies else self.numel


@dataclass(eq=False)
class Form:
    """A tensor that holds a value, moved, clipped or pooled; `before` is the form that it was made from."""

    value: Value
    before: "Form | None" = None
    made_by: str = ""  # the primitive operation

    def comes_from(self, other: "Form") -> bool:
        """Whether it is another form or was made from it."""
        form: Form | None = self
        while form is not None and form is not other:
            form = form.before
        return form is other


def input_form(tensor: Tensor) -> Form:
    """A network's input."""
    return Form(Value(0, tuple(tensor.shape), of_input=True, is_input=True))


def numel(shape: Sequence[int]) -> int:
    """Elements of a tensor of this shape."""
    return torch.Size(shape).numel()
