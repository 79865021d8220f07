"""A digest of any Python object by its content, never by its type alone; or the name of what can't be digested."""

import enum
import hashlib
import os
import types
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor, nn

from qp_runner.compress.python_state import OF_MODULES
from qp_runner.errors import first_line
from qp_runner.training.code import code_digest
from qp_runner.training.named_files import MOST, NamedFiles

DEEPEST = 200
HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
CALLABLES = types.FunctionType | types.BuiltinFunctionType | types.MethodType | types.MethodWrapperType | type


class NotDigestibleError(ValueError):
    """An object whose content can't be digested; the message names it and says why."""


@runtime_checkable
class HasFingerprint(Protocol):
    """An object that says itself what it contains."""

    def fingerprint(self) -> str:
        """Equal for two objects if they have the same content."""


class Tensors(dict[int, tuple[Tensor, bytes]]):
    """Digests of large tensors, by id, for objects that share them. Holds the tensors, so that no id is used again."""

    LARGE = 1 << 20  # elements

    def digest(self, tensor: Tensor) -> bytes:
        """Of all elements. That of a large tensor, which must not change, is remembered."""
        if id(tensor) in self:
            return self[id(tensor)][1]
        plain = tensor.detach().cpu().contiguous()
        found = hashlib.sha256(plain.flatten().view(torch.uint8).numpy().data).digest()
        if tensor.numel() > self.LARGE:
            self[id(tensor)] = (tensor, found)
        return found


