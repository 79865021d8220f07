"""Every YAML file composes into a checked configuration, and every model and schedule runs."""

from collections import Counter
from typing import get_args

import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from qp_runner.config import Config, SearchSection, Section
from qp_runner.config.compose import jobs
from qp_runner.config.hydra_errors import config_dir
from qp_runner.config.instantiate import instantiate
from qp_runner.config.schema import CheckpointSection, CompressSection, TrackingSection, TrainerSection
from qp_runner.data import ImageData, ImageSet
from qp_runner.errors import ConfigError
from qp_runner.run.build import Parts, build_compressor, build_optimizer, build_task, build_trainer, compile_schedule
from qp_runner.schedule import Target
from qp_runner.tasks import ClassificationTask
from support import Records, classifiers

SECTIONS: dict[str, type[Section]] = {
    "checkpoint": CheckpointSection,
    "compress": CompressSection,
    "trainer": TrainerSection,
    "tracking": TrackingSection,
    "search": SearchSection,
}


def choices(group: str) -> list[str]:
    folder = config_dir() / group
    found = sorted(path.relative_to(folder).with_suffix("").as_posix() for path in folder.rglob("*.yaml"))
    inner = () if group == "experiment" else ("optimizer/",)  # a group within the group
    return [name for name in found if name != "base" and not name.startswith(inner)]  # base: what the choices share


def config(*overrides: str) -> Config:
    [job], _ = jobs(overrides, multirun=False)
    return job.config


@pytest.mark.parametrize(
    "group", ["task", "data", "model", "schedule", "compress", "trainer", "trainer/optimizer", "tracking"]
)
def test_every_choice_of_a_group_composes(group: str) -> None:
    planned, _ = jobs([f"{group}={','.join(choices(group))}"], multirun=True)
    assert [job.choices[group] for job in planned] == choices(group)
    assert {job.config.seed for job in planned} == {0}


def keys(section: type[Section], prefix: str = "") -> set[str]:
    """The dotted keys of a section and of the sections in it."""
    found = set()
    for name, field in section.model_fields.items():
        kinds = [kind for kind in (field.annotation, *get_args(field.annotation)) if isinstance(kind, type)]
        inner = next((kind for kind in kinds if issubclass(kind, Section)), None)
        found |= {f"{prefix}{name}"} if inner is None else keys(inner, f"{prefix}{name}.")
    return found


@pytest.mark.parametrize(
    ("group", "choice"),
    [("checkpoint", ""), *((g, each) for g in ("compress", "trainer", "tracking", "search") for each in choices(g))],
)
def test_every_key_of_a_section_exists_in_every_choice(group: str, choice: str) -> None:
    with initialize_config_dir(str(config_dir()), version_base="1.3"):
        composed = compose("config", overrides=[f"{group}={choice}"] if choice else [])[group]
    missing = object()
    wanted = keys(SECTIONS[group])
    assert {key for key in wanted if OmegaConf.select(composed, key, default=missing) is missing} == set()


OPTIMIZERS = {  # of the published experiments
    "mobilenetv2": {"_target_": "torch.optim.SGD", "lr": 0.1, "momentum": 0.9, "weight_decay": 5e-4},
    "espcn": {"_target_": "torch.optim.Adam", "lr": 1e-3},
    "faster_rcnn": {"_target_": "torch.optim.SGD", "lr": 1e-3, "momentum": 0.9, "weight_decay": 1e-4},
    "pix2pix": {"_target_": "torch.optim.Adam", "lr": 2e-4, "betas": [0.5, 0.999]},
    "cyclegan": {"_target_": "torch.optim.Adam", "lr": 2e-4, "betas": [0.5, 0.999]},
}


@pytest.mark.parametrize("experiment", OPTIMIZERS)
def test_published_experiments_keep_their_optimizers(experiment: str) -> None:
    planned, _ = jobs([f"experiment=published/{experiment}"], multirun=False)
    assert all(job.config.trainer.optimizer == OPTIMIZERS[experiment] for job in planned)


@pytest.mark.parametrize("trainer", choices("trainer"))
@pytest.mark.parametrize("optimizer", choices("trainer/optimizer"))
def test_every_optimizer_goes_with_every_trainer(trainer: str, optimizer: str) -> None:
    made = build_optimizer(config(f"trainer={trainer}", f"trainer/optimizer={optimizer}"))([torch.zeros(1)])
    assert made.param_groups[0]["lr"] > 0


