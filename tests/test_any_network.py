"""Networks of other libraries, from a few lines of YAML: compressed whole, resumed and baked bit for bit; on a GPU,
compiled and captured once.

Those marked slow are run by `scripts/test -m slow`.
"""

import copy
from pathlib import Path
from unittest.mock import MagicMock

import pytest
import torch
from torch import nn
from torch._dynamo.utils import counters

from qp_runner import load
from qp_runner.config import Config
from qp_runner.config.compose import requesting
from qp_runner.run.build import Parts, build, build_trainer
from qp_runner.run.records import save_model
from qp_runner.run.task import build_task
from qp_runner.schedule import Target
from qp_runner.training import Trainer, seed_everything
from qp_runner.training.graph_step import GraphStep
from support import Records
from tiny import tiny_checkpoints

IMAGES = "name: noise\nfactory: {_target_: anything.noise}\n"
TOKENS = "name: tokens\nfactory: {_target_: anything.Tokens}\n"
TASK = "name: tokens\nfactory: {_target_: anything.TokenTask}\n"

VISION = "torchvision.models"
MODELS = {  # small configurations
    "vit": f"""
        name: vit
        networks: {{network: {{_target_: {VISION}.VisionTransformer, image_size: 32, patch_size: 8, num_layers: 2,
                               num_heads: 2, hidden_dim: 16, mlp_dim: 32, dropout: 0.1}}}}""",
    "swin": f"""
        name: swin
        networks: {{network: {{_target_: {VISION}.SwinTransformer, patch_size: [4, 4], embed_dim: 12, depths: [2, 2],
                               num_heads: [2, 4], window_size: [4, 4], stochastic_depth_prob: 0.2}}}}""",
    "densenet": f"""
        name: densenet
        networks: {{network: {{_target_: {VISION}.DenseNet, growth_rate: 4, block_config: [2, 2],
                               num_init_features: 8, bn_size: 2, drop_rate: 0.1}}}}""",
    "lstm": """
        name: lstm
        networks: {network: {_target_: anything.Recurrent}}""",
    "bert": """
        name: bert
        networks: {network: {_target_: anything.bert}}""",
}
PUBLISHED = {  # by name, with their options
    "resnet18": "",
    "resnet50": "",
    "mobilenet_v3_small": "",
    "efficientnet_b0": "",
    "densenet121": "",
    "shufflenet_v2_x0_5": "",
    "squeezenet1_1": "",
    "googlenet": ", aux_logits: false, init_weights: false",
    "convnext_tiny": "",
    "swin_t": "",
    "vit_b_16": ", image_size: 32",
}
TIMM = {"vit_tiny_patch16_224": ", img_size: 32", "resnet26": ""}
for library, names in ((f"{VISION}.", PUBLISHED), ("timm.models.", TIMM)):
    MODELS |= {
        name: f"name: {name}\nnetworks: {{network: {{_target_: {library}{name}{options}}}}}"
        for name, options in names.items()
    }
FAST = ("vit", "swin", "densenet", "lstm", "bert", "squeezenet1_1")
EVERY = [pytest.param(name, marks=() if name in FAST else pytest.mark.slow) for name in MODELS]


@pytest.fixture
def configured(tmp_path: Path):
    """Makes the configuration of a network, to be trained for a dozen steps or two."""

    def make(name: str, *further: str, schedule: str = "p_q_wf") -> Config:
        tokens = name in ("lstm", "bert")
        images = IMAGES.replace("}", ", size: 96}") if name == "efficientnet_b0" else IMAGES  # its maps shrink to 1 × 1
        files = {"model/mine": MODELS[name], "data/mine": TOKENS if tokens else images}
        files |= {"task/mine": TASK} if tokens else {}
        for path, text in files.items():
            (tmp_path / path).parent.mkdir(exist_ok=True)
            (tmp_path / f"{path}.yaml").write_text(text)
        # Scales are chosen in evaluation mode, so batch norms need some steps before their statistics are of use.
        epochs = 4 if name in FAST else 8
        small = [f"trainer.epochs={epochs}", "trainer.batch_size=4", "trainer.optimizer.lr=0.001"]
        small += ["trainer.executor=eager", "trainer.device=cpu"]
        groups = [f"{each.partition('/')[0]}=mine" for each in files]
        overrides = [*groups, *small, f"schedule={schedule}", "compress.calibration.samples=8", *further]
        with requesting(overrides, extra_dir=tmp_path) as request:
            return request.compose(request.overrides).config

    pytest.importorskip("torchvision")
    fast_path = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)  # other kernels in evaluation, with other rounding
    yield make
    torch.backends.mha.set_fastpath_enabled(fast_path)


def started(config: Config) -> tuple[Trainer, Parts, Records]:
    parts = build(config)
    seed_everything(config.seed)
    records = Records()
    return build_trainer(config, parts, recorder=records), parts, records


def needs(name: str) -> None:
    if name in TIMM or name == "bert":
        pytest.importorskip("timm" if name in TIMM else "transformers")


