"""Writes a task's networks as files, and verifies each of them."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from qp_runner.errors import ExportError
from qp_runner.export.contents import contents
from qp_runner.export.exporting_packed import export_packed
from qp_runner.export.settings import ExportSettings
from qp_runner.export.subject import Exporting
from qp_runner.export.verification import Verified

DRAFTS = "drafts"


def export(given: Exporting, folder: Path, settings: ExportSettings) -> list[Verified]:
    """Writes the files, verifies them on the test set, and puts them into a folder.

    Until then they are in a folder of their own inside: what is interrupted leaves the files of an earlier export, and
    the figures beside them, as they are.

    Raises:
        ExportError: it can't be done, or a file can't be written.
    """
    drafts = folder / DRAFTS
    try:
        shutil.rmtree(drafts, ignore_errors=True)  # of an export whose process was killed
        drafts.mkdir(parents=True)
        with _step_by_step():
            verified = _written(given, drafts, settings)
        for each in verified:
            each.path = each.path.replace(folder / each.path.name)
    except OSError as error:
        raise ExportError(f"{error.filename or folder}: {error.strerror or error}") from error
    finally:
        shutil.rmtree(drafts, ignore_errors=True)
    return verified


@contextmanager
def _step_by_step() -> Iterator[None]:
    """Inside, transformer layers of torch compute as they do with sites. Without any (a loaded file that compresses
    weights alone) they would take one kernel for a whole layer, which rounds otherwise.
    """
    was_on = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(was_on)


def _written(given: Exporting, folder: Path, settings: ExportSettings) -> list[Verified]:
    found = {name: contents(given.compressor, network) for name, network in given.networks.items()}
    verified = []
    if "packed" in settings.formats:
        verified.append(export_packed(given, found, folder))
    if "onnx" in settings.formats:
        from qp_runner.export.exporting_onnx import export_onnx  # its libraries are an extra

        verified += export_onnx(given, found, folder, settings)
    return verified
