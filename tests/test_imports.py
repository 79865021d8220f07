"""The package's imports run one way, so that each part can be read, tested and reused without the ones above it."""

import ast
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "qp_runner"
FORBIDDEN = {  # part -> what it must not import
    "schedule": {
        "compress",
        "training",
        "tasks",
        "data",
        "models",
        "tracking",
        "report",
        "sweep",
        "cli",
        "schema",
        "errors",
    },
    "compress": {"training", "tasks", "data", "models", "tracking", "report", "sweep", "cli", "schema"},
    "training": {"tracking", "report", "sweep", "cli", "schema", "data", "models"},
    "tasks": {"compress", "schedule", "training", "tracking", "report", "sweep", "cli", "schema"},
    "data": {"compress", "schedule", "training", "tracking", "report", "sweep", "cli", "schema", "tasks", "models"},
    "models": {"compress", "schedule", "training", "tracking", "report", "sweep", "cli", "schema", "tasks", "data"},
    "tracking": {"compress", "training", "tasks", "data", "models", "report", "sweep", "cli", "schema"},
    "report": {"compress", "training", "tasks", "data", "models", "sweep", "cli", "schema"},
}
ONLY = {
    "hydra": {"cli", "schema", "sweep"},
    "omegaconf": {"cli", "schema", "sweep"},
    "mlflow": {"tracking", "sweep", "report"},
}
FILES = sorted(PACKAGE.rglob("*.py"))


def part(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            names.add(str(node.module))
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_run_one_way(path: Path) -> None:
    own = {name.split(".")[1] for name in imported(path) if name.startswith("qp_runner.")}
    assert not own & FORBIDDEN.get(part(path), set())


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_hydra_and_mlflow_stay_where_they_belong(path: Path) -> None:
    top = {name.split(".")[0] for name in imported(path)}
    for library, parts in ONLY.items():
        assert library not in top or part(path) in parts


@pytest.mark.parametrize("path", sorted((PACKAGE / "schedule").glob("*.py")), ids=lambda path: path.name)
def test_a_schedule_needs_the_standard_library_alone(path: Path) -> None:
    allowed = {*sys.stdlib_module_names, "qp_runner"}
    assert {name.split(".")[0] for name in imported(path)} <= allowed


def test_there_is_something_to_check() -> None:
    assert {"schedule", "compress", "training", "tasks", "tracking", "report", "cli"} <= {part(path) for path in FILES}
