"""A run's files for use elsewhere: written, verified, recorded."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qp_runner.config import Config
from qp_runner.config.schema import ExportSection
from qp_runner.errors import ConfigError
from qp_runner.export.exporting import export
from qp_runner.export.settings import ExportSettings, check_libraries, check_task
from qp_runner.export.subject import Exporting
from qp_runner.export.verification import Verified
from qp_runner.run.build import Parts
from qp_runner.run.evaluation import restored
from qp_runner.run.loading import rebuilt
from qp_runner.run.model_file import ModelFile
from qp_runner.run.outcome import final_metrics
from qp_runner.tasks import Task
from qp_runner.tracking import RunFiles, RunInfo
from qp_runner.tracking.records import Record, write_json

FOLDER, FIGURES = "export", "verified.json"
MEGABIT = 1e6


@dataclass(frozen=True)
class Exported:
    """The verified files of a run."""

    folder: Path
    files: list[Verified]

    @property
    def failures(self) -> list[str]:
        """What does not hold, one line each."""
        return [f"{each.path.name}: {failure}" for each in self.files for failure in each.failures]


def settings_of(section: ExportSection) -> ExportSettings:
    """What a configuration asks for."""
    onnx = section.onnx
    return ExportSettings(section.formats, onnx.mode, onnx.branches, onnx.signed_weights)


def check(config: Config, task: Task | None = None) -> None:
    """Raises ConfigError where a configuration asks for files that can't be made here, or of this task."""
    settings = settings_of(config.export)
    check_libraries(settings, key="export.formats")
    if task is not None:
        check_task(settings, task, key="export.formats")


def export_parts(config: Config, parts: Parts, folder: Path, files: RunFiles) -> Exported:
    """Exports a run that was just trained. Raises ExportError, OSError."""
    given = Exporting(parts.task, parts.compressor, lambda name: rebuilt(config, parts.given)[name])
    return _recorded(given, settings_of(config.export), folder, files, step=parts.total_steps)


def export_run(config: Config, file: ModelFile) -> Exported:
    """Exports a finished run from what it left, and adds that to its record.

    Raises:
        ConfigError: a run that did not finish, or a task that can't be exported so.
        ExportError, OSError: it can't be done.
    """
    folder = file.path.parent
    record = Record.load(folder)
    if record is None or record.status != "FINISHED":
        state = "it has no record" if record is None else f"it is {record.status}"
        raise ConfigError("run", folder, f"a finished run; {state}")
    check(config)
    task, compressor = restored(config, file)
    check(config, task)
    given = Exporting(task, compressor, lambda name: rebuilt(config, file.about.given)[name])
    info = RunInfo(record.name, record.experiment, record.tags, record.params)
    files = RunFiles(folder, info, store=record.store, go_on=True)
    try:
        step = int(final_metrics(folder).get("final/total_steps", 0))
        return _recorded(given, settings_of(config.export), folder, files, step=step)
    finally:
        files.finish("FINISHED", end_time=record.end_time)  # as it was: the run itself is as it was


def _recorded(given: Exporting, settings: ExportSettings, folder: Path, files: RunFiles, *, step: int) -> Exported:
    exported = Exported(folder / FOLDER, export(given, folder / FOLDER, settings))
    path = exported.folder / FIGURES
    own = {each.path.name: each.record() for each in exported.files}
    write_json(path, [*({each["file"]: each for each in _earlier(path)} | own).values()])
    files.artifact(FOLDER)
    files.metrics(_metrics(exported), step=step)
    return exported


def _earlier(path: Path) -> list[dict[str, Any]]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return []
    return [each for each in found if (path.parent / each["file"]).is_file()]


def _metrics(exported: Exported) -> dict[str, float]:
    """Figures by file; and the size of the first kind of file that was written, in megabits like footprints."""
    found: dict[str, float] = {}
    for each in exported.files:
        name = each.path.name.replace(".", "_")
        found |= {f"export/{name}/{key}": float(value) for key, value in each.figures.items()}
        found[f"export/{name}/verified"] = float(not each.failures)
    first = [each for each in exported.files if each.kind == exported.files[0].kind]
    found["final/file_mb"] = 8 * sum(each.figures["file_bytes"] for each in first) / MEGABIT
    found["final/file_verified"] = float(not any(each.failures for each in first))
    return found
