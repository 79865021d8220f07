"""Training without steps: to evaluate a network, and to compress it after training, in two orders.

The reference here is slow and plain: a forward pass written out, one exponent tried after the other.
"""

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor

import qp_runner
from qp_runner.compress import pruned_count
from qp_runner.config.compose import jobs
from qp_runner.data import digits
from qp_runner.run.identity import job_digest
from stores import load as load_record
from support import execute, metrics, same

QUICK = ["trainer.batch_size=128", "tracking=none", "trainer.progress=false"]
CONVOLUTIONS, RELUS = ("conv1", "conv2", "conv3"), ("relu1", "relu2", "relu3")
PRUNED = ("conv2.weight", "conv3.weight", "relu2", "relu3")  # but for the ends, by conf/model/small_cnn.yaml
WEIGHTS = ("conv1.weight", "conv2.weight", "conv3.weight", "fc.weight")


class Reference:
    """The small CNN with masks and scales, as the field's textbooks have it."""

    def __init__(self, state: dict[str, Tensor]) -> None:
        self.state = state
        self.masks: dict[str, Tensor] = {}
        self.scales: dict[str, Tensor] = {}

    def computed(self, name: str, x: Tensor) -> Tensor:
        """Q(M ⊙ x), as far as the order has come."""
        x = x * self.masks[name] if name in self.masks else x
        if name not in self.scales:
            return x
        return (x / self.scales[name]).round().clamp(-128, 127) * self.scales[name]

    def weight(self, layer: str) -> Tensor:
        return self.computed(f"{layer}.weight", self.state[f"{layer}.weight"])

    def forward(self, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Logits, and what each activation site is given."""
        given = {}
        for number, (conv, relu) in enumerate(zip(CONVOLUTIONS, RELUS, strict=True), start=1):
            norm = [self.state[f"bn{number}.{each}"] for each in ("running_mean", "running_var", "weight", "bias")]
            given[relu] = F.relu(F.batch_norm(F.conv2d(x, self.weight(conv), padding=1), *norm))
            x = self.computed(relu, given[relu])
            x = F.max_pool2d(x, 2) if number == 2 else F.adaptive_avg_pool2d(x, 2) if number == 3 else x
        given["fc"] = F.linear(x.flatten(1), self.weight("fc"), self.state["fc.bias"])
        return self.computed("fc", given["fc"]), given

    def calibrate(self) -> dict[str, Tensor]:
        """What activation sites are given by the calibration samples."""
        batches = [self.forward(batch.images)[1] for batch in digits().calibration(samples=256, batch_size=64, seed=0)]
        return {name: torch.cat([each[name] for each in batches]) for name in batches[0]}

    def prune(self, targets: str) -> None:
        """By the magnitude of what is computed with: where scales are there already, of quantized values."""
        saliency = {name: self.computed(name, self.state[name]).abs() for name in WEIGHTS}
        new = {name: kept(value) for name, value in saliency.items() if name in PRUNED}
        self.masks |= new
        if "f" in targets:
            seen = {name: self.computed(name, value) for name, value in self.calibrate().items()}
            self.masks |= {name: kept(each.double().abs().mean(0)) for name, each in seen.items() if name in PRUNED}

    def quantize(self) -> None:
        for name in WEIGHTS:
            rows = self.computed(name, self.state[name]).flatten(1)
            scales = torch.stack([best_scale(row) for row in rows])
            self.scales[name] = scales.view(-1, *[1] * (self.state[name].dim() - 1))
        for name, value in self.calibrate().items():
            self.scales[name] = best_scale(value * self.masks.get(name, torch.ones(())))


def kept(saliency: Tensor) -> Tensor:
    """1 but for the half that is smallest, the first of equals first."""
    flat = saliency.flatten().tolist()
    smallest = sorted(range(len(flat)), key=lambda place: (flat[place], place))[: pruned_count(len(flat), 0.5)]
    mask = torch.ones(len(flat))
    mask[smallest] = 0
    return mask.view(saliency.shape)


def best_scale(values: Tensor) -> Tensor:
    """The power of two whose codes of 8 bits are nearest to the values."""
    scales = [torch.tensor(2.0**exponent) for exponent in range(-30, 10)]
    errors = [
        ((((values / each).round().clamp(-128, 127) * each) - values).double() ** 2).sum().item() for each in scales
    ]
    return scales[errors.index(min(errors))]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A float network, trained for two epochs."""
    folder = tmp_path_factory.mktemp("float")
    assert execute(["schedule=float", "trainer.epochs=2", f"results={folder}", *QUICK]) == 0
    [run] = (folder / "runs").iterdir()
    return run / "model.safetensors"


def final(run: Path) -> dict[str, float]:
    return dict(metrics(run).groupby("name")["value"].last())


def test_the_two_orders_after_training_are_two_results_each_that_of_the_reference(here: Path, checkpoint: Path) -> None:
    names = ["p_q_wf", "q_p_wf", "p_q_w", "q_p_w"]
    choices = ",".join(f"after_training/{name}" for name in names)
    assert execute(["-m", f"schedule={choices}", "trainer.epochs=0", f"model.init={checkpoint}", *QUICK]) == 0
    [sweep] = Path("results/sweeps").iterdir()
    found: dict[str, dict[str, Tensor]] = {}
    state = {name: each for name, each in load_file(checkpoint).items() if ":" not in name}
    for number, name in enumerate(names):
        reference = Reference(state)
        targets = name.rpartition("_")[2]
        steps: dict[str, Any] = {"p": lambda r=reference, t=targets: r.prune(t), "q": reference.quantize}
        for letter in name[:3:2]:
            steps[letter]()
        run = sweep / str(number)
        saved = load_file(run / "model.safetensors")
        assert {each.removeprefix("mask:") for each in saved if each.startswith("mask:")} == reference.masks.keys()
        for site, mask in reference.masks.items():
            assert torch.equal(saved[f"mask:{site}"], mask.bool()), (name, site)
        for site, scale in reference.scales.items():
            assert torch.equal(saved[f"scale:{site}"].flatten(), scale.flatten()), (name, site)
        baked = qp_runner.load(run).bake()
        for layer in (*CONVOLUTIONS, "fc"):
            assert torch.equal(baked.get_submodule(layer).weight, reference.weight(layer)), (name, layer)
        test = digits().test
        right = (reference.forward(digits().preprocessing()(test.images))[0].argmax(1) == test.labels).sum()
        assert final(run)["final/accuracy"] == 100 * int(right) / len(test)
        found[name] = {layer: reference.weight(layer) for layer in CONVOLUTIONS}
        assert load_record(run).tags["order"].startswith("P" if name[0] == "p" else "Q")
    assert not torch.equal(found["p_q_wf"]["conv2"], found["q_p_wf"]["conv2"])


def test_without_steps_and_events_a_run_evaluates(here: Path, checkpoint: Path) -> None:
    before = load_file(checkpoint)
    assert execute(["schedule=float", "trainer.epochs=0", f"model.init={checkpoint}", *QUICK]) == 0
    [run] = Path("results/runs").iterdir()
    values = final(run)
    assert values["final/accuracy"] == values["initial/accuracy"] == final(checkpoint.parent)["final/accuracy"]
    assert values["val/accuracy"] == values["final/val_accuracy"] == values["initial/val_accuracy"]
    assert values["final/total_steps"] == 0
    after = load_file(run / "model.safetensors")
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)


