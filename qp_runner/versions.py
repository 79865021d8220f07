"""Versions of installed packages, without importing them (importing torch takes seconds)."""

from functools import cache
from importlib.metadata import PackageNotFoundError, version


@cache
def package_version(package: str) -> str:
    """The installed version of a package, or `none`."""
    try:
        return version(package)
    except PackageNotFoundError:
        return "none"
