import io

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from qp_runner.report.schedule_picture import schedule_figure, schedule_png
from qp_runner.report.timeline import terminal_timeline
from qp_runner.schedule import Schedule, Stage

RAMP = {"op": "prune", "to": 0.5, "start": "0.40dur", "end": "0.64dur", "steps": 4}
P_Q = {
    "prune_weight": RAMP | {"target": "weight"},
    "prune_activation": RAMP | {"target": "activation"},
    "quantize_weight": {"op": "quantize", "target": "weight", "to": 8, "start": "0.92dur"},
    "quantize_activation": {"op": "quantize", "target": "activation", "to": 8, "start": "0.94dur"},
}


def compiled(events: dict[str, dict[str, object]], epochs: int = 250, steps_per_epoch: int = 390) -> tuple[Stage, ...]:
    schedule = Schedule.from_config(events)
    return schedule.compile(total_steps=epochs * steps_per_epoch, steps_per_epoch=steps_per_epoch)


def drawn(stages: tuple[Stage, ...], *, width: int = 80, steps_per_epoch: int = 390) -> list[str]:
    console = Console(width=width, file=io.StringIO(), record=True, color_system=None)
    console.print(terminal_timeline(stages, steps_per_epoch=steps_per_epoch, width=width))
    return console.export_text().splitlines()


def test_the_whole_picture() -> None:
    lines = [line.rstrip() for line in drawn(compiled(P_Q))]
    assert lines[:14] == [
        "weight      50% ┤                            ▅▅▅▇▇▇▇████████████████████ 50%",
        "sparsity        │                         ▅▅▅███████████████████████████",
        "             0% ┤·························██████████████████████████████",
        "bits            │─────────────────────── 32 ───────────────────────┣━━━━ 8 bit",
        "",
        "activation  50% ┤                            ▅▅▅▇▇▇▇████████████████████ 50%",
        "sparsity        │                         ▅▅▅███████████████████████████",
        "             0% ┤·························██████████████████████████████",
        "bits            │──────────────────────── 32 ───────────────────────┣━━━ 8 bit",
        "",
        "events                                    P  P  P   P              QQ",
        "                └───────────┴──────────┴──────────┴──────────┴──────════╧",
        "epoch            0         50         100        150        200        250",
        "                 P prunes, Q quantizes, * both; ═ recovery",
    ]
    assert [" ".join(line.split()) for line in lines[-4:]] == [
        "6 91,650 – 97,499 235 – 250 50% 8b 50% 8b Q(f)",
        "",
        "first event 115 epochs 44,850 steps 46.0% of training",
        "recovery 15 epochs 5,850 steps 6.0% of training",
    ]


def test_a_float_run_has_no_events() -> None:
    lines = drawn(compiled({}))
    assert lines[0].startswith("weight       0% ┤···")
    assert lines[0].rstrip().endswith("··· 0%")
    assert "════" not in "".join(lines)
    assert lines[-1].startswith("no events: a float run")


def test_compression_after_training_is_seen_behind_the_last_step() -> None:
    lines = drawn(compiled({"q": {"op": "quantize", "target": "weight", "to": 8, "start": "1dur"}}))
    assert next(line for line in lines if line.startswith("bits")).rstrip().endswith("─┣ 8 bit")
    assert any("after 97,499" in line for line in lines)
    assert " ".join(lines[-1].split()) == "recovery 0 epochs 0 steps 0.0% of training"


def test_ranks_after_training_are_drawn_in_their_order() -> None:
    events = {
        "p": {"op": "prune", "target": "weight", "to": 0.5, "start": "1dur", "rank": 1},
        "q": {"op": "quantize", "target": "weight", "to": 8, "start": "1dur", "rank": 0},
    }
    lines = drawn(compiled(events))
    assert next(line for line in lines if line.startswith("events")).split() == ["events", "QP"]
    assert [line.split()[-1] for line in lines if "after 97,499" in line] == ["Q(w)", "P(w)"]


def test_stages_that_share_a_column_are_marked_as_both() -> None:
    events = {"p": RAMP | {"target": "weight", "steps": 1}, "q": P_Q["quantize_weight"] | {"start": "0.64dur"}}
    lines = drawn(compiled(events))
    assert next(line for line in lines if line.startswith("events")).split() == ["events", "*"]
    assert any("P(w) + Q(w)" in line for line in lines)


@settings(max_examples=25)
@given(st.integers(1, 400), st.integers(1, 30), st.integers(60, 150))
def test_any_length_fits_any_width(epochs: int, steps_per_epoch: int, width: int) -> None:
    lines = drawn(compiled(P_Q, epochs, steps_per_epoch), width=width, steps_per_epoch=steps_per_epoch)
    assert max(len(line.rstrip()) for line in lines) <= width
    assert len(next(line for line in lines if line.startswith("bits")).rstrip()) >= width - 3


def test_the_figure_shows_both_targets_and_the_recovery() -> None:
    figure = schedule_figure(compiled(P_Q), steps_per_epoch=390, title="P0.5(w,f) → Q8(w,f)")
    weight, weight_bits, activation, activation_bits = figure.axes
    for panel in (weight, activation):
        assert [text.get_text() for text in panel.texts] == ["50%", "P", "P", "P", "P", "Q"]
    for strip in (weight_bits, activation_bits):
        assert [text.get_text() for text in strip.texts] == ["32", "8", "8 bit"]
    assert weight.get_title(loc="right") == "recovery 15 epochs, 6.0% of training"
    assert weight.get_xlim() == (0, 250)


@pytest.mark.parametrize("events", [{}, P_Q, {"q": P_Q["quantize_weight"] | {"start": "1dur"}}])
def test_the_figure_can_be_saved(events: dict[str, dict[str, object]]) -> None:
    for epochs in (2, 0):
        assert schedule_png(compiled(events, epochs, 3), 3, "t").startswith(b"\x89PNG")
