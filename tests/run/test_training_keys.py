"""Keys of `trainer` and `data` that don't go with a run are named before it trains."""

from pathlib import Path

import pytest

from qp_runner.errors import ConfigError
from qp_runner.run.build import build, build_trainer
from support import Records, execute, metrics
from tiny import tiny_config


@pytest.mark.parametrize(
    ("task", "override", "said"),
    [
        ("classification", "trainer.accumulate=3", r"^trainer\.accumulate=3: a divisor of trainer\.batch_size=128"),
        ("unpaired_translation", "trainer.accumulate=2", r"^trainer\.accumulate=2: (1: this task|a divisor)"),
        ("paired_translation", "trainer.accumulate=2", r"^trainer\.accumulate=2: (1: this task|a divisor)"),
        ("detection", "trainer.accumulate=3", r"^trainer\.accumulate=3: 1: this task's batches"),
        ("classification", "trainer.warmup=9ep", r"^trainer\.warmup=9ep: at most the 21 steps of the run, not 63"),
        ("super_resolution", "data.mixup=0.2", r"^data\.mixup=0\.2: 0: only images with classes can be mixed"),
        ("detection", "data.cutmix=1", r"^data\.cutmix=1\.0: 0: only images with classes"),
    ],
)
def test_what_a_task_can_not_do_is_named(task: str, override: str, said: str) -> None:
    def prepare() -> None:
        config = tiny_config(task, override)
        build_trainer(config, build(config), recorder=Records())

    with pytest.raises(ConfigError, match=said):
        prepare()


EARLY = ["tracking=none", "trainer.epochs=8", "trainer.batch_size=128", "trainer.progress=false"]
EARLY += ["trainer.early_stop.patience=1", "trainer.early_stop.min_delta=100"]


def test_a_sweep_over_schedules_refuses_early_ends(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert execute(["-m", *EARLY, f"results={tmp_path}", "schedule=p_q_wf,q_p_wf"]) == 2
    assert "trainer.early_stop.patience=1: null in a sweep over schedules" in capsys.readouterr().err


def test_a_run_that_ends_early_says_how_long_it_was(tmp_path: Path) -> None:
    times = [f"schedule.events.quantize_{target}.start=3ep" for target in ("weight", "activation")]
    assert execute([*EARLY, f"results={tmp_path}", "schedule=q_wf", *times]) == 0
    [folder] = (tmp_path / "runs").iterdir()
    table = metrics(folder)
    values = dict(zip(table["name"], table["value"], strict=True))
    assert [values[f"final/{name}"] for name in ("first_event_step", "total_steps", "recovery_steps")] == [21, 35, 14]
