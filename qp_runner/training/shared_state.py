"""Values that classes and modules of foreign code hold: all runs of a process have them, so none can restore them."""

import sys
from collections.abc import Iterable, Iterator

from qp_runner.compress.plain import Written, is_plain, same, write
from qp_runner.compress.python_state import Holder, is_data
from qp_runner.training.code import source_modules


def shared_values(objects: Iterable[object]) -> dict[str, Written]:
    """Numbers, texts, tensors and containers of them, by the name they have in a module or class.

    Args:
        objects: the modules that their classes rest on are looked at, installed ones and this package left out.
    """
    names = {each for kind in set(map(type, objects)) for each in source_modules(kind.__module__)}
    return {
        f"{path}.{name}": written
        for path, owner in _owners(sorted(names))
        for name, value in list(vars(owner).items())
        if not name.startswith("__") and not is_data(Holder(path, owner), value) and is_plain(written := write(value))
    }


def changed_value(before: dict[str, Written], now: dict[str, Written]) -> str | None:
    """The name of a value that has changed. Those of modules that were imported since do not count."""
    return next((name for name in before if name in now and not same(before[name], now[name])), None)


def _owners(modules: Iterable[str]) -> Iterator[tuple[str, object]]:
    """Modules, and the classes they define."""
    for name in modules:
        if (module := sys.modules.get(name)) is not None:
            yield name, module
            for value in list(vars(module).values()):
                if isinstance(value, type) and value.__module__ == name:
                    yield f"{name}.{value.__qualname__}", value
