"""The prefix tree of a sweep: nothing is computed twice, and what a run shares is stored before it starts."""

from itertools import product

from hypothesis import given
from hypothesis import strategies as st

from qp_runner.sweep.tree import Path, Plan, differing, plan

TOTAL = 12
events = st.dictionaries(st.integers(0, TOTAL), st.sampled_from("ab"), max_size=4)
paths = st.lists(
    st.builds(Path, root=st.sampled_from("xy"), total=st.just(TOTAL), events=events), min_size=1, max_size=12
)


def prefix(path: Path, step: int) -> tuple[object, ...]:
    """What decides the state after so many steps, in full: the slow and obvious way."""
    return path.root, step, tuple(sorted((at, what) for at, what in path.events.items() if at < step))


def steps_once(found: list[Path]) -> int:
    """Every step is computed once for each state it leads to."""
    return len({prefix(path, step) for path in found for step in range(1, TOTAL + 1)})


@given(paths)
def test_every_shared_step_is_computed_once(found: list[Path]) -> None:
    assert plan(found).steps == steps_once(found)


@given(paths)
def test_every_run_is_launched_once(found: list[Path]) -> None:
    launched = [run for wave in plan(found).waves for run in wave]
    assert sorted(launched) == list(range(len(found)))


def computed(found: list[Path], made: Plan) -> list[tuple[object, ...]]:
    """What the runs compute when each starts at the deepest state stored by earlier waves, as they would."""
    stored: set[tuple[object, ...]] = set()
    done: list[tuple[object, ...]] = []
    for wave in made.waves:
        left: set[tuple[object, ...]] = set()
        for run in wave:
            path = found[run]
            start = max((step for step in range(1, TOTAL + 1) if prefix(path, step) in stored), default=0)
            done += [prefix(path, step) for step in range(start + 1, TOTAL + 1)]
            kept = {*path.events, *made.checkpoint_steps.get(run, ())} - {0}
            left |= {prefix(path, step) for step in kept if step >= start}
        stored |= left
    return done


@given(paths)
def test_runs_side_by_side_compute_nothing_twice(found: list[Path]) -> None:
    done = computed(found, plan(found))
    assert len(done) == len(set(done)) == steps_once(found)


@given(paths)
def test_waves_are_few(found: list[Path]) -> None:
    assert len(plan(found).waves) <= len(found).bit_length() + 1


def test_runs_of_other_roots_share_nothing() -> None:
    found = [Path(root, TOTAL, {6: "a"}) for root in "xyz"]
    assert plan(found).steps == 3 * TOTAL
    assert plan(found).waves == ((0, 1, 2),)


def test_the_very_same_training_is_done_once() -> None:
    made = plan([Path("x", TOTAL, {6: "a"})] * 3)
    assert made.steps == TOTAL
    assert made.waves == ((0,), (1, 2))
    assert made.checkpoint_steps[0] == {TOTAL}


def test_what_differs_is_told_with_its_values() -> None:
    contexts = [{"seed": str(seed), "lr": lr, "same": "1"} for seed, lr in product((0, 1), ("0.1",))]
    assert differing(contexts) == {"seed": [("0", 1), ("1", 1)]}
    assert differing([{"a": "1"}, {}]) == {"a": [("1", 1), ("(absent)", 1)]}
