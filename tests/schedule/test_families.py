"""The YAML files under conf/schedule."""

from functools import cache
from pathlib import Path

import pytest
import yaml
from hydra import compose, initialize_config_dir
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from qp_runner.schedule import Op, Schedule, Stage, Target, first_event, recovery

FOLDER = Path(__file__).parents[2] / "conf" / "schedule"
FAMILIES = sorted(path.relative_to(FOLDER).with_suffix("").as_posix() for path in FOLDER.rglob("*.yaml"))
W, F = Target.WEIGHT, Target.ACTIVATION
PUBLISHED_EPOCHS = {
    "classification": 250,
    "super_resolution": 200,
    "detection": 9,
    "paired_translation": 300,
    "unpaired_translation": 300,
}


@cache
def load(family: str) -> Schedule:
    return Schedule.from_config(yaml.safe_load((FOLDER / f"{family}.yaml").read_text())["events"])


def published(task: str, kind: str) -> str:
    """The basic schedules have the published times of classification."""
    return kind if task == "classification" else f"published/{task}/{kind}"


def epochs_of(stages: tuple[Stage, ...], op: Op, target: Target, steps_per_epoch: int) -> list[float]:
    return [stage.first / steps_per_epoch for stage in stages if (op, target) in stage.fires]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(("epochs", "steps_per_epoch"), [(250, 390), (5, 16)])
def test_every_family_compiles_to_what_it_says(family: str, epochs: int, steps_per_epoch: int) -> None:
    schedule = load(family)
    last = schedule.compile(total_steps=epochs * steps_per_epoch, steps_per_epoch=steps_per_epoch)[-1]
    assert (last.steps > 0) == (not family.startswith("after_training/"))
    kind = family.rsplit("/", 1)[-1]
    order, _, targets = kind.rpartition("_") if "_" in kind else (kind, "", "")
    pruned = targets if "p" in order else ""
    quantized = "" if "q" not in order and kind != "interleaved_wf" else "wf" if "p" in order else targets
    if kind == "interleaved_wf":
        pruned = quantized = "wf"
    bits = 12 if "unpaired" in family else 8
    assert [last.weight.sparsity, last.activation.sparsity] == [0.5 * ("w" in pruned), 0.5 * ("f" in pruned)]
    assert [last.weight.bits, last.activation.bits] == [8 if "w" in quantized else 32, bits if "f" in quantized else 32]


@pytest.mark.parametrize("family", ["p_q_wf", "published/detection/q_p_wf"])
def test_hydra_places_a_family_at_schedule_however_deep_its_folder(family: str, tmp_path: Path) -> None:
    (tmp_path / "root.yaml").write_text(
        f"defaults: [{{schedule: {family}}}, _self_]\nhydra: {{searchpath: ['file://{FOLDER.parent}']}}"
    )
    with initialize_config_dir(str(tmp_path), version_base="1.3"):
        config = compose("root", overrides=["schedule.events.prune_weight.to=0.75"])
    events = OmegaConf.to_container(config.schedule.events)
    assert {event.to for event in Schedule.from_config(events).events} == {0.5, 0.75, 8}


@pytest.mark.parametrize("family", FAMILIES)
def test_a_file_is_a_comment_that_begins_with_the_name_and_then_events(family: str) -> None:
    text = (FOLDER / f"{family}.yaml").read_text()
    assert text.startswith(f"# {load(family).name}")
    assert list(yaml.safe_load(text)) == ["events"]


BASIC = {
    "float": "float",
    "q_w": "Q8(w)",
    "q_wf": "Q8(w,f)",
    "p_w": "P0.5(w)",
    "p_wf": "P0.5(w,f)",
    "p_q_w": "P0.5(w) → Q8(w,f)",
    "p_q_wf": "P0.5(w,f) → Q8(w,f)",
    "q_p_w": "Q8(w,f) → P0.5(w)",
    "q_p_wf": "Q8(w,f) → P0.5(w,f)",
    "pq_w": "P0.5(w) + Q8(w,f)",
    "pq_wf": "P0.5(w,f) + Q8(w,f)",
    "interleaved_wf": "P0.5(w) → Q8(w) → P0.5(f) → Q8(f)",
}


