"""One run, from its configuration to its records."""

import logging
import sys
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

from qp_runner.config import Config
from qp_runner.errors import ExportError
from qp_runner.run.build import Parts, build, build_trainer
from qp_runner.run.context import RunContext
from qp_runner.run.exported import check as check_export
from qp_runner.run.exported import export_parts
from qp_runner.run.identity import identity, run_checkpoints, stored_before
from qp_runner.run.outcome import initial_figures, outcome
from qp_runner.run.pictures import save_pictures
from qp_runner.run.records import open_records, save_model, save_schedule, save_sites
from qp_runner.run.shared_steps import LastStep
from qp_runner.tracking import RunFiles
from qp_runner.training import (
    Bar,
    GraphStep,
    RunCheckpoints,
    SharedStep,
    Silent,
    Trainer,
    seed_everything,
    set_numerics,
)
from qp_runner.warned import warn_once

log = logging.getLogger(__name__)

_LAST_STEP = LastStep()


@dataclass(frozen=True)
class Composed:
    """A configuration as it was composed: as text, values filled in, and as plain data with interpolations."""

    yaml: str
    unresolved: Mapping[str, Any]


def run(
    config: Config,
    context: RunContext,
    *,
    composed: Composed,
    before_training: Callable[[], object] = lambda: None,
) -> float:
    """Trains, evaluates and records one run; returns its metric on test data.

    A failure is recorded (FAILED with its error; KILLED for Ctrl-C, a signal, a handler that exits) and raised again.
    A run that was trained, but whose exported files are not as they should be, is FINISHED, with an error that says so
    and that is raised as ExportError. `before_training` is called when all is built, and what it raises ends the run.
    """
    files: RunFiles | None = None
    try:
        set_numerics(
            deterministic=config.trainer.deterministic,
            threads=config.trainer.threads,
            tf32=config.trainer.precision == "tf32",
        )
        seed_everything(config.seed)
        check_export(config)
        shared = _LAST_STEP.of(config) if context.sweep else None  # frees a step that is another before this is built
        parts = build(config)
        check_export(config, parts.task)
        for warning in parts.coverage.warnings():
            warn_once(log, warning)
        before_training()
        files = open_records(config, context, parts)
        files.text("config.yaml", composed.yaml)
        value = _train(config, context, parts, files, composed, shared)
        failure = _export(config, parts, context, files)
    except (KeyboardInterrupt, SystemExit):
        (files or open_records(config, context, None)).finish("KILLED", "interrupted")
        raise
    except BaseException as error:
        (files or open_records(config, context, None)).finish("FAILED", f"{type(error).__name__}: {error}")
        _report(context, config, f"FAILED, {type(error).__name__}: {error}")
        raise
    files.finish("FINISHED", failure)
    if failure:
        _report(context, config, f"its export failed, {failure}")
        raise ExportError(failure)
    return value


def _report(context: RunContext, config: Config, failure: str) -> None:
    """Says now which job of a sweep failed: the others go on."""
    if context.sweep:
        print(f"{context.title(config.seed)}: {failure}", file=sys.stderr)


def _train(
    config: Config,
    context: RunContext,
    parts: Parts,
    files: RunFiles,
    composed: Composed,
    shared: SharedStep | None,
) -> float:
    if config.model.starts_trained:
        files.metrics(initial_figures(parts.task), step=0)
    seed_everything(config.seed)  # building may have drawn; training starts from the same state for every schedule
    save_schedule(parts, config.events(), files)
    title = context.title(config.seed)
    view = Bar(title=title, total_steps=parts.total_steps) if config.trainer.progress else nullcontext(Silent())
    with view as progress:
        checkpoints = _checkpoints(config, context, parts)
        trainer = build_trainer(
            config,
            parts,
            recorder=files,
            progress=progress,
            checkpoints=checkpoints,
            shared_step=shared,
        )
        validation = trainer.run()
    steps = trainer.state.steps_done
    final = outcome(config, parts, validation=validation, steps=steps)
    files.metrics(final | {"time/computed_steps": steps - trainer.resumed_from}, step=steps)
    save_sites(parts, files)
    if config.trainer.save_model:
        save_model(config, parts, context.folder, files, composed=composed.unresolved)
    save_pictures(parts.task, files)
    metric = parts.task.metric
    value = final[f"final/{metric.name}"]
    print(
        f"{title}: {metric.name} {f'{value:.2f} {metric.unit}'.strip()}, "
        f"{final['final/footprint_total_mb']:.3f} Mb, PD {final['final/pd_total']:.4g}{_resumed(trainer, parts)}",
        file=sys.stderr,
    )
    if isinstance(trainer.step, GraphStep):
        trainer.step.hand_on()
    return value


def _export(config: Config, parts: Parts, context: RunContext, files: RunFiles) -> str | None:
    """Writes the files that the configuration asks for; returns what is not as it should be."""
    if not config.export.formats:
        return None
    try:
        return "; ".join(export_parts(config, parts, context.folder, files).failures) or None
    except ExportError as error:
        return str(error)


def _checkpoints(config: Config, context: RunContext, parts: Parts) -> RunCheckpoints | None:
    """None where nothing may be stored: a run whose content is unknown can't be known again, not even by itself."""
    if parts.content.problem:
        warn_once(log, f"this run shares nothing and can't be resumed: {parts.content.problem}")
        return None
    own = identity(config, stages=parts.stages, steps_per_epoch=parts.task.steps_per_epoch, parts=parts)
    sweep = context.sweep
    if sweep is None:
        return run_checkpoints(config, own, ignored=stored_before(config))
    return run_checkpoints(
        config, own, ignored=sweep.ignored, checkpoint_steps=sweep.checkpoint_steps, sweep=sweep.folder
    )


def _resumed(trainer: Trainer, parts: Parts) -> str:
    """How much of a run was stored already; empty for a run that was computed whole."""
    if not trainer.resumed_from:
        return ""
    per_epoch = parts.task.steps_per_epoch
    return f" ({trainer.resumed_from / per_epoch:.4g} of {parts.total_steps / per_epoch:.4g} epochs were stored)"