def outputs(network: nn.Module, batch, *, training: bool) -> list[torch.Tensor]:
    network.train(training)
    torch.manual_seed(7)  # of dropout
    made = network(batch[0] if isinstance(batch, tuple) else batch.images)
    return [made] if isinstance(made, torch.Tensor) else list(made.values())


@pytest.mark.parametrize("name", EVERY)
def test_attaching_changes_no_output_and_covers_everything(name: str, configured) -> None:
    needs(name)
    config = configured(name)
    plain = copy.deepcopy(build_task(config).networks()["network"])
    parts = build(config)
    network = parts.task.networks()["network"]
    batch = next(iter(parts.task.batches(0)))
    for training in (True, False):
        for one, other in zip(
            outputs(network, batch, training=training), outputs(plain, batch, training=training), strict=True
        ):
            assert torch.equal(one, other)
    assert list(network.state_dict()) == list(plain.state_dict())
    assert [n for n, _ in network.named_parameters()] == [n for n, _ in plain.named_parameters()]
    network.load_state_dict(plain.state_dict())
    covered = parts.compressor.coverage()
    assert covered.weight >= 0.99
    assert covered.activation >= 0.99


@pytest.mark.parametrize("name", EVERY)
def test_a_run_is_resumed_baked_and_loaded_bit_for_bit(name: str, configured, tmp_path: Path) -> None:
    needs(name)
    ends = []
    for stored in (True, True, False):
        trainer, parts, records = started(configured(name))
        if stored:
            trainer.checkpoints = tiny_checkpoints(name, trainer, tmp_path / "states")
        trainer.run()
        ends.append((trainer, parts, records.untimed()))
    assert ends[1][0].resumed_from > ends[0][0].resumed_from == 0
    first, *others = (
        [*parts.task.networks()["network"].state_dict().values(), *parts.compressor.state_dict().values()]
        for _, parts, _ in ends
    )
    assert all(torch.equal(a, b) for other in others for a, b in zip(first, other, strict=True))
    assert ends[0][2] == ends[1][2] == ends[2][2]
    parts = ends[0][1]
    for target in Target:
        assert parts.compressor.bits(target) == 8
        assert parts.compressor.sparsity(target) == pytest.approx(0.5, abs=0.02)
    network, batch = parts.task.networks()["network"], next(iter(parts.task.batches(0)))
    baked = parts.compressor.bake(network)
    for one, other in zip(outputs(network, batch, training=False), outputs(baked, batch, training=False), strict=True):
        assert torch.equal(one, other)
    save_model(configured(name), parts, tmp_path, MagicMock(), composed={})
    loaded = load(tmp_path)  # without its data
    for one, other in zip(
        outputs(network, batch, training=False), outputs(loaded.network, batch, training=False), strict=True
    ):
        assert torch.equal(one, other)


class Checked:
    """A trainer's step that must not wait for the device, but for the first step of a stage."""

    def __init__(self, trainer: Trainer) -> None:
        self.step, self.trainer, self.graphs = trainer.step, trainer, list[int]()

    @property
    def setup_seconds(self) -> float:
        return self.step.setup_seconds

    def __call__(self, batch) -> torch.Tensor:
        first = any(stage.first == self.trainer.state.steps_done for stage in self.trainer.stages)
        torch.cuda.synchronize()
        torch.cuda.set_sync_debug_mode("default" if first else "error")
        try:
            return self.step(batch)
        finally:
            torch.cuda.set_sync_debug_mode("default")
            self.graphs.append(counters["stats"]["unique_graphs"])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("executor", ["eager", "compile", "graph"])
@pytest.mark.parametrize("name", EVERY)
def test_on_a_gpu_no_step_waits_and_events_compile_and_capture_nothing(
    name: str, executor: str, configured, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    needs(name)
    captures = []
    begin = torch.cuda.CUDAGraph.capture_begin
    monkeypatch.setattr(
        torch.cuda.CUDAGraph, "capture_begin", lambda *args, **given: captures.append(1) or begin(*args, **given)
    )
    # Several quantized steps; with 8 bits the outputs of hardly trained batch norms would all become zero.
    events = [f"schedule.events.quantize_{each}.{key}" for each in Target for key in ("start=0.75dur", "to=16")]
    trainer, parts, _ = started(configured(name, "trainer.device=cuda", f"trainer.executor={executor}", *events))
    counters.clear()
    plain, trainer.step = trainer.step, Checked(trainer)
    trainer.run()
    assert [record.message for record in caplog.records if "can't be captured" in record.message] == []
    eager = executor == "eager" or name == "lstm"  # torch does not compile recurrent layers
    assert len(set(trainer.step.graphs)) == 1
    assert (trainer.step.graphs[0] > 0) == (not eager)
    assert len(captures) == (executor == "graph" and not eager)
    assert isinstance(plain, GraphStep) == (executor == "graph" and not eager)
    for target in Target:
        assert parts.compressor.bits(target) == 16
        assert parts.compressor.sparsity(target) == pytest.approx(0.5, abs=0.02)
