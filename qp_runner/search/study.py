"""A search's study: its trials, kept in a file, and the sampler that suggests the next one."""

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qp_runner.config import SearchSection
from qp_runner.errors import ConfigError
from qp_runner.search.space import Space
from qp_runner.search.trials import Trial

if TYPE_CHECKING:
    import optuna

FILE = "trials.jsonl"
OPTUNA_STATES = {"finished": "COMPLETE", "failed": "FAIL", "infeasible": "PRUNED", "running": "RUNNING"}


class Study:
    """The trials of one search.

    Everything is in one file, a JSON object per line, and on the disk when a call returns. A last line without its end
    counts as never written. The first line holds the search; the others hold what is new about a trial, or the goal:

        {"search": {...}, "directions": {"metric": "maximize", "footprint": "minimize"}}
        {"goal": 4}
        {"trial": 0, "params": {...}, "attrs": {...}, "study_attrs": {...}}
        {"trial": 0, "job": 1, "digest": "...", "order": "P0.5(w) → Q8(w)"}
        {"trial": 0, "state": "finished", "figures": {"metric": 98.5, ...}}

    `params` are optuna's values, `attrs` and `study_attrs` what the sampler keeps about the trial and the study. Each
    suggestion comes from an optuna study and a sampler that are made anew, of these lines and of a seed that depends on
    the search's seed and the trial's number: a search that was killed goes on as if it had not been.

    Attributes:
        trials: all of them, by number.
        goal: how many runs there are to be when the batch under way has been chosen.
    """

    def __init__(self, path: Path, section: SearchSection, space: Space, *, directions: Mapping[str, str]) -> None:
        """Opens or begins the study in a file; `directions` are `maximize` or `minimize`, by objective.

        Raises ConfigError where optuna is missing, or the file is no study of this space.
        """
        require_optuna()
        self.trials: list[Trial] = []
        self.goal = 0
        self._path, self._section, self._space, self._directions = path, section, space, directions
        self._asked: list[dict[str, Any]] = []  # the line that each trial began with
        self._study_attrs: dict[str, Any] = {}
        lines, self._end = read_lines(path)
        try:
            for line in lines[1:]:
                self._apply(line)
        except (LookupError, TypeError, ValueError) as error:
            raise _unreadable(path, error) from error
        if not lines:
            ranges = {key: each.model_dump(exclude_unset=True) for key, each in space.ranges.items()}
            self._write({"search": section.model_dump() | {"space": ranges}, "directions": dict(directions)})

    @classmethod
    def load(cls, path: Path) -> "Study":
        """The study of a file, as its first line describes it. Changes nothing; raises ConfigError."""
        lines, _ = read_lines(path)
        try:
            section, directions = SearchSection.model_validate(lines[0]["search"]), lines[0]["directions"]
        except (LookupError, ValueError) as error:
            raise _unreadable(path, error) from error
        return cls(path, section, Space(section.ranges), directions=directions)

    def set_goal(self, runs: int) -> None:
        """Begins a batch, which ends at this number of runs."""
        self._add({"goal": runs})

    def ask(self) -> Trial:
        """A new suggestion."""
        from optuna.storages import InMemoryStorage

        number, storage = len(self.trials), InMemoryStorage()
        study = self.to_optuna(storage=storage, sampler=_sampler(self._section, number))
        own = storage.get_study_id_from_name(study.study_name)
        for key, value in self._study_attrs.items():
            storage.set_study_system_attr(own, key, value)
        study.ask(self._space.distributions())
        asked, attrs = study.get_trials(deepcopy=False)[-1], storage.get_study_system_attrs(own)
        new = {key: value for key, value in attrs.items() if key not in self._study_attrs}
        self._add({"trial": number, "params": asked.params, "attrs": asked.system_attrs, "study_attrs": new})
        return self.trials[-1]

    def assign(self, trial: Trial, *, job: int, digest: str, order: str) -> None:
        """Records which run a suggestion is."""
        self._add({"trial": trial.number, "job": job, "digest": digest, "order": order})

    def finish(self, trial: Trial, figures: Mapping[str, float]) -> None:
        """A trial's run has finished; every objective has a finite figure."""
        self._add({"trial": trial.number, "state": "finished", "figures": dict(figures)})

    def fail(self, trial: Trial, reason: str) -> None:
        """A trial's run has failed: the sampler learns nothing from it."""
        self._add({"trial": trial.number, "state": "failed", "reason": reason})

    def reject(self, trial: Trial, reason: str) -> None:
        """No run can have these values: TPE ranks the trial below all others, NSGA-II breeds nothing from it."""
        self._add({"trial": trial.number, "state": "infeasible", "reason": reason})

    def to_optuna(self, **options: Any) -> "optuna.Study":
        """A new optuna study of these trials; `options` are those of `optuna.create_study`."""
        from optuna import create_study
        from optuna.trial import TrialState, create_trial

        objectives, distributions = self._section.objectives, self._space.distributions()
        directions: Any = [self._directions[name] for name in objectives]
        study = create_study(directions=directions, **options)
        for trial, asked in zip(self.trials, self._asked, strict=True):
            frozen = create_trial(
                state=TrialState[OPTUNA_STATES[trial.state]],
                values=[trial.figures[name] for name in objectives] if trial.state == "finished" else None,
                params=asked["params"],
                distributions=distributions,
                user_attrs={key: value for key, value in asdict(trial).items() if value not in (None, "", {})},
                system_attrs=asked["attrs"],
            )
            study.add_trial(frozen)
        return study

    def _add(self, line: dict[str, Any]) -> None:
        self._write(line)
        self._apply(line)

    def _write(self, line: dict[str, Any]) -> None:
        self._end = append_line(self._path, line, at=self._end)

    def _apply(self, line: dict[str, Any]) -> None:
        if "goal" in line:
            self.goal = int(line["goal"])
            return
        number, news = line["trial"], {key: value for key, value in line.items() if key != "trial"}
        if number == len(self.trials):
            self._asked.append(line)
            self._study_attrs |= line["study_attrs"]
            self.trials.append(Trial(number, "running", self._space.texts(line["params"])))
        else:
            self.trials[number] = replace(self.trials[number], **news)


