"""The tensors in what is passed and returned; what a primitive operation is given, by its schema."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Any

from torch import Tensor
from torch.utils._pytree import tree_leaves


def tensors_of(tree: Any) -> list[Tensor]:
    """The tensors in arguments or results."""
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]


def tensors_returned(tree: Any) -> list[Tensor]:
    """The tensors in what a module takes or returns, which may also lie in dataclasses and in mappings of any kind."""
    found: list[Tensor] = []
    for leaf in tree_leaves(tree):
        if isinstance(leaf, Tensor):
            found.append(leaf)
        elif isinstance(leaf, Mapping):
            found += tensors_returned(list(leaf.values()))
        elif is_dataclass(leaf) and not isinstance(leaf, type):
            found += tensors_returned([getattr(leaf, each.name) for each in fields(leaf)])
    return found


def argument_of(func: Any, args: Sequence[Any], kwargs: dict[str, Any], name: str) -> Any:
    """What an operation is given for the argument of this name; None if it has none such."""
    return next((value for argument, value in _arguments(func, args, kwargs) if argument.name == name), None)


def written_arguments(func: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> list[Tensor]:
    """The arguments that an operation's schema says it changes in place."""
    changed: list[Tensor] = []
    for argument, value in _arguments(func, args, kwargs):
        if argument.alias_info is not None and argument.alias_info.is_write:
            changed += tensors_of(value)
    return changed


def _arguments(func: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> Iterator[tuple[Any, Any]]:
    """The arguments of an operation's schema, with what it is given; None for what is left out."""
    for i, argument in enumerate(func._schema.arguments):
        yield argument, args[i] if i < len(args) else kwargs.get(argument.name)
