"""From a checked configuration to what decides a run's state, and to what makes two commands the same run."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from qp_runner.config import Config
from qp_runner.run.build import Parts
from qp_runner.schedule import Stage
from qp_runner.training import Identity, Store, Trunk, chosen, numerics, source_digest, target_digest, targets
from qp_runner.training.identity import digest

GIGA = 10**9
STATELESS_TRAINER = {"progress", "save_model", "device", "executor"}
"""Of the trainer's section: what can't change a run's state, and what counts as it is resolved instead."""


def identity(
    config: Config, *, stages: tuple[Stage, ...], steps_per_epoch: int, parts: Parts | None = None
) -> Identity:
    """What decides the state of this run at each of its steps.

    Args:
        config: of the run.
        stages: the compiled schedule.
        steps_per_epoch: of the task.
        parts: the run, built; None for planning, where processor, data and weights are not known yet and left out.
    """
    plain = config.model_dump()
    trainer = {key: value for key, value in plain["trainer"].items() if key not in STATELESS_TRAINER}
    context: dict[str, Any] = {name: _without(plain[name], {"name"}) for name in ("task", "data", "model")}
    context |= {"seed": config.seed, "trainer": trainer}
    context["trainer"]["steps_per_epoch"] = steps_per_epoch
    context["code"] = {"qp_runner": source_digest()}
    context["code"] |= {target: target_digest(target) for target in sorted(targets(context)) if _foreign(target)}
    if parts is None:
        context["numerics"] = {"device": config.trainer.device, "executor": config.trainer.executor}
    else:
        executor = chosen(config.trainer.executor, parts.task, parts.device)
        context["numerics"] = numerics(parts.device) | {"executor": executor}
        context["content"] = parts.content
        trainer["threads"] = None  # the number in force is in numerics
    return Identity(context, stages, _without(plain["compress"], {"footprint"}))


def job_digest(config: Config) -> str:
    """What makes two commands the same run: the whole configuration but where results go and how they are shown."""
    plain = config.model_dump(exclude={"results", "tracking", "checkpoint", "search"})
    plain["trainer"] = _without(plain["trainer"], {"progress"})
    code = {target: target_digest(target) for target in sorted(targets(plain)) if _foreign(target)}
    return digest({"config": plain, "code": [source_digest(), code], "torch": torch.__version__})


def trunk(
    config: Config,
    own: Identity,
    *,
    since: float,
    also: frozenset[int] = frozenset(),
    sweep: Path | None = None,
) -> Trunk | None:
    """The run's side of the store below `results`, or None where checkpoints are off.

    Args:
        config: of the run.
        own: what decides the run's state.
        since: what was stored before this time (seconds since 1970) is not used.
        also: steps at which other jobs need this one's state.
        sweep: the folder of the sweep that the run is a job of.
    """
    section = config.checkpoint
    if not section.enabled:
        return None
    store = Store(checkpoints(config), int(section.limit_gb * GIGA), since=since, sweep=sweep)
    return Trunk(store, own, every=section.every, also=also)


def checkpoints(config: Config) -> Path:
    """The folder of the store."""
    return Path(config.results).resolve() / "checkpoints"


def _without(section: Mapping[str, Any], keys: set[str]) -> dict[str, Any]:
    return {key: value for key, value in section.items() if key not in keys}


def _foreign(target: str) -> bool:
    return target.partition(".")[0] not in {"qp_runner", "torch"}