@pytest.mark.parametrize("schedule", ["after_training/q_p_wf", "p_q_wf", "interleaved_wf"])
def test_weights_and_norms_stay_bit_identical(schedule: str, here: Path, checkpoint: Path) -> None:
    assert execute([f"schedule={schedule}", "trainer.epochs=0", f"model.init={checkpoint}", *QUICK]) == 0
    [run] = Path("results/runs").iterdir()
    before, after = load_file(checkpoint), load_file(run / "model.safetensors")
    assert any("running_mean" in name for name in before)
    for name in before:
        assert torch.equal(before[name], after[name]) or name.startswith("scale:")
    assert final(run)["final/bits_activation"] in (4, 8)
    assert final(run)["final/sparsity_activation"] == pytest.approx(0.5, abs=0.01)


def test_events_at_other_times_keep_their_order_without_steps(here: Path, checkpoint: Path) -> None:
    choices = "schedule=p_q_wf,q_p_wf"
    assert execute(["-m", choices, "trainer.epochs=0", f"model.init={checkpoint}", *QUICK]) == 0
    [sweep] = Path("results/sweeps").iterdir()
    one, other = (load_file(sweep / job / "model.safetensors") for job in "01")
    assert not torch.equal(one["mask:conv2.weight"], other["mask:conv2.weight"])


