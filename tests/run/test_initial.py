"""`model.init`: weights from files of other programs, and from runs."""

import io
import os
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from safetensors.torch import load_file, save_file

import qp_runner
from qp_runner.compress import site_states
from qp_runner.config.compose import jobs
from qp_runner.data import digits
from qp_runner.errors import ConfigError
from qp_runner.models import SmallCNN
from qp_runner.run.build import build
from qp_runner.run.identity import identity, job_digest
from qp_runner.schedule import Target
from support import execute, metrics

QUICK = [  # on the CPU, where the networks that they are compared with are
    *("trainer.epochs=2", "trainer.batch_size=128", "trainer.device=cpu"),
    *("tracking=none", "trainer.progress=false"),
]


def network(seed: int = 7, classes: int = 10) -> SmallCNN:
    torch.manual_seed(seed)
    return SmallCNN(in_channels=1, classes=classes, width=6)


def built(*overrides: str) -> Any:
    [job], _ = jobs([*QUICK, *overrides], multirun=False)
    return build(job.config)


def accuracy(net: torch.nn.Module) -> float:
    data = digits()
    with torch.no_grad():
        right = (net.eval()(data.preprocessing()(data.test.images)).argmax(1) == data.test.labels).sum()
    return 100 * int(right) / len(data.test)


def newest() -> Path:
    return max(Path("results/runs").iterdir())


WRAPPED = {
    "plain.pt": lambda state: torch.save(state, "plain.pt"),
    "plain.pth": lambda state: torch.save(dict(state), "plain.pth"),
    "plain.safetensors": lambda state: save_file(state, "plain.safetensors"),
    "lightning.ckpt": lambda state: torch.save(
        {"epoch": 3, "state_dict": {f"model.{k}": v for k, v in state.items()} | {"loss.weight": torch.ones(2)}},
        "lightning.ckpt",
    ),
    "parallel.pt": lambda state: torch.save({f"module.{k}": v for k, v in state.items()}, "parallel.pt"),
}


@pytest.mark.parametrize("name", WRAPPED)
def test_a_checkpoints_accuracy_is_the_runs_before_its_first_event(name: str, here: Path) -> None:
    trained = network()
    WRAPPED[name](trained.state_dict())
    assert execute(["schedule=p_q_wf", f"model.init={name}", *QUICK]) == 0
    values = metrics(newest()).groupby("name")["value"].last()
    assert values["initial/accuracy"] == accuracy(trained)
    task = built(f"model.init={name}").task
    assert all(
        torch.equal(a, b)
        for a, b in zip(task.network.state_dict().values(), trained.state_dict().values(), strict=True)
    )


def test_a_head_for_other_classes_is_left_fresh_when_asked(here: Path) -> None:
    trained = network(classes=1000)
    torch.save(trained.state_dict(), "many.pt")
    line = r"^model\.init=many\.pt: .*2 of another shape: fc\.weight \(file \[1000, .*model\.init_skip=\['fc\.\*'\]"
    with pytest.raises(ConfigError, match=line):
        built("model.init=many.pt")
    task = built("model.init=many.pt", "model.init_skip=['fc.*']").task
    assert torch.equal(task.network.conv2.weight, trained.conv2.weight)
    assert torch.equal(task.network.fc.weight, built().task.network.fc.weight)
    with pytest.raises(ConfigError, match=r"^model\.init_skip=head\.\*: matches no name"):
        built("model.init=many.pt", "model.init_skip=['head.*']")


def test_names_that_differ_are_named_with_the_nearest_ones(here: Path) -> None:
    state = {name.replace("conv2", "conv_2"): value for name, value in network().state_dict().items()}
    save_file(state, "other.safetensors")
    with pytest.raises(ConfigError) as refused:
        built("model.init=other.safetensors")
    assert "1 missing: conv2.weight (nearest: conv_2.weight)" in str(refused.value)
    assert "1 unexpected: conv_2.weight (nearest: conv2.weight)" in str(refused.value)