@pytest.mark.parametrize("experiment", choices("experiment"))
def test_every_experiment_composes_and_has_the_six_orders_it_speaks_of(experiment: str) -> None:
    planned, multirun = jobs([f"experiment={experiment}"], multirun=False)
    assert multirun
    if experiment.startswith(("orders/", "published/")) and experiment != "orders/digits_controlled":
        orders = {job.choices["schedule"].rpartition("/")[2] for job in planned}
        assert orders | {"q_wf"} == {"float", "q_wf", "p_q_w", "q_p_w", "p_q_wf", "q_p_wf"}  # GANs: without q_wf
    if planned[0].config.task.name == "detection":
        assert {job.config.compress.granularity for job in planned} == {"channel"}


@pytest.mark.parametrize("task", [each for each in choices("task") if each != "supervised"])
def test_the_evidence_has_both_orders_of_both_families_with_equal_changes(task: str) -> None:
    planned, _ = jobs([f"experiment=evidence/{task}"], multirun=False)
    seeds = Counter((job.choices["schedule"], job.config.events().signature) for job in planned)
    assert set(seeds.values()) == {10}
    for targets in ("w", "wf"):
        for folder in ("controlled", "published"):
            pair = [
                (choice, signature)
                for choice, signature in seeds
                if choice.rpartition("/")[2] in (f"p_q_{targets}", f"q_p_{targets}")
                and choice.startswith("controlled/") == (folder == "controlled")
            ]
            assert len(pair) == 2
            assert len({signature for _, signature in pair}) == 1


def test_the_phase_diagram_changes_activations_like_weights_and_has_each_method_alone() -> None:
    planned, _ = jobs(["experiment=evidence/phase_diagram"], multirun=False)
    cells = Counter(job.config.events().signature for job in planned)
    assert {cells[f"P{p}(w,f), Q{q}(w,f)"] for p in ("0", "0.75") for q in (3, 32)} == {2 * 5}
    assert len(cells) == 5 * 5


def test_the_command_line_wins_over_an_experiments_sweep() -> None:
    plain, _ = jobs(["experiment=orders/digits"], multirun=False)
    assert [job.config.seed for job in plain] == [0, 1, 2] * 6
    planned, _ = jobs(["experiment=orders/digits", "seed=7", "trainer.epochs=3"], multirun=False)
    assert [(job.config.seed, job.config.trainer.epochs) for job in planned] == [(7, 3)] * 6


@pytest.mark.parametrize("task", choices("task"))
@pytest.mark.parametrize("data", ["digits", "shapes"])
def test_the_data_of_another_task_are_one_clear_line(task: str, data: str) -> None:
    few = ["data.factory.train=1", "data.factory.val=1", "data.factory.test=1"] if data == "shapes" else []
    if (task, data) not in {("classification", "digits"), ("supervised", "digits"), ("detection", "shapes")}:
        with pytest.raises(ConfigError, match=rf"^data=\w+: {task} takes \w+Data: data="):
            build_task(config(f"task={task}", f"data={data}", *few))


@pytest.mark.parametrize("model", classifiers())
def test_every_classifier_runs_a_whole_schedule(model: str) -> None:
    wanted = config(f"model={model}", "schedule=p_q_wf", "trainer.epochs=4", "trainer.batch_size=4")
    images = ImageSet(torch.randint(256, (8, 3, 32, 32), dtype=torch.uint8), torch.arange(8))
    half = torch.full((3,), 0.5)
    data = ImageData(train=images, val=images, test=images, classes=tuple("01234567"), mean=half, std=half)
    network = {"network": instantiate("model", {**wanted.model.networks["network"], "_partial_": True})}
    task = ClassificationTask(data=data, networks=network, batch_size=4, seed=0)
    stages = compile_schedule(wanted, steps_per_epoch=task.steps_per_epoch)
    parts = Parts(task, build_compressor(wanted, task), stages, torch.device("cpu"))
    build_trainer(wanted, parts, recorder=Records()).run()
    for target in Target:
        assert parts.compressor.bits(target) == 8
        assert parts.compressor.sparsity(target) == pytest.approx(0.5, abs=0.01)
        assert [site for site in parts.compressor.sites(target) if not site.prunable]
