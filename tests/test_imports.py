"""The package's imports run one way, so that each part can be read, tested and reused without the ones above it."""

import ast
import re
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from qp_runner.run.identity import DECIDING

PACKAGE = Path(__file__).resolve().parents[1] / "qp_runner"
LAYERS = (  # from the bottom up: a layer may import the layers above it in this list, never those below it
    {"errors", "lasting", "locking", "masking", "metric", "shares", "versions", "warned", "__version__"},
    {"schedule", "lazy"},
    {"compress", "data", "models"},
    {"tasks", "config"},
    {"training", "tracking"},
    {"report", "export"},
    {"run"},
    {"sweep"},
    {"search"},
    {"cli"},
    {"__main__", "__init__"},
)
APART = {  # part -> what it must not import although it stands lower
    "data": {"schedule"},
    "models": {"schedule"},
    "tasks": {"compress", "schedule", "config"},
    "config": {"compress", "data", "models", "tasks"},
    "training": {"data", "models", "config"},
    "tracking": {"compress", "data", "models", "tasks", "config", "schedule"},
    "report": {"compress", "data", "models", "tasks", "config", "training"},
    "export": {"data", "models", "config", "training", "tracking"},
}
ONLY = {
    "hydra": {"cli", "config", "sweep", "search"},
    "omegaconf": {"cli", "config", "sweep", "search"},
    "mlflow": {"tracking", "report"},
    **{library: {"export"} for library in ("onnx", "onnx_ir", "onnxruntime", "zstandard")},
}
RUN = ("build", "example_inputs", "initial", "loading", "model_file", "networks", "task", "teacher")
BUILDING = {"config/instantiate.py", *(f"run/{name}.py" for name in RUN)}
FILES = sorted(PACKAGE.rglob("*.py"))


def part(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def height(name: str) -> int:
    return next(number for number, layer in enumerate(LAYERS) if name in layer)


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


def is_text(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_run_one_way(path: Path) -> None:
    own = {name.split(".")[1] for name in imported(path) if name.startswith("qp_runner.")} - {part(path)}
    lower = set[str]().union(*LAYERS[: height(part(path))])
    assert own <= lower - APART.get(part(path), set())


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_strings_that_name_files_name_lower_ones_that_exist(path: Path) -> None:
    texts = [node.value for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if is_text(node)]
    named = [PACKAGE / text for text in texts if re.fullmatch(r"(\w+/)+\w+\.py", text)]
    lower = set[str]().union(*LAYERS[: height(part(path))])
    for each in named:
        assert each.is_file()
        assert part(each) in lower | {part(path)}


def test_the_code_that_decides_a_runs_state_is_all_that_training_rests_on_and_what_builds_it() -> None:
    below = set[str]().union(*LAYERS[: height("training") + 1]) - {"config", "tracking"}
    rooms = {name for name in below if (PACKAGE / name).is_dir()}
    assert set(DECIDING) == rooms | BUILDING
    assert all((PACKAGE / name).exists() for name in DECIDING)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_hydra_and_mlflow_stay_where_they_belong(path: Path) -> None:
    top = {name.split(".")[0] for name in imported(path)}
    for library, parts in ONLY.items():
        assert library not in top or part(path) in parts


def test_nothing_rests_on_hydras_internals() -> None:
    root = PACKAGE.parent
    folders = ("qp_runner", "hydra_plugins", "scripts", "tests")
    files = [path for folder in folders for path in (root / folder).rglob("*.py")]
    internal = "hydra." + "_internal"
    assert not [path for path in files if any(name.startswith(internal) for name in imported(path))]


def test_no_files_import_each_other_in_a_circle() -> None:
    modules = {path.relative_to(PACKAGE.parent).with_suffix("").as_posix().replace("/", "."): path for path in FILES}
    graph = {name: imported(path) & modules.keys() - {name} for name, path in modules.items()}
    TopologicalSorter(graph).prepare()  # raises CycleError, which names the circle


@pytest.mark.parametrize(
    "path", [PACKAGE / "errors.py", *sorted((PACKAGE / "schedule").glob("*.py"))], ids=lambda path: path.name
)
def test_a_schedule_needs_the_standard_library_alone(path: Path) -> None:
    allowed = {*sys.stdlib_module_names, "qp_runner"}
    assert {name.split(".")[0] for name in imported(path)} <= allowed


def test_there_is_something_to_check() -> None:
    assert {"schedule", "compress", "training", "tasks", "tracking", "report", "cli"} <= {part(path) for path in FILES}