def test_ranks_order_events_within_training_too_and_share_the_trunk_before_them(here: Path) -> None:
    """While training goes on pruning ranks latent weights, so only the scales know which event came first."""
    times = [f"+schedule.events.{op}={{op: {op}, target: weight, to: {to}, start: 1ep, rank: RANK}}" for op, to in OPS]
    pq, qp = ([time.replace("RANK", str(rank)) for time, rank in zip(times, ranks, strict=True)] for ranks in RANKS)
    for events in (pq, qp):
        command = ["schedule=float", *events, "trainer.epochs=2", *QUICK]
        assert execute(command) == 0
    first, second = sorted(Path("results/runs").iterdir())
    assert load_record(first).tags["order"] == "P0.75(w) → Q3(w)"
    assert load_record(second).tags["order"] == "Q3(w) → P0.75(w)"
    stored = sorted(Path("results/checkpoints").glob("*/*.ckpt"))
    assert len(stored) == 1  # the epoch before is the same float run
    one, other = (load_file(run / "model.safetensors") for run in (first, second))
    assert not torch.equal(one["scale:conv2.weight"], other["scale:conv2.weight"])


OPS = (("prune", 0.75), ("quantize", 3))
RANKS = ((0, 1), (1, 0))


@pytest.mark.parametrize("schedule", ["after_training/p_q_wf", "float", "p_q_wf"])
def test_plan_draws_it(schedule: str, here: Path, checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert execute(["plan", f"schedule={schedule}", "trainer.epochs=0", f"model.init={checkpoint}"]) == 0
    drawn = capsys.readouterr().out
    assert "no training" in drawn
    events = next(line for line in drawn.splitlines() if line.startswith("events"))
    assert events.split()[1:] == {"float": [], "p_q_wf": ["P"] * 4 + ["Q", "Q"]}.get(schedule, ["P", "Q"])


def test_orders_that_differ_in_ranks_share_all_of_training_and_end_as_they_do_alone(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    orders = ["after_training/p_q_wf", "after_training/q_p_wf"]
    assert execute(["-m", f"schedule={','.join(orders)}", "trainer.epochs=2", *QUICK]) == 0
    assert "2 runs ask for 4 epochs; 2 are computed (2.00 × less), in waves of 1, 1" in capsys.readouterr().err
    [sweep] = Path("results/sweeps").iterdir()
    for number, order in enumerate(orders):
        alone = Path(f"alone{number}")
        command = [f"schedule={order}", "trainer.epochs=2", "checkpoint.enabled=false", f"hydra.run.dir={alone}"]
        assert execute([*command, *QUICK]) == 0
        same(sweep / str(number), alone)


def test_a_changed_rank_alone_makes_another_run(here: Path) -> None:
    events = [f"schedule.events.prune_weight.rank={rank}" for rank in (0, 2)]
    roots = []
    for event in events:
        [job], _ = jobs(["schedule=after_training/p_q_w", event, *QUICK], multirun=False)
        stages = job.config.events().compile(total_steps=70, steps_per_epoch=7)
        roots.append((job_digest(job.config), [stage.record() for stage in stages]))
    assert roots[0][0] != roots[1][0]
    assert roots[0][1] != roots[1][1]
