"""A search's study: its trials, in an SQLite file, and the sampler that suggests the next one."""

import hashlib
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qp_runner.config import SearchSection
from qp_runner.errors import ConfigError
from qp_runner.search.space import Space
from qp_runner.search.trials import State, Trial

if TYPE_CHECKING:
    import optuna
    from optuna.storages import RDBStorage
    from optuna.trial import FrozenTrial

STATES: dict[str, State] = {"COMPLETE": "finished", "FAIL": "failed", "PRUNED": "infeasible"}


class Study:
    """Trials of one search; everything that is told is on the disk when the call returns.

    The sampler is made anew for each trial, seeded by the search's seed and the trial's place: what is suggested is a
    function of these and of the trials so far, so that a study taken up after a crash is the one it would have been.
    """

    def __init__(self, study: "optuna.Study", section: SearchSection, space: Space) -> None:
        self._study, self._section, self._space = study, section, space

    @property
    def name(self) -> str:
        """The study's name in its file."""
        return str(self._study.study_name)

    @property
    def notes(self) -> Mapping[str, Any]:
        """What was noted of the search itself."""
        return dict(self._study.user_attrs)

    def note(self, **values: object) -> None:
        """Keeps plain values of the search itself."""
        for key, value in values.items():
            self._study.set_user_attr(key, value)

    def trials(self) -> list[Trial]:
        """All trials by number; those whose asking was cut off are left out."""
        return [self._plain(each) for each in self._frozen()]

    def ask(self) -> Trial:
        """A new suggestion."""
        self._drop_cut_off()
        self._study.sampler = _sampler(self._section, place=len(self._frozen()))
        self._study.ask(self._space.distributions())
        return self._plain(self._frozen()[-1])

    def describe(self, trial: Trial, *, job: int, digest: str, order: str) -> None:
        """Notes which run a suggestion is."""
        self._set(trial, job=job, digest=digest, order=order)

    def digests(self) -> dict[str, int]:
        """Every run so far: its number by what makes it that run."""
        noted = [each.user_attrs for each in self._frozen()]
        return {str(attrs["digest"]): int(attrs["job"]) for attrs in noted if "order" in attrs}

    def tell(self, trial: Trial, figures: Mapping[str, float], *, folder: Path) -> None:
        """A trial's run has finished."""
        self._set(trial, figures=dict(figures), folder=str(folder))
        self._study.tell(trial.number, [figures[name] for name in self._section.objectives])

    def tell_failed(self, trial: Trial, reason: str, *, folder: Path) -> None:
        """A trial's run has failed: the sampler learns nothing from it."""
        from optuna.trial import TrialState

        self._set(trial, reason=reason, folder=str(folder))
        self._study.tell(trial.number, state=TrialState.FAIL)

    def tell_infeasible(self, trial: Trial, reason: str) -> None:
        """No run has these values: TPE ranks the trial below all others, NSGA-II breeds nothing from it."""
        from optuna.trial import TrialState

        self._set(trial, reason=reason)
        self._study.tell(trial.number, state=TrialState.PRUNED)

    def _set(self, trial: Trial, **values: object) -> None:
        storage = self._study._storage  # a `optuna.trial.Trial` of an earlier process would suggest anew
        identifier = storage.get_trial_id_from_study_id_trial_number(self._study._study_id, trial.number)
        for key, value in values.items():
            storage.set_trial_user_attr(identifier, key, value)

    def _frozen(self) -> list["FrozenTrial"]:
        found = self._study.get_trials(deepcopy=False)
        return [each for each in found if len(each.params) == len(self._space.ranges)]

    def _drop_cut_off(self) -> None:
        """Ends trials whose process was killed between two values of a suggestion."""
        from optuna.trial import TrialState

        for each in self._study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            if len(each.params) < len(self._space.ranges):
                self._study.tell(each.number, state=TrialState.FAIL)

    def _plain(self, frozen: "FrozenTrial") -> Trial:
        noted = frozen.user_attrs
        return Trial(
            number=frozen.number,
            state=STATES.get(frozen.state.name, "running"),
            changes=self._space.texts(frozen.params),
            order=str(noted.get("order", "")),
            job=noted.get("job"),
            folder=str(noted.get("folder", "")),
            reason=str(noted.get("reason", "")),
            figures=noted.get("figures", {}),
        )


class Studies:
    """The studies of one search in the file at `path`: one, and another for every attempt that starts afresh."""

    def __init__(self, path: Path, digest: str) -> None:
        """Raises ConfigError where optuna is missing or the file is no database that it can use."""
        self.path, self._prefix = path.resolve(), f"search {digest[:16]}"
        self._storage = _storage(self.path)

    def names(self) -> list[str]:
        """The latest attempt comes last."""
        found = [str(each.study_name) for each in self._storage.get_all_studies()]
        own = [each for each in found if each.partition(" · ")[0] == self._prefix]
        return sorted(own, key=lambda name: int(name.rpartition(" ")[2]))

    def open(
        self, section: SearchSection, space: Space, *, directions: Mapping[str, str], fresh: bool = False
    ) -> Study:
        """The latest attempt, or a new one if there is none or `fresh` asks for it."""
        from optuna import create_study

        known = self.names()
        name = known[-1] if known and not fresh else f"{self._prefix} · attempt {len(known) + 1}"
        chosen: Any = [directions[each] for each in section.objectives]
        study = create_study(storage=self._storage, study_name=name, directions=chosen, load_if_exists=True)
        return Study(study, section, space)


def _storage(path: Path) -> "RDBStorage":
    try:
        import optuna
    except ImportError as error:
        raise ConfigError("search", "optuna", "is not installed: pip install 'qp_runner[search]'") from error
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        return optuna.storages.RDBStorage(f"sqlite:///{path}")
    except Exception as error:
        logging.getLogger(__name__).debug("the study's file", exc_info=error)
        reason = " ".join(str(error).split())[:300]
        raise ConfigError("results", path, f"a folder whose search.db optuna can use ({reason})") from error


def _sampler(section: SearchSection, *, place: int) -> "optuna.samplers.BaseSampler":
    from optuna.samplers import NSGAIISampler, TPESampler

    seed = int.from_bytes(hashlib.sha256(f"{section.seed}/{place}".encode()).digest()[:4])
    if section.sampler == "tpe":
        return TPESampler(seed=seed, n_startup_trials=section.startup)
    return NSGAIISampler(seed=seed, population_size=section.population)
