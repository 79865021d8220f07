"""A run's files for use elsewhere: written, verified, recorded.

All is done on the CPU, where the files will be read: what a GPU adds up in another order, or in TF32, would be counted
as a difference; and a run from a GPU can be exported where there is none.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from qp_runner.config import Config
from qp_runner.config.schema import ExportSection
from qp_runner.errors import ConfigError
from qp_runner.export.exporting import export
from qp_runner.export.settings import ExportSettings, check_settings, check_task
from qp_runner.export.subject import Exporting
from qp_runner.export.verification import Verified, kind_of
from qp_runner.run.build import Parts
from qp_runner.run.evaluation import restored
from qp_runner.run.loading import rebuilt
from qp_runner.run.model_file import ModelFile
from qp_runner.run.outcome import final_metrics
from qp_runner.tasks import Task
from qp_runner.tracking import RunFiles, RunInfo
from qp_runner.tracking.records import Record, write_json
from qp_runner.training import set_numerics

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
    return ExportSettings(section.formats, onnx.mode, onnx.branches, onnx.float_bias, onnx.signed_weights)


def check(config: Config, task: Task | None = None, *, key: str = "export.formats") -> None:
    """Raises ConfigError, of this key, where files are asked for that can't be made here, or of this task."""
    settings = settings_of(config.export)
    check_settings(settings, key=key)
    if task is not None:
        check_task(settings, task, key=key)


def export_parts(config: Config, parts: Parts, folder: Path, files: RunFiles) -> Exported:
    """Exports a run that was just trained; its task is on the CPU afterwards. Raises ExportError."""
    parts.task.to(torch.device("cpu"))
    given = Exporting(parts.task, parts.compressor, lambda name: rebuilt(config, parts.given)[name])
    exported = _exported(given, settings_of(config.export), folder)
    _record(exported, files, step=parts.total_steps)
    return exported


def export_run(config: Config, file: ModelFile) -> Exported:
    """Exports a finished run from what it left, and adds that to its record.

    Raises:
        ConfigError: a run that did not finish, or a task that can't be exported so.
        ExportError: it can't be done.
    """
    folder = file.path.parent
    record = Record.load(folder)
    if record is None or record.status != "FINISHED":
        state = "it has no record" if record is None else f"it is {record.status}"
        raise ConfigError("run", folder, f"a finished run; {state}")
    config = on_processor(config)
    set_numerics(deterministic=config.trainer.deterministic, threads=config.trainer.threads)
    task, compressor = restored(config, file)
    check(config, task, key="format")
    given = Exporting(task, compressor, lambda name: rebuilt(config, file.about.given)[name])
    exported = _exported(given, settings_of(config.export), folder)
    # Only now, and for a moment: a run whose record is open counts as one that was killed if this process is.
    info = RunInfo(record.name, record.experiment, record.tags, record.params)
    files = RunFiles(folder, info, store=record.store, go_on=True)
    try:
        _record(exported, files, step=int(final_metrics(folder).get("final/total_steps", 0)))
    finally:  # the run itself is as it was
        files.finish("FINISHED", failures_in(folder), end_time=record.end_time)
    return exported


def on_processor(config: Config) -> Config:
    """The configuration of the same run on the CPU."""
    trainer = config.trainer.model_copy(update={"device": "cpu", "executor": "eager"})
    return config.model_copy(update={"trainer": trainer})


def missing(config: Config, folder: Path) -> str:
    """Which of the files that a configuration asks for a run's folder lacks, in words; empty if none."""
    settings, recorded = settings_of(config.export), _recorded(folder)
    wanted = ["packed" if each == "packed" else kind_of(settings) for each in settings.formats]
    files = {kind: [_is_there(folder, each) for each in recorded if each["kind"] == kind] for kind in wanted}
    lost = [kind for kind, there in files.items() if not there or not all(there)]
    return f"{' and '.join(lost)} missing below {folder / FOLDER}; qp-runner export makes them" if lost else ""


def failures_in(folder: Path) -> str | None:
    """What does not hold for the files in a run's folder, on one line; None if all is well."""
    lines = [f"{each['file']}: {failure}" for each in _verified(folder) for failure in each["failures"]]
    return "; ".join(lines) or None


def _exported(given: Exporting, settings: ExportSettings, folder: Path) -> Exported:
    exported = Exported(folder / FOLDER, export(given, folder / FOLDER, settings))
    own = {each.path.name: each.record() for each in exported.files}
    known = {each["file"]: each for each in _verified(folder)} | own
    write_json(exported.folder / FIGURES, [*known.values()])
    return exported


def _record(exported: Exported, files: RunFiles, *, step: int) -> None:
    files.artifact(FOLDER)
    files.metrics(_metrics(exported), step=step)


def _verified(folder: Path) -> list[dict[str, Any]]:
    """What was recorded of the files in a run's folder, those that are still there."""
    return [each for each in _recorded(folder) if _is_there(folder, each)]


def _recorded(folder: Path) -> list[dict[str, Any]]:
    try:
        found: list[dict[str, Any]] = json.loads((folder / FOLDER / FIGURES).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return []
    return found


def _is_there(folder: Path, record: dict[str, Any]) -> bool:
    return (folder / FOLDER / record["file"]).is_file()


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
