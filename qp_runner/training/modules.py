"""Where Python's modules lie and what they belong to, without importing them."""

import hashlib
import importlib.util
import sys
import sysconfig
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.machinery import ModuleSpec, PathFinder
from importlib.metadata import Distribution, PackageNotFoundError, distribution, packages_distributions
from pathlib import Path
from typing import Any

INSTALLED = {"site-packages", "dist-packages"}


def module_and_parents(name: str) -> list[str]:
    """The module of a dotted name, which may name something in it, and the packages it lies in; empty if not found."""
    parts = name.split(".")
    found = []
    for count in range(1, len(parts) + 1):
        module = ".".join(parts[:count])
        if spec(module) is None:
            break
        found.append(module)
    return found


def spec(name: str) -> ModuleSpec | None:
    """Where a module lies. Unlike `importlib.util.find_spec`, this doesn't import the packages around it."""
    loaded = sys.modules.get(name)
    known = getattr(loaded, "__spec__", None)
    if isinstance(known, ModuleSpec):
        return known
    if loaded is not None and isinstance(getattr(loaded, "__file__", None), str):  # such as a script, `__main__`
        return ModuleSpec(name, None, origin=str(loaded.__file__))
    return _find(name)


@cache
def _find(name: str) -> ModuleSpec | None:
    package, _, last = name.rpartition(".")
    around = folders(spec(package)) if package else []
    try:
        if not package:
            return importlib.util.find_spec(name)
        return PathFinder.find_spec(name, around) if around else None
    except KeyError:  # a namespace package: Python looks for the one around it among those imported
        found = ModuleSpec(name, None, is_package=True)
        found.submodule_search_locations = [str(Path(folder, last)) for folder in around]
        return found
    except (ImportError, ValueError, AttributeError):
        return None


def folders(package: ModuleSpec | None) -> list[str]:
    """Where the modules of a package lie; empty for a module that is none."""
    return [] if package is None else list(package.submodule_search_locations or ())


def source(where: ModuleSpec) -> bytes:
    """A module's file; empty for a namespace package."""
    if not where.has_location and not Path(where.origin or "").is_file():
        return b""
    get: Any = getattr(where.loader, "get_data", None)  # also from an archive
    try:
        data: bytes = get(where.origin) if get else Path(str(where.origin)).read_bytes()
    except OSError:
        return b""
    return data


def is_standard(where: ModuleSpec) -> bool:
    """Whether a module belongs to the standard library."""
    if where.origin in ("built-in", "frozen"):
        return True
    return any(folder in place.parents for folder in _standard() for place in _places(where) if not _site(place))


@cache
def _standard() -> frozenset[Path]:
    return frozenset(Path(sysconfig.get_path(kind)).resolve() for kind in ("stdlib", "platstdlib"))


def _places(where: ModuleSpec) -> Iterator[Path]:
    for each in [where.origin] if where.origin else folders(where):
        yield Path(each).resolve()


def _site(place: Path) -> Path | None:
    """The folder of installed packages that a file lies in."""
    return next((parent for parent in place.parents if parent.name in INSTALLED), None)


def distributions(where: ModuleSpec) -> dict[str, str]:
    """Name and version of the distributions that a module was installed with; empty for one that was not."""
    for place in _places(where):
        site = _site(place)
        if site is not None:
            top = place.relative_to(site).parts[0].partition(".")[0]
            return {each.name: _version(each.name) for each in _distributions(top)}
    return {}


@cache
def _distributions(top: str) -> tuple[Distribution, ...]:
    try:
        return (distribution(top),)  # most are called like their package; looking through all takes half a second
    except PackageNotFoundError:
        return tuple(distribution(name) for name in sorted(set(_all_distributions().get(top, ()))))


@cache
def _all_distributions() -> Mapping[str, list[str]]:
    return packages_distributions()


@cache
def _version(name: str) -> str:
    """Version and, since a project may be installed again under the same one, the recorded digests of its files."""
    known = distribution(name)
    record = known.read_text("RECORD") or ""
    rows = sorted(row for row in record.splitlines() if row.partition(",")[0].endswith((".py", ".so", ".pyd")))
    return f"{known.version} {hashlib.sha256(chr(10).join(rows).encode()).hexdigest()}"
