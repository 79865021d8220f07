"""What people call runs and sweeps."""

from collections.abc import Mapping, Sequence


def schedule_label(choice: str, overrides: Sequence[str]) -> str:
    """The schedule's choice, with what the command line changed in its events."""
    if "~schedule.events" in overrides:
        return "float"
    prefix = "schedule.events."
    changed = [each.lstrip("+~").removeprefix(prefix) for each in overrides if each.lstrip("+~").startswith(prefix)]
    return f"{choice}[{','.join(changed)}]" if changed else choice


def variant(overrides: Sequence[str]) -> str:
    """What else the command line changed: runs are alike only where this is equal."""
    named = (
        "seed=",
        "schedule=",
        "schedule.",
        "task=",
        "model=",
        "data=",
        "experiment=",
        "tracking",
        "results=",
        "checkpoint.",
        "data.root=",  # where the data lie, not what they are
        "data.download=",
        "trainer.progress=",
        "trainer.save_model=",
        "search",
    )
    return ",".join(sorted(each for each in overrides if not each.lstrip("+~").startswith(named)))


def sweep_title(choices: Mapping[str, str]) -> str:
    """What people call a sweep: its experiment."""
    title = choices.get("experiment", "None")
    return title if title != "None" else "sweep"
