"""What a run writes into its folder in addition to its metrics."""

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from qp_runner.compress import site_states
from qp_runner.config import Config
from qp_runner.config.instantiate import flatten
from qp_runner.report.schedule_picture import schedule_png
from qp_runner.run.build import Parts
from qp_runner.run.context import RunContext
from qp_runner.run.example_inputs import calls_of
from qp_runner.run.model_file import NAME, About, save_model_file
from qp_runner.run.task import sample_passes
from qp_runner.schedule import FLOAT_BITS, Schedule
from qp_runner.tracking import RunFiles, RunInfo, store_key


def open_records(config: Config, context: RunContext, parts: Parts | None) -> RunFiles:
    """Starts the records of a run; `parts` is None for one that could not be built."""
    store = store_key(config.store_uri(), Path(config.results))
    return RunFiles(context.folder, run_info(config, context, parts), store=store)


def run_info(config: Config, context: RunContext, parts: Parts | None) -> RunInfo:
    """A run's name, tags and parameters; `parts` is None for one that could not be built."""
    schedule, sweep = config.events(), context.sweep
    tags = {
        "task": config.task.name,
        "model": config.model.name,
        "data": config.data.name,
        "schedule": context.label,
        "order": schedule.name,
        "signature": schedule.signature,
        "variant": context.variant,
        "seed": str(config.seed),
        "sweep": sweep.name if sweep else "",
        **({"job": str(sweep.number)} if sweep else {}),
    }
    if parts is not None:
        per_epoch, metric = parts.task.steps_per_epoch, parts.task.metric
        tags["order"] = schedule.name_for(total_steps=parts.total_steps, steps_per_epoch=per_epoch)
        tags |= {"metric": metric.name, "metric_unit": metric.unit, "content": parts.content.digest}
        tags["left_out"] = "; ".join(parts.coverage.warnings())
        tags["metric_direction"] = "up" if metric.higher_is_better else "down"
    params = flatten(config.model_dump(exclude={"search"}))
    return RunInfo(context.name(config.seed), config.task.name, tags, params)


def save_schedule(parts: Parts, schedule: Schedule, files: RunFiles) -> None:
    """Writes the schedule's picture, and its stages as JSON."""
    files.file("schedule.png").write_bytes(schedule_png(parts.stages, parts.task.steps_per_epoch, schedule.name))
    files.text("stages.json", json.dumps([stage.record() for stage in parts.stages], indent=1))


def save_sites(parts: Parts, files: RunFiles) -> None:
    """Writes a table of the sites, then of what is in none, with the reason in `left_out`."""
    sites = [asdict(site) for site in parts.compressor.summary()]
    others = [
        {
            "path": each.path,
            "target": each.target,
            "elements": each.elements,
            "bits": FLOAT_BITS,
            "left_out": each.reason,
        }
        for each in parts.coverage.left_out
    ]
    files.text("sites.csv", _table([*sites, *others]))


def save_model(config: Config, parts: Parts, folder: Path, files: RunFiles, *, composed: Mapping[str, Any]) -> None:
    """Writes model.safetensors into the run's folder (see `model_file`)."""
    task, compressible = parts.task, parts.task.compressible()
    one, pair = (calls_of(compressible, each) for each in sample_passes(task))
    known = None if one is None or pair is None else {"one": one, "pair": pair}
    preprocessing = task.preprocessing()
    about = About(
        config=config.model_dump(exclude={"search"}),
        composed=dict(composed),
        bits={path: state.bits for path, state in site_states(parts.compressor).items()},
        networks=list(task.networks()),
        compressible=list(compressible),
        given=parts.given,
        calls=None if known is None else {name: [asdict(each) for each in calls] for name, calls in known.items()},
        frozen={
            name: [path for path, each in network.named_parameters() if not each.requires_grad]
            for name, network in task.networks().items()
        },
        preprocessing=None if preprocessing is None else preprocessing.record(),
        classes=list(task.class_names()),
    )
    save_model_file(folder / NAME, task.networks(), parts.compressor, about)
    files.artifact(NAME)


def _table(rows: Sequence[Mapping[str, object]]) -> str:
    """Rows as CSV with the first one's columns; a missing key leaves its cell empty."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]) if rows else [], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
