"""Which runs of a store a report is about."""

import pandas as pd

from qp_runner.errors import ConfigError

SHOWN = 8


def choose(runs: pd.DataFrame, *, sweep: str, task: str | None, store: str) -> tuple[pd.DataFrame, str]:
    """The runs of a sweep, and a title.

    Args:
        runs: of the whole store, the oldest first; a sweep's own run has no schedule.
        sweep: `latest` (all runs, if there is no sweep), `all`, or a sweep's id, name, or parent run id.
        task: only its runs; None for all tasks.
        store: as the user named it, for errors.
    """
    jobs = runs[runs["schedule"] != ""]
    if jobs.empty:
        raise ConfigError("--store", store, "it holds no runs yet; `scripts/run` makes some")
    if task is not None:
        known = ", ".join(sorted(set(jobs["task"])))
        jobs = jobs[jobs["task"] == task]
        if jobs.empty:
            raise ConfigError("--task", task, f"a task that the store has runs of: {known}")
    if sweep == "all":
        return jobs, "all runs"
    swept = jobs[jobs["sweep"] != ""]
    parents = swept["parent_run_id"].map(runs.set_index("run_id")["name"])
    titles = dict(zip(swept["sweep"], parents.fillna(swept["sweep"]), strict=True))  # the latest sweep comes last
    if sweep == "latest":
        chosen = next(reversed(titles), "")
        return jobs[jobs["sweep"] == chosen], titles.get(chosen, "runs outside any sweep")
    asked = dict(zip(runs["run_id"], runs["sweep"], strict=True)).get(sweep, sweep)
    names = {title.split(" · ")[0]: known for known, title in titles.items()}
    names |= {title: known for known, title in titles.items()} | {known: known for known in titles}
    if asked not in names:
        known = ", ".join(list(reversed(titles))[:SHOWN]) or "none"
        raise ConfigError("--sweep", sweep, f"latest, all, or one of the store's sweeps: {known}")
    return jobs[jobs["sweep"] == names[asked]], titles[names[asked]]
