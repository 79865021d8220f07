"""The cost of a compressed training step on this machine's CPU, as ratios to the float step of the same run.

Every variant trains its own copy of a network on the same batch. One round times one step of each, in turn, so that
drift of the machine meets all of them alike; the figures are medians over the rounds.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
import yaml
from torch import nn

from qp_runner.compress import Compressor, Settings, SiteSelection
from qp_runner.models import MobileNetV2, SmallCNN
from qp_runner.schedule import Op, Stage, Target, TargetState

CONF = Path(__file__).resolve().parent.parent / "conf" / "model"
VARIANTS = {"float": (False, False), "pruned": (True, False), "quantized": (False, True), "both": (True, True)}
CASES: dict[str, tuple[Callable[[], nn.Module], tuple[int, int, int]]] = {
    "small_cnn": (lambda: SmallCNN(in_channels=1, classes=10), (1, 8, 8)),
    "mobilenetv2": (lambda: MobileNetV2(in_channels=3, classes=10), (3, 32, 32)),
}


def variant(model: str, *, pruned: bool, quantized: bool, batch: int) -> Callable[[], None]:
    """A function that trains one step of a network compressed as asked (weights and activations)."""
    torch.manual_seed(0)
    build, shape = CASES[model]
    network = build()
    x, y = torch.randn(batch, *shape), torch.randint(10, (batch,))
    sites = yaml.safe_load((CONF / f"{model}.yaml").read_text())["sites"]
    selection = SiteSelection(*(tuple(sites.get(key, ())) for key in ("weight", "activation", "unpruned")))
    if pruned or quantized:
        compressor = Compressor({"network": network}, sites=selection, settings=Settings())
        state = TargetState(sparsity=0.5 if pruned else 0.0, bits=8 if quantized else 32)
        active = {Op.PRUNE: pruned, Op.QUANTIZE: quantized}
        fires = frozenset((op, target) for op, on in active.items() for target in Target if on)
        compressor.enter(Stage(0, 0, state, state, fires), run=lambda: network(x))
    optimizer = torch.optim.SGD(network.parameters(), lr=1e-4, momentum=0.9)

    def step() -> None:
        optimizer.zero_grad()
        nn.functional.cross_entropy(network(x), y).backward()
        optimizer.step()

    return step


def measure(model: str, *, rounds: int, batch: int) -> dict[str, float]:
    """Median seconds of a step, by variant."""
    steps = {name: variant(model, pruned=p, quantized=q, batch=batch) for name, (p, q) in VARIANTS.items()}
    times: dict[str, list[float]] = {name: [] for name in steps}
    for round_number in range(rounds + 2):  # the first two warm up
        for name, step in steps.items():
            start = time.perf_counter()
            step()
            if round_number >= 2:
                times[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in times.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=15, help="timed rounds; each is one step of every variant")
    parser.add_argument("--threads", type=int, default=None, help="torch's CPU threads (default: torch's choice)")
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    print(f"torch {torch.__version__}, CPU, {torch.get_num_threads()} threads, batch {arguments.batch}")
    print(f"{'model':12s} {'variant':10s} {'ms/step':>9s} {'x float':>8s}")
    for model in arguments.models:
        rounds = arguments.rounds if model == "mobilenetv2" else 10 * arguments.rounds
        medians = measure(model, rounds=rounds, batch=arguments.batch)
        for name, seconds in medians.items():
            print(f"{model:12s} {name:10s} {1e3 * seconds:9.2f} {seconds / medians['float']:8.2f}")


if __name__ == "__main__":
    main()