class Hostile:
    """Runs code when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("touch hacked",)


def test_a_file_that_would_run_code_is_refused_and_does_not(here: Path) -> None:
    torch.save({"conv1.weight": Hostile()}, "hostile.pt")
    Path("hostile.pth").write_bytes(pickle.dumps(Hostile()))
    torch.save(network(), "whole.pt")
    for name in ("hostile.pt", "hostile.pth", "whole.pt"):
        with pytest.raises(ConfigError, match=rf"^model\.init={name}: not a file of weights that .*weights_only=True"):
            built(f"model.init={name}")
    assert not Path("hacked").exists()


def test_what_is_no_file_of_weights_is_refused_by_name(here: Path) -> None:
    with pytest.raises(ConfigError, match=r"^model\.init=absent\.pt: no such file \(/"):
        built("model.init=absent.pt")
    buffer = io.BytesIO()
    torch.save(network().state_dict(), buffer)
    save_file(network().state_dict(), "whole.safetensors")
    damaged = {"short.pt": buffer.getvalue()[:-900], "text.pt": b"not weights", "empty.pt": b""}
    damaged |= {"short.safetensors": Path("whole.safetensors").read_bytes()[:-9], "text.safetensors": b"{}"}
    for name, content in damaged.items():
        Path(name).write_bytes(content)
        with pytest.raises(ConfigError, match=rf"^model\.init={name}: not a file of weights"):
            built(f"model.init={name}")
    torch.save({"epoch": 3, "lr": 0.1}, "none.pt")
    with pytest.raises(ConfigError, match=r"^model\.init=none\.pt: has to hold a state_dict"):
        built("model.init=none.pt")


@pytest.mark.parametrize(
    ("overrides", "line"),
    [
        (["model.init_compression=true"], r"^model\.init_compression=True: needs model\.init"),
        (["model.init_skip=[a]"], r"^model\.init_skip=\['a'\]: needs model\.init or model\.weights"),
        (["model.init=a.pt", "model.weights=DEFAULT"], r"^model\.weights=DEFAULT: null beside model\.init"),
        (["model.weights=DEFAULT"], r"^model\.weights=DEFAULT: null, or model=torchvision or model=timm"),
    ],
)
def test_keys_that_do_not_go_together_are_named(overrides: list[str], line: str, here: Path) -> None:
    with pytest.raises(ConfigError, match=line):
        built(*overrides)


def test_a_run_goes_on_from_another_with_its_masks_and_scales_or_without(here: Path) -> None:
    assert execute(["schedule=p_q_wf", *QUICK]) == 0
    first = newest()
    weights = load_file(first / "model.safetensors")
    plain = built(f"model.init={first}", "schedule=float")
    assert torch.equal(plain.task.network.conv2.weight, weights["conv2.weight"])
    assert plain.compressor.sparsity(Target.WEIGHT) == 0
    whole = built(f"model.init={first}/model.safetensors", "model.init_compression=true", "schedule=float")
    loaded = site_states(qp_runner.load(first).compressor)
    assert loaded.keys() == site_states(whole.compressor).keys()
    for path, state in site_states(whole.compressor).items():
        assert state.bits == loaded[path].bits
        assert torch.equal(state.scale, loaded[path].scale)
        assert (state.mask is None) == (loaded[path].mask is None)
        assert state.mask is None or torch.equal(state.mask, loaded[path].mask)
    before = metrics(first).groupby("name")["value"].last()["final/accuracy"]
    assert whole.task.evaluate("test")["accuracy"] == before
    save_file(network().state_dict(), "plain.safetensors")
    with pytest.raises(ConfigError, match=r"^model\.init=plain\.safetensors: .*no configuration"):
        built("model.init=plain.safetensors", "model.init_compression=true")
    with pytest.raises(ConfigError, match=r"^model\.init=\S+: the same sites as the network's; 1 differ, such as fc "):
        built(
            f"model.init={first}",
            "model.init_compression=true",
            "model.sites.activation=[relu1,relu2,relu3]",
            "model.sites.unpruned=[]",
        )


def test_a_changed_file_makes_another_run_and_a_copied_one_does_not(here: Path) -> None:
    torch.save(network(1).state_dict(), "a.pt")
    Path("b.pt").write_bytes(Path("a.pt").read_bytes())

    def digests(path: str) -> tuple[str, str, str]:
        [job], _ = jobs([*QUICK, f"model.init={path}"], multirun=False)
        parts = build(job.config)
        own = identity(job.config, stages=parts.stages, steps_per_epoch=7, parts=parts)
        planned = identity(job.config, stages=parts.stages, steps_per_epoch=7)
        return own.root, planned.root, job_digest(job.config)

    first = digests("a.pt")
    assert digests("b.pt") == first
    torch.save(network(2).state_dict(), "a.pt")
    assert all(new != old for new, old in zip(digests("a.pt"), first, strict=True))


def test_a_sweep_skips_finished_jobs_until_the_file_changes(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["-m", "schedule=float,p_w", "model.init=a.pt", *QUICK]
    torch.save(network(1).state_dict(), "a.pt")
    assert execute(command) == 0
    assert execute(command) == 0
    assert "2 of 2 jobs finished before" in capsys.readouterr().err
    torch.save(network(2).state_dict(), "a.pt")
    assert execute(command) == 0
    assert "finished before" not in capsys.readouterr().err
    runs = sorted(Path("results/sweeps").glob("*/0"))
    assert len(runs) == 2
    starts = [metrics(run).groupby("name")["value"].last()["initial/accuracy"] for run in runs]
    assert starts == [accuracy(network(1)), accuracy(network(2))]


RESNET = ["model=torchvision", "model.name=resnet18", "model.networks.network.small_images=true"]


def test_published_weights_of_torchvision(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fetched(self: Any, *, progress: bool, check_hash: bool) -> dict[str, torch.Tensor]:
        assert check_hash
        torch.manual_seed(3)
        state: dict[str, torch.Tensor] = torchvision.models.resnet18().state_dict()
        return state

    enum = torchvision.models.ResNet18_Weights
    monkeypatch.setattr(enum, "get_state_dict", fetched)
    skip = "model.init_skip=['fc.*', conv1.weight]"
    task = built(*RESNET, "model.weights=DEFAULT", skip).task
    expected = fetched(enum.DEFAULT, progress=False, check_hash=True)
    assert torch.equal(task.network.layer4[1].conv2.weight, expected["layer4.1.conv2.weight"])
    with pytest.raises(ConfigError, match=r"^model\.weights=V9: one of IMAGENET1K_V1, DEFAULT|IMAGENET1K_V1"):
        built(*RESNET, "model.weights=V9")


def test_without_a_network_published_weights_are_asked_for_as_a_file(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def offline(*_: Any, **__: Any) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr(torchvision.models.ResNet18_Weights, "get_state_dict", offline)
    line = r"^model\.weights=DEFAULT: https://\S+ can't be fetched \(no route to host\); .*give model\.init=FILE$"
    with pytest.raises(ConfigError, match=line):
        built(*RESNET, "model.weights=DEFAULT")


def test_published_weights_of_timm(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    timm = pytest.importorskip("timm")
    create = timm.create_model

    def fetched(name: str, *, pretrained: bool = False, **options: Any) -> torch.nn.Module:
        torch.manual_seed(3)
        made: torch.nn.Module = create(name, **options)
        return made

    monkeypatch.setattr(timm, "create_model", fetched)
    command = ["model=timm", "model.name=resnet10t", "model.init_skip=['fc.*']"]
    parts = built(*command, "model.weights=DEFAULT")
    expected = fetched("resnet10t", in_chans=1).state_dict()
    assert torch.equal(parts.task.network.state_dict()["conv1.0.weight"], expected["conv1.0.weight"])
    with pytest.raises(ConfigError, match=r"^model\.weights=zzz: one of DEFAULT, c3_in1k"):
        built(*command, "model.weights=zzz")
