"""`qp-runner plan`: a schedule drawn with what it ends with, before anything is trained."""

from pathlib import Path

import pytest

import qp_runner
from qp_runner.compress import measure
from qp_runner.config.compose import jobs
from qp_runner.run.build import build
from qp_runner.schedule import Target
from support import execute

QUICK = ["trainer.epochs=1", "trainer.batch_size=128", "tracking=none", "trainer.progress=false"]


def test_a_run_that_begins_compressed_is_drawn_and_counted_so(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert execute(["schedule=p_wf", *QUICK]) == 0
    [first] = Path("results/runs").iterdir()
    start = [f"model.init={first}", "model.init_compression=true"]
    capsys.readouterr()
    assert execute(["plan", "schedule=float", *start, *QUICK]) == 0
    drawn = capsys.readouterr().out
    assert "no events: compressed as it starts" in drawn
    assert f"Masks and scales of {first} are there from the start" in drawn.replace("\n", " ").replace("  ", " ")
    found = measure(qp_runner.load(first).compressor)
    assert f"{found.weight:.3f}  {found.activation:.3f}" in " ".join(drawn.split()).replace(" ", "  ")


def test_stages_of_a_run_that_begins_compressed_show_what_no_event_has_changed_yet(here: Path) -> None:
    assert execute(["schedule=p_q_wf", *QUICK]) == 0
    [first] = Path("results/runs").iterdir()
    start = [f"model.init={first}", "model.init_compression=true"]
    events = "{q: {op: quantize, target: weight, to: 4, start: 0.5dur}}"
    [job], _ = jobs(["schedule=float", f"+schedule.events={events}", *start, *QUICK], multirun=False)
    parts = build(job.config)
    assert [(stage.weight.bits, stage.activation.bits) for stage in parts.stages] == [(8, 8), (4, 8)]
    assert all(
        stage.state(target).sparsity == parts.compressor.sparsity(target) > 0.4
        for stage in parts.stages
        for target in Target
    )
