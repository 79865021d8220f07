"""A run's identity covers the source of everything that its code imports, in whatever way."""

import importlib
import json
import os
import sys
from collections.abc import Sequence
from itertools import count
from pathlib import Path
from site import addsitedir

import pytest

from qp_runner.training.code import code_digest, foreign_code, source_modules
from support import forked, metrics, same

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="processes of POSIX systems")
numbers = count()


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a package that no other test knows, in a folder that Python imports from."""
    monkeypatch.syspath_prepend(tmp_path)
    return f"foreign{next(numbers)}"


def write(folder: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    importlib.invalidate_caches()


def digest_elsewhere(folder: Path, name: str, *, importing: Sequence[str] = (), site: bool = False) -> str:
    """In another process, which finds modules in a folder; `site` treats it as one of installed packages."""
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        try:
            if site:
                addsitedir(str(folder))
            sys.path.insert(0, str(folder))
            importlib.invalidate_caches()
            for each in importing:
                importlib.import_module(each)
            os.write(writing, json.dumps(foreign_code({"_target_": name})).encode())
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as answer:
        found = answer.read()
    os.waitpid(child, 0)
    assert found
    return found


WAYS = {
    "a sibling": ("task.py", "import helper", "helper.py"),
    "a name of it": ("task.py", "from helper import f", "helper.py"),
    "within a function": ("task.py", "def f():\n    import helper", "helper.py"),
    "by importlib": ("task.py", "import importlib\nhelper = importlib.import_module('helper')", "helper.py"),
    "by a name it computes": (
        "task.py",
        "import importlib\nhelper = importlib.import_module('hel' + 'per')",
        "helper.py",
    ),
    "by a path": (
        "task.py",
        "from importlib.util import spec_from_file_location\nfrom pathlib import Path\n"
        "spec_from_file_location('x', Path(__file__).with_name('helper.py'))",
        "helper.py",
    ),
    "through another": ("task.py", "import between", "helper.py"),
    "in a package": ("pkg/task.py", "from pkg.losses import f", "pkg/losses.py"),
    "relatively": ("pkg/sub/task.py", "from ..losses import f", "pkg/losses.py"),
    "as a module": ("pkg/task.py", "from . import losses", "pkg/losses.py"),
    "a package around it": ("pkg/task.py", "", "pkg/__init__.py"),
    "of a namespace": ("space/task.py", "import space.other.helper", "space/other/helper.py"),
}


@pytest.mark.parametrize("way", WAYS)
def test_a_change_in_what_is_imported_changes_it(tmp_path: Path, way: str) -> None:
    file, text, helper = WAYS[way]
    files = {file: text + "\nclass Task: ...", "between.py": "import helper", helper: "def f(): return 1"}
    if file.startswith("pkg"):
        files = {"pkg/__init__.py": "", "pkg/sub/__init__.py": "", **files}
    write(tmp_path, files)
    name = file.removesuffix(".py").replace("/", ".") + ".Task"
    first = digest_elsewhere(tmp_path, name)
    assert digest_elsewhere(tmp_path, name) == first
    (tmp_path / helper).write_text("def f(): return 2")
    assert digest_elsewhere(tmp_path, name) != first


def test_it_is_the_same_before_and_after_importing_and_beside_others(tmp_path: Path) -> None:
    write(tmp_path, {"task.py": "import helper\nclass Task: ...", "helper.py": "", "unrelated.py": "x = 1"})
    alone = digest_elsewhere(tmp_path, "task.Task")
    assert digest_elsewhere(tmp_path, "task.Task", importing=["unrelated", "task"]) == alone
    (tmp_path / "unrelated.py").write_text("x = 2")
    assert digest_elsewhere(tmp_path, "task.Task", importing=["unrelated"]) == alone


def test_a_module_named_in_the_configuration_counts(tmp_path: Path, package: str) -> None:
    write(tmp_path, {f"{package}.py": "def focal(): ..."})
    assert foreign_code({"factory": {"loss": f"{package}.focal", "name": "train", "mode": "json"}}).keys() == {
        f"{package}.focal"
    }


def test_a_library_counts_with_its_version_and_not_with_what_it_imports() -> None:
    assert code_digest("sklearn.datasets.load_digits")
    assert source_modules("sklearn.datasets.load_digits") == ()


def test_pythons_own_and_this_packages_modules_do_not_count_here() -> None:
    assert code_digest("json.dumps") == code_digest("os.path.join") == code_digest("qp_runner.data.digits") == ""


def test_a_project_installed_in_place_counts_with_its_source(tmp_path: Path) -> None:
    site = tmp_path / "site-packages"
    source = tmp_path / "src" / "mine"
    info = {"mine-1.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: mine\nVersion: 1.0\n"}
    write(site, info | {"mine-1.0.dist-info/RECORD": "mine.pth,,\n", "mine.pth": str(source.parent)})
    write(source, {"__init__.py": "class Task: ..."})
    first = digest_elsewhere(site, "mine.Task", site=True)
    write(source, {"__init__.py": "class Task: x = 1"})
    assert digest_elsewhere(site, "mine.Task", site=True) != first


def test_a_project_installed_again_under_the_same_version_counts_anew(tmp_path: Path) -> None:
    site = tmp_path / "site-packages"
    info = {"mine-1.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: mine\nVersion: 1.0\n"}
    write(site, info | {"mine/__init__.py": "", "mine-1.0.dist-info/RECORD": "mine/__init__.py,sha256=a,0\n"})
    first = digest_elsewhere(site, "mine.Task")
    write(site, {"mine-1.0.dist-info/RECORD": "mine/__init__.py,sha256=b,0\n"})
    assert digest_elsewhere(site, "mine.Task") != first


def test_what_is_missing_counts_once_it_is_there(tmp_path: Path) -> None:
    write(tmp_path, {"task.py": "try:\n    import fast\nexcept ImportError:\n    fast = None"})
    first = digest_elsewhere(tmp_path, "task.Task")
    write(tmp_path, {"fast.py": ""})
    assert digest_elsewhere(tmp_path, "task.Task") != first


TASK = """
from helper import SMOOTHING
from qp_runner.tasks import ClassificationTask

class Mine(ClassificationTask):
    def __init__(self, **arguments):
        super().__init__(**arguments | {"label_smoothing": SMOOTHING})
"""


def test_a_run_after_a_change_in_a_helper_of_its_task_is_computed_anew(here: Path) -> None:
    (here / "task.py").write_text(TASK)
    three_runs = """
sys.path.insert(0, os.getcwd())
sys.dont_write_bytecode = True
for smoothing in (0.0, 0.0, 0.9):
    open("helper.py", "w").write(f"SMOOTHING = {smoothing}")
    assert ended(start(command)) == 0
"""
    after_training = "+schedule.events.q={op: quantize, target: weight, to: 8, start: 1dur}"
    changes = ["schedule=float", "trainer.epochs=1", "task.factory._target_=task.Mine", after_training]
    done = forked(three_runs, [*changes, "trainer.progress=false", "tracking=none"])
    assert done.returncode == 0, done.stderr
    first, again, other = sorted((here / "results" / "runs").iterdir(), key=lambda run: run.stat().st_mtime)
    same(first, again)
    assert not metrics(other).equals(metrics(first))
    assert done.stderr.count("were stored") == 1
