"""Writes a task's networks as files, and verifies each of them."""

from pathlib import Path

from qp_runner.export.contents import contents
from qp_runner.export.exporting_packed import export_packed
from qp_runner.export.settings import ExportSettings
from qp_runner.export.subject import Exporting
from qp_runner.export.verification import Verified


def export(given: Exporting, folder: Path, settings: ExportSettings) -> list[Verified]:
    """Writes the files into a folder, and verifies them on the test set. Raises ExportError, OSError."""
    folder.mkdir(parents=True, exist_ok=True)
    found = {name: contents(given.compressor, network) for name, network in given.networks.items()}
    verified = []
    if "packed" in settings.formats:
        verified.append(export_packed(given, found, folder))
    if "onnx" in settings.formats:
        from qp_runner.export.exporting_onnx import export_onnx  # its libraries are an extra

        verified += export_onnx(given, found, folder, settings)
    return verified