class Digester:
    """Digests objects, each with all that it refers to. An object that is met again counts as the same.

    Tensors, arrays and numbers count with their values; random generators with their state; containers with what they
    hold; files and folders, given as paths or as texts that name them, with names, sizes and times; functions with
    their code, the values they are bound to and the source behind them; networks with parameters, buffers, attributes
    and hooks. Any other object counts with its `fingerprint()`, if it has one, else with its type, the source behind
    it, and its attributes (more exactly: what would be pickled).

    Args:
        tensors: known digests of tensors.
        special: is offered each object first; returns whether it has dealt with it.
    """

    def __init__(
        self, tensors: Tensors | None = None, special: Callable[["Digester", object], bool] = lambda *_: False
    ) -> None:
        self._tensors, self._special = Tensors() if tensors is None else tensors, special
        self._hash = hashlib.sha256()
        self._met: dict[int, tuple[int, object]] = {}
        self._path: list[str] = []
        self.files = NamedFiles()
        self.size = 0  # in bytes
        self.modules: set[str] = set()  # of the types that were taken

    def hexdigest(self) -> str:
        """Of all that was taken."""
        return self._hash.hexdigest()

    def take(self, name: str, value: object) -> None:
        """Adds an object under a name. Raises NotDigestibleError."""
        with self._inside(name):
            self.add("<", name)
            try:
                self._take(value)
            except NotDigestibleError:
                raise
            except Exception as error:  # what a foreign class may raise: it holds a handle, a lock, a running generator
                kind = type(value).__qualname__
                raise self.refusal(f"is a {kind}, which can't be digested ({first_line(error)})") from error
            self.add(">")

    def refusal(self, why: str) -> NotDigestibleError:
        """The error for the object that is looked at."""
        return NotDigestibleError(f"{'.'.join(self._path)} {why}")

    def add(self, *parts: object) -> None:
        """Adds plain values."""
        for part in parts:
            data = part if isinstance(part, bytes) else str(part).encode(errors="surrogatepass")
            self.size += len(data)
            self._hash.update(b"%d:" % len(data) + data)

    def add_type(self, value: type) -> None:
        """Adds a type: its name and the source behind it."""
        self.modules.add(value.__module__)
        self.add("type", value.__module__, value.__qualname__, code_digest(value.__module__))

    def _take(self, value: Any) -> None:
        if value is None or type(value) in (bool, int, float, complex, bytes):
            self.add(type(value).__name__, repr(value))
        elif type(value) is str:
            self.add("str", value)
            if "/" in value.replace(os.sep, "/"):
                self._named(value)
        elif type(value) is tuple:  # equal constants may be one object or several
            self._sequence(value)
        elif id(value) in self._met:
            self.add("again", self._met[id(value)][0])
        else:
            self._met[id(value)] = (len(self._met), value)
            if not self._special(self, value):
                self._object(value)

    def _object(self, value: Any) -> None:
        kinds: Any
        take: Callable[[Any], None]
        for kinds, take in (
            (Tensor, self._tensor),
            (np.ndarray | np.generic, lambda each: self._array(np.asarray(each))),
            (types.ModuleType, lambda each: self.add("module", each.__name__, code_digest(each.__name__))),
            (CALLABLES, self._callable),
            (HasFingerprint, self.fingerprint),
            (nn.Module, self._network),
            (Path, self._place),
            (torch.Generator, lambda each: self.add("generator", each.device, each.get_state().numpy().tobytes())),
        ):
            if isinstance(value, kinds):
                take(value)
                return
        if isinstance(value, Mapping) and type(value).__module__ in ("builtins", "collections"):
            self.add(type(value).__name__, len(value))
            for key, each in value.items():
                self.take(str(key), (key, each) if type(key) is not str else each)
        elif type(value) is list:
            self._sequence(value)
        elif type(value) in (set, frozenset):
            self._set(value)
        else:
            self.attributes(value)

    def _tensor(self, value: Tensor) -> None:
        self.size += value.nbytes
        self.add("tensor", value.dtype, tuple(value.shape), value.requires_grad, self._tensors.digest(value))

    def _place(self, value: Path) -> None:
        self.add("path", value.name)
        self._named(str(value))

    def _sequence(self, values: list[Any] | tuple[Any, ...]) -> None:
        self.add(type(values).__name__, len(values))
        for number, each in enumerate(values):
            self.take(str(number), each)

    def _array(self, value: Any) -> None:
        self.add("array", value.dtype.str, value.shape)
        if value.dtype.hasobject:
            self.take("elements", value.tolist())
        else:
            self.size += value.nbytes
            self.add(hashlib.sha256(np.ascontiguousarray(value).reshape(-1).view(np.uint8).data).digest())

    def fingerprint(self, value: HasFingerprint) -> None:
        """Adds an object by its own `fingerprint()`."""
        own = value.fingerprint()
        if not isinstance(own, str):
            raise self.refusal(f"has a fingerprint() that returns a {type(own).__name__}; it has to be a str")
        self.add_type(type(value))
        self.add("fingerprint", own)

    def _network(self, value: nn.Module) -> None:
        self.add_type(type(value))
        self.add("training", value.training)
        for name, each in (*value._parameters.items(), *value._buffers.items(), *value._modules.items()):
            self.take(name, each)
        for name in sorted(vars(value).keys() - OF_MODULES):
            self.take(name, vars(value)[name])
        for kind in HOOKS:  # their keys are counted through the process
            self.take(kind, list(getattr(value, kind).values()))

    def _callable(self, value: Any) -> None:
        """A type or function: its name, the source behind it, and what a function is bound to."""
        if isinstance(value, type):
            self.add_type(value)
        elif isinstance(value, types.MethodType):
            self.take("self", value.__self__)
            self.take("function", value.__func__)
        elif isinstance(value, types.FunctionType):
            self.add("function", value.__module__, value.__qualname__, code_digest(value.__module__ or ""))
            self._code(value.__code__, value.__globals__)
            for name, cell in zip(value.__code__.co_freevars, value.__closure__ or (), strict=True):
                with suppress(ValueError):  # an empty cell
                    self.take(name, cell.cell_contents)
            self.take("defaults", (value.__defaults__, value.__kwdefaults__))
        else:
            self.add("builtin", value.__qualname__)
            if not isinstance(value.__self__, types.ModuleType | None):
                self.take("self", value.__self__)

    def _code(self, code: types.CodeType, known: Mapping[str, object]) -> None:
        """A function's instructions and constants, and the data that it names in its module."""
        self.add(code.co_code, code.co_names, code.co_varnames)
        for each in code.co_consts:
            if isinstance(each, types.CodeType):
                self._code(each, known)
            else:
                self.take("constant", each)
        for name in code.co_names:
            if isinstance(known.get(name), Tensor | np.ndarray):
                self.take(name, known[name])

    def attributes(self, value: Any) -> None:
        """Adds an object by its type and what it would be pickled as, which is its attributes by default."""
        self.add_type(type(value))
        if isinstance(value, enum.Enum):
            self.add(value.name)
            return
        made = value.__reduce_ex__(4)
        if isinstance(made, str):  # a global name
            self.add(made, code_digest(getattr(value, "__module__", None) or ""))
            return
        make, arguments, state, items, pairs = (*made, None, None, None)[:5]
        self.take("made by", make)
        self.take("from", arguments)
        if isinstance(state, dict):
            for name in sorted(state, key=str):
                self.take(str(name), state[name])
        else:
            self.take("state", state)
        self.take("items", [None if each is None else list(each) for each in (items, pairs)])

    def take_apart(self, name: str, value: object) -> int:
        """Adds the digest that an object has by itself; returns its size in bytes. Unlike `take`, keeps no object."""
        other = self._fresh()
        other.take(name, value)
        self.add(other.hexdigest())
        self.modules |= other.modules
        return other.size

    def _set(self, values: frozenset[Any] | set[Any]) -> None:
        digests = []
        for each in values:  # in whatever order
            other = self._fresh()
            other.take("element", each)
            self.modules |= other.modules
            digests.append(other.hexdigest())
        self.add("set", *sorted(digests))

    def _fresh(self) -> "Digester":
        other = Digester(self._tensors, self._special)
        other._path = list(self._path)
        return other

    def _named(self, text: str) -> None:
        """Adds the file or folder that a text names."""
        for described in self.files.of(text):
            self.add("file", *described)
        if self.files.too_many:
            raise self.refusal(f"names a folder ({text}) with more than {MOST} files")

    @contextmanager
    def _inside(self, name: str) -> Iterator[None]:
        self._path.append(name)
        try:
            if len(self._path) > DEEPEST:
                raise self.refusal("is nested too deeply")
            yield
        finally:
            self._path.pop()