def test_the_basic_families_are_these() -> None:
    assert {family: load(family).name for family in FAMILIES if "/" not in family} == BASIC


FROM_115 = [115.0, 130.0, 145.0, 160.0]
# task, schedules: epochs of the masks, of w quantized, of f quantized
TABLE = [
    ("classification", ["p_q_w", "p_q_wf"], FROM_115, 230, 235),
    ("classification", ["q_p_w", "q_p_wf"], [195, 210, 225, 240], 160, 170),
    ("classification", ["q_wf"], [], 230, 240),
    ("super_resolution", ["p_q_w", "p_q_wf"], [145, 150, 155, 160], 160, 170),
    ("super_resolution", ["q_p_w", "q_p_wf"], [160, 165, 170, 175], 140, 150),
    ("super_resolution", ["q_wf"], [], 140, 150),
    ("detection", ["p_q_w", "p_q_wf"], [3.5, 4, 4.5, 5], 7.2, 7.5),
    ("detection", ["q_p_w"], [6.2, 6.7, 7.2, 7.7], 5.2, 5.5),
    ("detection", ["q_p_wf"], [7.4, 7.9, 8.4, 8.9], 6.5, 6.8),
    ("detection", ["q_wf"], [], 7.2, 7.5),
    ("paired_translation", ["p_q_w", "p_q_wf"], FROM_115, 280, 290),
    ("paired_translation", ["q_p_w", "q_p_wf"], [145, 160, 175, 190], 110, 120),
    ("unpaired_translation", ["p_q_w", "p_q_wf"], FROM_115, 280, 290),
    ("unpaired_translation", ["q_p_w", "q_p_wf"], [145, 160, 175, 190], 110, 120),
]


@pytest.mark.parametrize(
    ("task", "kind", "masks", "weight", "activation"),
    [(task, kind, masks, w, f) for task, kinds, masks, w, f in TABLE for kind in kinds],
)
def test_published_times(task: str, kind: str, masks: list[float], weight: float, activation: float) -> None:
    per_epoch = 5010  # divisible by 10: every published time is a whole step
    total = PUBLISHED_EPOCHS[task] * per_epoch
    stages = load(published(task, kind)).compile(total_steps=total, steps_per_epoch=per_epoch)
    assert epochs_of(stages, Op.PRUNE, W, per_epoch) == masks
    assert epochs_of(stages, Op.PRUNE, F, per_epoch) == (masks if kind.endswith("_wf") else [])
    assert epochs_of(stages, Op.QUANTIZE, W, per_epoch) == [weight]
    assert epochs_of(stages, Op.QUANTIZE, F, per_epoch) == [activation]


def test_published_files_are_those_of_the_table() -> None:
    expected = {published(task, kind) for task, kinds, *_ in TABLE for kind in kinds if task != "classification"}
    assert {family for family in FAMILIES if family.startswith("published/")} == expected


CONTROLLED = [family for family in FAMILIES if family.startswith("controlled/")]


@settings(max_examples=100)
@given(st.integers(50, 200_000), st.integers(1, 1000))
def test_controlled_families_have_equal_first_event_and_equal_recovery(total: int, per_epoch: int) -> None:
    ends = set()
    for family in CONTROLLED:
        stages = load(family).compile(total_steps=total, steps_per_epoch=per_epoch)
        ends.add((first_event(stages), recovery(stages)))
        if "p_q" in family or "q_p" in family:
            assert len(stages) == 7  # no two events at one step
    assert len(ends) == 1


@pytest.mark.parametrize("targets", ["w", "wf"])
def test_controlled_orders_share_signature_and_differ_in_name(targets: str) -> None:
    triple = [load(f"controlled/{order}_{targets}") for order in ("p_q", "q_p", "pq")]
    assert len({schedule.signature for schedule in triple}) == 1
    assert len({schedule.name for schedule in triple}) == 3
