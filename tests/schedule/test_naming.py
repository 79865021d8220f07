import pytest

from qp_runner.schedule import Schedule

W, F, P, Q = "weight", "activation", "prune", "quantize"


def schedule(*events: tuple[str, str, float, str]) -> Schedule:
    return Schedule.from_config(
        {str(i): dict(zip(("op", "target", "to", "start"), e, strict=True)) for i, e in enumerate(events)}
    )


@pytest.mark.parametrize(
    ("events", "name", "signature"),
    [
        ([], "float", "float"),
        ([(Q, W, 8, "0.9dur")], "Q8(w)", "Q8(w)"),
        ([(P, W, 0.5, "0.4dur"), (P, F, 0.5, "0.4dur"), (Q, W, 8, "0.92dur"), (Q, F, 8, "0.94dur")],
         "P0.5(w,f) → Q8(w,f)", "P0.5(w,f), Q8(w,f)"),
        ([(Q, F, 8, "0.1dur"), (Q, W, 8, "0.2dur"), (P, F, 0.5, "0.4dur"), (P, W, 0.5, "0.5dur")],
         "Q8(w,f) → P0.5(w,f)", "P0.5(w,f), Q8(w,f)"),
        ([(P, W, 0.5, "0.4dur"), (P, F, 0.5, "0.4dur"), (Q, W, 8, "0.4dur"), (Q, F, 8, "0.4dur")],
         "P0.5(w,f) + Q8(w,f)", "P0.5(w,f), Q8(w,f)"),
        ([(P, W, 0.5, "0.1dur"), (Q, W, 8, "0.2dur"), (P, F, 0.5, "0.3dur"), (Q, F, 8, "0.4dur")],
         "P0.5(w) → Q8(w) → P0.5(f) → Q8(f)", "P0.5(w,f), Q8(w,f)"),
        ([(P, W, 0.5, "0.1dur"), (Q, W, 8, "0.1dur"), (P, F, 0.5, "0.3dur"), (Q, F, 8, "0.3dur")],
         "P0.5(w) + Q8(w) → P0.5(f) + Q8(f)", "P0.5(w,f), Q8(w,f)"),
        ([(Q, W, 8, "0.1dur"), (Q, W, 4, "0.3dur")], "Q8(w) → Q4(w)", "Q4(w), Q8(w)"),
        ([(Q, W, 4, "0.1dur"), (Q, W, 8, "0.3dur")], "Q4(w) → Q8(w)", "Q4(w), Q8(w)"),
        ([(Q, W, 8, "0.1dur"), (Q, W, 8, "0.3dur"), (Q, F, 8, "0.2dur")], "Q8(w,f) → Q8(w)", "Q8(w), Q8(w,f)"),
        ([(Q, W, 8, "0.1dur"), (Q, F, 12, "0.1dur")], "Q8(w) + Q12(f)", "Q8(w), Q12(f)"),
        ([(Q, W, 8, "1ep"), (Q, W, 32, "3ep")], "Q8(w) → Q32(w)", "Q8(w), Q32(w)"),
    ],
)  # fmt: skip
def test_names(events: list[tuple[str, str, float, str]], name: str, signature: str) -> None:
    assert schedule(*events).name == schedule(*reversed(events)).name == name
    assert schedule(*events).name_for(total_steps=100, steps_per_epoch=10) == name
    assert schedule(*events).signature == schedule(*reversed(events)).signature == signature


def test_a_ramp_begins_with_its_first_mask() -> None:
    ramp = {"op": P, "target": W, "to": 0.5, "start": "0.4dur", "end": "0.8dur", "steps": 4}

    def name(start: str) -> str:
        return Schedule.from_config({"p": ramp, "q": {"op": Q, "target": W, "to": 8, "start": start}}).name

    assert name("0.45dur") == "Q8(w) → P0.5(w)"
    assert name("0.50dur") == "P0.5(w) + Q8(w)"
    assert name("0.55dur") == "P0.5(w) → Q8(w)"


def test_mixed_units_are_ordered_once_the_length_is_known() -> None:
    mixed = schedule((P, W, 0.5, "5ep"), (Q, W, 8, "0.5dur"))
    assert mixed.name == "P0.5(w), Q8(w)"
    assert mixed.name_for(total_steps=80, steps_per_epoch=10) == "Q8(w) → P0.5(w)"
    assert mixed.name_for(total_steps=100, steps_per_epoch=10) == "P0.5(w) + Q8(w)"
    assert mixed.name_for(total_steps=200, steps_per_epoch=10) == "P0.5(w) → Q8(w)"


def test_ranks_decide_where_times_do_not() -> None:
    events = {
        name: {"op": op, "target": "weight", "to": to, "start": "1dur", "rank": rank}
        for name, op, to, rank in (("a", "prune", 0.5, 1), ("b", "quantize", 8, 0))
    }
    assert Schedule.from_config(events).name == "Q8(w) → P0.5(w)"
