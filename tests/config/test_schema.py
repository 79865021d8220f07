"""Every bad value is refused before anything is built, in one line with key, value and what is allowed."""

import copy
from typing import Any

import pytest

from qp_runner.config import validate
from qp_runner.errors import ConfigError

FACTORY = {"_target_": "somewhere.something"}
GOOD: dict[str, Any] = {
    "seed": 0,
    "results": "results",
    "task": {"name": "classification", "factory": FACTORY},
    "data": {"name": "digits", "factory": FACTORY},
    "model": {
        "name": "small_cnn",
        "networks": {"network": FACTORY},
        "sites": {"weight": ["*"], "activation": ["*relu*"], "unpruned": []},
    },
    "schedule": {"events": {"prune_weight": {"op": "prune", "target": "weight", "to": 0.5, "start": "0.5dur"}}},
    "compress": {},
    "trainer": {"epochs": 4, "batch_size": 8, "optimizer": FACTORY},
    "tracking": {"kind": "none"},
}


def changed(path: str, value: object) -> dict[str, Any]:
    config = copy.deepcopy(GOOD)
    *parents, last = path.split(".")
    section = config
    for part in parents:
        section = section.setdefault(part, {})
    section[last] = value
    return config


def test_a_good_configuration_passes_unchanged() -> None:
    config = validate(GOOD)
    assert config.trainer.epochs == 4
    assert config.events().name == "P0.5(w)"


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        ("seed", -1, "greater than or equal to 0"),
        ("seed", "zero", "valid integer"),
        ("trainer.epochs", -1, "greater than or equal to 0"),
        ("trainer.epochs", 2.5, "valid integer"),
        ("trainer.epoch", 3, "did you mean epochs?"),
        ("trainer.precision", "float16", "'float32', 'tf32' or 'bfloat16'"),
        ("trainer.device", "gpu", "pattern"),
        ("trainer.progress", 1, "valid boolean"),
        ("trainer.grad_clip", 0.0, "greater than 0"),
        ("trainer.warmup", "5", "a time with its unit, such as"),
        ("trainer.warmup", "-5ep", "a time from 0"),
        ("trainer.accumulate", 0, "greater than or equal to 1"),
        ("trainer.ema", 1.0, "less than 1"),
        ("trainer.early_stop.patience", 0, "greater than or equal to 1"),
        ("trainer.distillation.weight", 1.5, "less than or equal to 1"),
        ("trainer.distillation.temprature", 1.0, "did you mean temperature?"),
        ("data.mixup", -0.1, "greater than or equal to 0"),
        ("compress.scale", "log", "'power_of_two' or 'float'"),
        ("compress.quantiles", [0.9, 0.1], "the lower one first"),
        ("compress.quantiles", [0.1], "at least 2 items"),
        ("compress.calibration.samples", 0, "greater than or equal to 1"),
        ("compress.footprint", "small", "'ideal', 'stored' or 'published'"),
        ("tracking.kind", "wandb", "'mlflow' or 'none'"),
        ("model.networks", {}, "at least 1 item"),
        ("model.sites.weights", ["*"], "did you mean weight?"),
        ("model.sites.weight", "all", "valid list or 'auto'"),
        ("model.sites", "all", "valid dictionary"),
        ("trainer.channels_last", 7, "valid boolean or 'auto'"),
        ("optimiser", {}, "unknown key; known keys here: seed, results"),
        ("schedule.events.prune_weight.to", 1.2, "0 to below 1"),
        ("schedule.events.prune_weight.op", "prun", "did you mean prune?"),
    ],
)
def test_a_bad_value_is_named_in_one_line(path: str, value: object, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        validate(changed(path, value))
    line = str(caught.value)
    assert line.startswith(f"{path}=")
    assert said in line
    assert "\n" not in line


def test_a_bad_entry_of_a_list_is_named_by_its_place() -> None:
    with pytest.raises(ConfigError, match=r"^model\.sites\.weight\.1=7: should be a valid string$"):
        validate(changed("model.sites.weight", ["*", 7]))


def test_a_missing_key_is_named() -> None:
    config = copy.deepcopy(GOOD)
    del config["trainer"]["epochs"]
    with pytest.raises(ConfigError, match=r"trainer\.epochs=\(missing\)"):
        validate(config)


def test_a_data_set_may_have_further_keys() -> None:
    assert validate(changed("data.split", "holdout")).data.model_extra == {"split": "holdout"}


def test_the_store_is_absolute_and_absent_without_tracking() -> None:
    assert validate(GOOD).store_uri() is None
    uri = validate(changed("tracking.kind", "mlflow")).store_uri()
    assert uri is not None
    assert uri.startswith("sqlite:////")
    assert uri.endswith("/results/mlflow.db")
