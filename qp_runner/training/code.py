"""The source code that a module rests on: its own and that of everything it imports, in whatever folder it lies.

The standard library counts with Python's version (see `numerics`), an installed distribution with its name, version and
list of files, and any other module with its source. Modules are found as Python would find them, but nothing is
imported for it, so the answer is the same before and after a run was built.
"""

import ast
import hashlib
import importlib.util
import re
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

from qp_runner.training import modules

OWN = __name__.partition(".")[0]  # this package: `identity.source_digest` counts it
IMPORTERS = {"import_module", "__import__", "locate", "get_class", "get_method", "get_object"}
LOADERS = {"spec_from_file_location", "run_path", "run_module", "exec", "walk_packages", "iter_modules"}
NAME = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")


def foreign_code(tree: object) -> dict[str, str]:
    """What nested plain data name outside this package, with a digest of the code behind each name.

    These are the values of `_target_`, and any other text that names a module with source of its own, or something in
    one, since a factory may import what it is told to.
    """
    found = {}
    for name in sorted(set(_texts(tree, targets=True))):
        found[name] = code_digest(name)
    for name in sorted(set(_texts(tree, targets=False)) - found.keys()):
        if NAME.fullmatch(name) and source_modules(name):
            found[name] = code_digest(name)
    return {name: known for name, known in found.items() if known}


@cache
def code_digest(name: str) -> str:
    """A digest of the code behind the dotted name of a module, or of something in one; empty for nothing to count.

    Files are read once per process: what counts is the code that this process runs.
    """
    units = _closure(name)
    return hashlib.sha256(repr(sorted(units.items())).encode()).hexdigest() if units else ""


@cache
def source_modules(name: str) -> tuple[str, ...]:
    """The modules behind a dotted name that count with their source."""
    return tuple(sorted(each for each, what in _closure(name).items() if what.startswith("source ")))


def _closure(name: str) -> dict[str, str]:
    """By module or distribution: what it counts with."""
    units: dict[str, str] = {}
    left, seen = modules.module_and_parents(name) or [name.partition(".")[0]], set[str]()
    while left:
        each = left.pop()
        if each in seen or each.partition(".")[0] == OWN:
            continue
        seen.add(each)
        where = modules.spec(each)
        if where is None:
            units[each] = "missing"  # an optional import: installing it may change what is computed
        elif modules.is_standard(where):
            continue
        elif installed := modules.distributions(where):
            units |= installed
        else:
            own, imports = _source(each)
            units |= own
            left += [found for wanted in imports for found in modules.module_and_parents(wanted) or [wanted]]
    return units


@cache
def _source(name: str) -> tuple[dict[str, str], tuple[str, ...]]:
    """What a module with source of its own counts with, and the names that it imports."""
    where = modules.spec(name)
    assert where is not None
    code = modules.source(where)
    units = {name: f"source {hashlib.sha256(code).hexdigest()}"}
    if not (where.origin or "").endswith(".py"):
        return units, ()
    package = name if where.submodule_search_locations is not None else name.rpartition(".")[0]
    try:
        imports, guessed = _imports(ast.parse(code), package)
    except (SyntaxError, ValueError):  # building the run will say so
        return units, ()
    if guessed:
        files = _neighbours(name)
        units |= {f"neighbour {module}": _file(path) for module, path in files.items()}
        imports += files
    return units, tuple(imports)


def _imports(tree: ast.AST, package: str) -> tuple[list[str], bool]:
    """The dotted names that a module imports anywhere, and whether it imports others whose names it computes."""
    names: list[str] = []
    guessed = False
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names += [each.name for each in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = _absolute("." * node.level + (node.module or ""), package)
            names += [base] if base else []
            names += [f"{base}.{each.name}" for each in node.names if base and modules.spec(f"{base}.{each.name}")]
        elif isinstance(node, ast.Call) and (called := _called(node)) in IMPORTERS | LOADERS:
            first = node.args[0] if node.args else None
            if called in IMPORTERS and isinstance(first, ast.Constant) and isinstance(first.value, str):
                wanted = _absolute(first.value, package)
                names += [wanted] if wanted else []
            else:
                guessed = True
    return names, guessed


def _called(call: ast.Call) -> str:
    function = call.func
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")


def _absolute(name: str, package: str) -> str:
    try:
        return importlib.util.resolve_name(name, package)
    except (ImportError, ValueError):  # more dots than packages
        return ""


def _neighbours(name: str) -> dict[str, Path]:
    """The source files next to a module, or in its package, by the modules that they are.

    What a module imports by a name that it computes lies there, or is named in the configuration.
    """
    top = name.partition(".")[0]
    where = modules.spec(top)
    assert where is not None
    if where.submodule_search_locations is None:
        return {path.stem: path for path in sorted(Path(where.origin or "").parent.glob("*.py"))}
    found = {}
    for folder in map(Path, modules.folders(where)):
        for path in sorted(folder.rglob("*.py")):
            parts = path.relative_to(folder.parent).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


@cache
def _file(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _texts(tree: object, *, targets: bool) -> Iterator[str]:
    """The texts in nested plain data: those of `_target_`, or all others."""
    if isinstance(tree, str):
        if not targets:
            yield tree
    elif isinstance(tree, Mapping):
        for key, value in tree.items():
            if key != "_target_":
                yield from _texts(value, targets=targets)
            elif targets:
                yield str(value)
    elif isinstance(tree, list | tuple):
        for value in tree:
            yield from _texts(value, targets=targets)