def read_lines(path: Path) -> tuple[list[dict[str, Any]], int]:
    """The whole lines of a file, and where they end, in bytes. Raises ConfigError for a line that is not JSON."""
    content = path.read_bytes() if path.exists() else b""
    end = content.rfind(b"\n") + 1
    try:
        return [json.loads(line) for line in content[:end].splitlines()], end
    except ValueError as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, reason: object) -> ConfigError:
    return ConfigError("hydra.sweep.dir", path.parent, f"a folder whose {path.name} can be read ({reason})")


def append_line(path: Path, line: Mapping[str, Any], *, at: int) -> int:
    """Writes a line to the disk, at a place behind which nothing counts; returns where it ends."""
    with path.open("r+b" if path.exists() else "wb") as file:
        file.truncate(at)
        file.seek(at)
        file.write(json.dumps(line, ensure_ascii=False).encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())
        return file.tell()


def require_optuna() -> None:
    """Raises ConfigError where optuna is not installed."""
    try:
        import optuna
    except ImportError as error:
        raise ConfigError("search", "optuna", "is not installed: pip install 'qp_runner[search]'") from error
    optuna.logging.set_verbosity(optuna.logging.ERROR)


def _sampler(section: SearchSection, number: int) -> "optuna.samplers.BaseSampler":
    from optuna.samplers import NSGAIISampler, TPESampler

    seed = int.from_bytes(hashlib.sha256(f"{section.seed}/{number}".encode()).digest()[:4])
    if section.sampler == "tpe":
        return TPESampler(seed=seed, n_startup_trials=section.startup)
    return NSGAIISampler(seed=seed, population_size=section.population)
