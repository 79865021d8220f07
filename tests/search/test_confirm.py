"""What a search found, against other schedules, with fresh seeds."""

from pathlib import Path

import pandas as pd
import pytest

from qp_runner.config import SearchSection
from qp_runner.config.compose import jobs
from qp_runner.metric import Metric
from qp_runner.run.outcome import final_metrics
from qp_runner.search.confirm import FOUND, Contender, Results, pick
from qp_runner.search.trials import Trial
from qp_runner.search.verdict import confirm_table, read_confirmation, sentence
from support import execute

pytest.importorskip("optuna")

UP = Metric("accuracy", True, "%")
DOWN = Metric("FID", False, "")
QUICK = ["trainer.epochs=3", "trainer.batch_size=128", "trainer.progress=false", "trainer.threads=1", "tracking=none"]
SPACE = "+search.space={schedule.events.prune_weight.to: {choices: [0.6, 0.7]}}"
SEARCH = ["schedule=p_q_wf", "search=tpe", "search.trials=2", SPACE, *QUICK]


def results(found: list[float], first: list[float], second: list[float]) -> Results:
    named = {FOUND: found, "p_q_wf": first, "q_p_wf": second}
    contenders = [Contender(name, name, dict(enumerate(range(len(values))))) for name, values in named.items()]
    test = {name: dict(enumerate(values)) for name, values in named.items()}
    return Results(Trial(3, "finished", {}), contenders, test, dict.fromkeys(named, 1.0))


BASE = [90.0, 91.0, 92.1, 90.5, 91.2]


@pytest.mark.parametrize(
    ("shift", "metric", "said"),
    [
        ((-2.0, -3.0), UP, "The found schedule beats p_q_wf and q_p_wf at 1.00 Mb against 1.00 Mb: +1."),
        (
            (-2.0, 3.0),
            UP,
            "not beat all of them: it is better than p_q_wf and is worse than q_p_wf, at 1.00 Mb against 1.00 Mb: +1.",
        ),
        (
            (0.0, -3.0),
            UP,
            "it is better than q_p_wf and is not shown to differ from p_q_wf, at 1.00 Mb against 1.00 Mb: −0.",
        ),
        ((2.0, 3.0), DOWN, "The found schedule beats p_q_wf and q_p_wf at 1.00 Mb against 1.00 Mb: +1."),
    ],
)
def test_the_sentence_claims_what_the_intervals_allow(shift: tuple[float, float], metric: Metric, said: str) -> None:
    noise = [0.1, -0.1, 0.05, -0.05, 0.02]
    others = [[value + by + each for value, each in zip(BASE, noise, strict=True)] for by in shift]
    text = sentence(results(BASE, *others), metric)
    assert said in text
    assert "5 fresh seeds" in text


def test_one_seed_gives_no_verdict() -> None:
    assert sentence(results([99.0], [1.0], [1.0]), UP).startswith("No verdict")


def trial(number: int, metric: float, footprint: float) -> Trial:
    return Trial(number, "finished", {}, job=number, figures={"metric": metric, "footprint": footprint})


def test_the_best_trial_that_is_small_enough_is_picked_on_validation_data() -> None:
    trials = [trial(1, 90.0, 1.0), trial(2, 95.0, 2.0), trial(3, 99.0, 3.0), trial(4, 80.0, 1.5)]
    chosen = pick(trials, UP, limit=2.0)
    assert chosen is not None
    assert chosen.number == 2
    assert pick(trials, UP, limit=0.5) is None


def test_a_confirmed_search_trains_all_contenders_with_fresh_seeds_and_goes_on(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert execute([*SEARCH, "search.confirm=2", "seed=4"]) == 0
    [folder] = (here / "results/sweeps").iterdir()
    table = pd.read_csv(folder / "confirm.csv")
    assert table.groupby("contender")["seed"].apply(list).to_dict() == {
        name: [5, 6] for name in ("found", "p_q_wf", "q_p_wf")
    }
    printed = capsys.readouterr()
    assert "Confirmed with fresh seeds" in printed.out
    assert "p_q_wf · seed 5" in printed.out + printed.err
    assert "[1000" not in printed.out + printed.err  # their numbers are no places among the search's runs
    runs = {name: table[table["contender"] == name]["folder"].iloc[0] for name in ("found", "q_p_wf")}
    assert final_metrics(folder / str(runs["found"]))["final/sparsity_weight"] > 0.55
    assert final_metrics(folder / str(runs["q_p_wf"]))["final/sparsity_weight"] == pytest.approx(0.5, abs=0.01)
    footprints = table.groupby("contender")["footprint_total_mb"].first()
    assert footprints["found"] <= footprints.drop("found").min()
    assert execute([*SEARCH, "search.confirm=3", "seed=4"]) == 0  # more seeds: only their runs are made
    assert len(pd.read_csv(folder / "confirm.csv")) == 9


def test_schedules_to_compare_with_are_checked_before_anything_trains(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert execute([*SEARCH, "search.confirm=2", "search.against.p_q_wf=['schedule=nothing']"]) == 2
    assert "search.against.p_q_wf=schedule=nothing: overrides of a run" in capsys.readouterr().err
    assert not (here / "results").exists()
    assert execute([*SEARCH, "search.confirm=-1"]) == 2


def test_the_confirmed_experiment_compares_with_the_schedules_as_they_are_published() -> None:
    [searched], _ = jobs(["experiment=search/digits_confirmed", "hydra.mode=RUN"], multirun=False)
    assert isinstance(searched.config.search, SearchSection)
    for name, overrides in searched.config.search.against.items():
        [compared], _ = jobs(["experiment=search/digits_confirmed", *overrides], multirun=False)
        [published], _ = jobs([f"schedule={name}"], multirun=False)
        assert compared.config.events() == published.config.events()


def test_the_table_has_a_row_a_run() -> None:
    table = confirm_table(results([1.0, 2.0], [3.0, 4.0], [5.0, 6.0]), UP)
    assert list(table["test_accuracy"]) == [1, 2, 3, 4, 5, 6]
    assert table["trial"].count() == 2
    again = read_confirmation(table, "test_accuracy")
    assert sentence(again, UP) == sentence(results([1.0, 2.0], [3.0, 4.0], [5.0, 6.0]), UP)
    assert again.trial.number == 3
