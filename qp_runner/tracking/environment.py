"""Under what a run ran: versions, commit, processors and command line, as tags that say how to repeat it."""

import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from qp_runner import __version__
from qp_runner.masking import masked
from qp_runner.versions import package_version

ROOT = Path(__file__).resolve().parents[2]


def with_environment(tags: Mapping[str, str]) -> dict[str, str]:
    """A run's own tags, which win, then `version.*`, `cpus`, `command` and, from a checkout, `git_commit`.

    MLflow's pages list them in this order.
    """
    known = {
        "version.qp_runner": __version__,
        "version.torch": package_version("torch"),
        "version.python": platform.python_version(),
        "cpus": str(os.cpu_count() or 1),
        "command": _command(),
    }
    if commit := git_commit():
        known["git_commit"] = commit
    return {**tags, **{name: value for name, value in known.items() if name not in tags}}


@cache
def git_commit() -> str | None:
    """The commit of the checkout that this package runs from, `-dirty` appended where it differs; else None.

    An installed package asks nobody: the repository around its virtual environment may be somebody else's.
    """
    if not (ROOT / ".git").exists() or not (ROOT / "pyproject.toml").is_file():
        return None
    commit, changes = _git("rev-parse", "HEAD"), _git("status", "--porcelain", "--untracked-files=no")
    return f"{commit}-dirty" if commit and changes else commit or None


def _git(*arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(ROOT), *arguments], capture_output=True, text=True, timeout=10, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def _command() -> str:
    program, *arguments = sys.argv or [""]
    name = "qp-runner" if Path(program).stem == "__main__" else Path(program).name
    return masked(shlex.join([name or "python", *arguments]))
