"""A compressed training step's cost, this project beside its peers, in one process and one run.

MobileNetV2 on CIFAR-10 shapes. Each case trains its own copy of the network on one batch; figures are medians of
repeats, each the mean of some steps. Peers are optional: what is not installed is named and skipped.
"""

import argparse
import csv
import functools
import gc
import importlib
import inspect
import itertools
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import nn

from qp_runner.compress import Compressor, Settings, SiteSelection
from qp_runner.data import Batch, ImageData, ImageSet
from qp_runner.models import MobileNetV2
from qp_runner.schedule import Op, Stage, Target, TargetState
from qp_runner.tasks import ClassificationTask
from qp_runner.training.executors import make_step

CONF = Path(__file__).resolve().parent.parent / "conf" / "model" / "mobilenetv2.yaml"
VARIANTS = {"float": (False, False), "quantized": (False, True), "pruned": (True, False), "both": (True, True)}


@dataclass
class Result:
    """One case: seconds a step (median of repeats), a first and a second set-up, cost of its events, peak memory."""

    library: str
    executor: str
    precision: str
    variant: str
    layout: str = "contiguous"
    seconds: float = float("nan")
    setup_s: float = float("nan")
    again_s: float = float("nan")
    events_s: float = float("nan")
    peak_mb: float = float("nan")


def main() -> None:
    """Times every case that can run here; prints a table and writes a CSV."""
    options = arguments()
    device = torch.device(options.device)
    torch.backends.cudnn.benchmark = True
    results: list[Result] = []
    for result, make in cases(options, device):
        torch.manual_seed(0)
        try:
            measure(result, make, device=device, steps=options.steps, repeats=options.repeats)
        except Exception as error:  # one peer's failure must not lose the others' figures
            print(
                f"skipped: {result.library} {result.executor} {result.precision} {result.variant}: {str(error)[:200]!r}"
            )
            continue
        results.append(result)
        print(line(result, results, options.batch), flush=True)
        write(results, options)
        gc.collect()
        torch._dynamo.reset()
    print(f"{machine(options)}, batch {options.batch}, medians of {options.repeats} repeats: {options.csv}")


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--steps", type=int, default=20, help="steps a repeat")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--executors", default="eager,compile,graph")
    parser.add_argument("--precisions", default="float32,bfloat16")
    parser.add_argument("--layouts", default="contiguous", help="contiguous, channels_last or both, by a comma")
    parser.add_argument("--variants", default=",".join(VARIANTS))
    parser.add_argument("--peers", default="qsparse,torch_qat,brevitas")
    parser.add_argument("--csv", type=Path, default=Path("results/bench_peers.csv"))
    return parser.parse_args()


Make = Callable[[Result], Callable[[], Any]]


def cases(options: argparse.Namespace, device: torch.device) -> Iterator[tuple[Result, Make]]:
    """Every case with what makes its step."""
    for precision in options.precisions.split(","):
        for executor in options.executors.split(","):
            if executor == "graph" and device.type != "cuda":
                continue
            for layout, variant in itertools.product(options.layouts.split(","), options.variants.split(",")):
                yield (
                    Result("qp_runner", executor, precision, variant, layout),
                    partial(ours, batch=options.batch, device=device),
                )
    for peer in filter(None, options.peers.split(",")):
        for variant in options.variants.split(","):
            if variant == "float" or (peer != "qsparse" and variant != "quantized"):
                continue
            make = {"qsparse": qsparse_step, "torch_qat": qat_step, "brevitas": brevitas_step}[peer]
            yield Result(peer, "eager", "float32", variant), partial(make, batch=options.batch, device=device)


def ours(result: Result, *, batch: int, device: torch.device) -> Callable[[], Any]:
    """This project's step, with the events already fired."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(256, (batch, 3, 32, 32), generator=generator).to(torch.uint8)
    samples = ImageSet(images, torch.arange(batch) % 10)
    half = torch.full((3,), 0.5)
    names = tuple(map(str, range(10)))
    data = ImageData(train=samples, val=samples, test=samples, classes=names, mean=half, std=half)
    task = ClassificationTask(data=data, networks={"network": MobileNetV2}, batch_size=batch, seed=0)
    task.to(device)
    if result.layout == "channels_last":
        task.network.to(memory_format=torch.channels_last)
    sites = yaml.safe_load(CONF.read_text())["sites"]
    selection = SiteSelection(tuple(sites["weight"]), tuple(sites["activation"]), tuple(sites["unpruned"]))
    compressor = None
    pruned, quantized = VARIANTS[result.variant]
    if pruned or quantized:
        compressor = Compressor(task.compressible(), sites=selection, settings=Settings())
        compressor.trace(lambda: task.infer(task.sample()))
    optimizer = torch.optim.SGD(task.network.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4)
    step = make_step(
        result.executor,  # type: ignore[arg-type]
        task,
        {"network": optimizer},
        compressor=compressor,
        precision=result.precision,  # type: ignore[arg-type]
        device=device,
    )
    task.network.train()
    fixed: Batch = next(task.batches(0))
    if compressor is not None:
        result.events_s = timed(lambda: fire(compressor, task, fixed, pruned=pruned, quantized=quantized), device)
    return lambda: step(fixed)


def fire(compressor: Compressor, task: ClassificationTask, batch: Batch, *, pruned: bool, quantized: bool) -> None:
    """One stage with every event of the variant, calibrated on one batch."""
    state = TargetState(sparsity=0.5 if pruned else 0.0, bits=8 if quantized else 32)
    active = {Op.PRUNE: pruned, Op.QUANTIZE: quantized}
    fires = frozenset((op, target) for op, on in active.items() for target in Target if on)
    compressor.enter(Stage(0, 0, state, state, fires), run=lambda: task.infer(batch))


def qsparse_step(result: Result, *, batch: int, device: torch.device) -> Callable[[], Any]:
    """The authors' library, with everything active from its first steps on."""
    qsparse = patched_qsparse()
    pruned, quantized = VARIANTS[result.variant]
    network: nn.Module = MobileNetV2(in_channels=3, classes=10)
    weights, activations = [nn.Conv2d, nn.Linear], [nn.BatchNorm2d, nn.Linear]
    layers: dict[str, Any] = {"weight_layers": weights, "activation_layers": activations, "log": False}
    if pruned:
        network = qsparse.convert(network, qsparse.prune(sparsity=0.5, start=1, interval=1, repetition=1), **layers)
    if quantized:
        network = qsparse.convert(network, qsparse.quantize(bits=8, timeout=2), **layers)
    return plain_step(network.to(device), batch, device)


@functools.cache
def patched_qsparse() -> Any:
    """qsparse 1.2.11, whose forward gives a float limit (a tensor) to an integer clamp, which a current torch refuses.

    One expression is replaced at run time: the limit becomes a number, an integer. Nothing else of it is touched.
    """
    qsparse = importlib.import_module("qsparse")
    module = sys.modules["qsparse.quantize"]
    source = inspect.getsource(module.LinearQuantization)
    exec(source.replace("2.0 ** (bits - 1)", "int(2 ** (bits - 1))"), module.__dict__)
    print("qsparse: the integer clamp's limit is patched at run time")
    return qsparse


def qat_step(_result: Result, *, batch: int, device: torch.device) -> Callable[[], Any]:
    """PyTorch's own quantization-aware training, eager mode: fake quantization of weights and activations."""
    from torch.ao import quantization

    network = MobileNetV2(in_channels=3, classes=10)
    network.qconfig = quantization.get_default_qat_qconfig("fbgemm")
    quantization.prepare_qat(network.train(), inplace=True)
    return plain_step(network.to(device), batch, device)


def brevitas_step(_result: Result, *, batch: int, device: torch.device) -> Callable[[], Any]:
    """Brevitas: 8-bit weights and outputs of norms, per tensor, scales as it sets them by default."""
    layers = importlib.import_module("brevitas.nn")
    network = MobileNetV2(in_channels=3, classes=10)
    for parent in list(network.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.Conv2d):
                options = {key: getattr(child, key) for key in ("stride", "padding", "groups")}
                size, bias = child.kernel_size, child.bias is not None
                replaced = layers.QuantConv2d(child.in_channels, child.out_channels, size, bias=bias, **options)
            elif isinstance(child, nn.Linear):
                linear = layers.QuantLinear(child.in_features, child.out_features, bias=True)
                replaced = nn.Sequential(linear, layers.QuantIdentity(bit_width=8))
            elif isinstance(child, nn.BatchNorm2d):
                replaced = nn.Sequential(child, layers.QuantIdentity(bit_width=8))
            else:
                continue
            setattr(parent, name, replaced)
    return plain_step(network.to(device), batch, device)


def plain_step(network: nn.Module, batch: int, device: torch.device) -> Callable[[], Any]:
    """An ordinary eager training step."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(batch, 3, 32, 32, generator=generator).to(device)
    y = (torch.arange(batch) % 10).to(device)
    network.train()
    network(x)  # lazily made layers
    optimizer = torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4)

    def step() -> None:
        optimizer.zero_grad()
        nn.functional.cross_entropy(network(x), y).backward()
        optimizer.step()

    return step


def measure(result: Result, make: Make, *, device: torch.device, steps: int, repeats: int) -> None:
    """Sets a case up, warms it up, times it."""
    holder: dict[str, Callable[[], Any]] = {}

    def prepare() -> None:
        holder["step"] = make(result)
        holder["step"]()

    result.setup_s = timed(prepare, device)
    if result.executor != "eager":
        holder.clear()
        gc.collect()
        result.again_s = timed(prepare, device)  # the same network once more, as the next run of a sweep has it
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    step = holder["step"]
    for _ in range(5):
        step()
    times = [timed(lambda: [step() for _ in range(steps)], device) / steps for _ in range(repeats)]
    result.seconds = statistics.median(times)
    if device.type == "cuda":
        result.peak_mb = torch.cuda.max_memory_allocated() / 2**20


def timed(work: Callable[[], Any], device: torch.device) -> float:
    """Seconds that work takes, the device's part included."""
    synchronize = torch.cuda.synchronize if device.type == "cuda" else lambda: None
    synchronize()
    started = time.perf_counter()
    work()
    synchronize()
    return time.perf_counter() - started


def line(result: Result, results: list[Result], batch: int) -> str:
    """A case as a row of the table; the ratio is to the float step of the same executor and precision."""
    alike = [
        r
        for r in results
        if (r.executor, r.precision, r.layout, r.variant) == (result.executor, result.precision, result.layout, "float")
    ]
    ratio = result.seconds / alike[0].seconds if alike else float("nan")
    return (
        f"{result.library:10s} {result.executor:8s} {result.precision:9s} {result.layout:13s} {result.variant:10s} "
        f"{1e3 * result.seconds:9.2f} ms/step {batch / result.seconds:9.0f} images/s {ratio:6.2f} x float "
        f"set-up {result.setup_s:6.1f} s, again {result.again_s:5.1f} s  "
        f"events {result.events_s:6.2f} s  peak {result.peak_mb:7.0f} MB"
    )


def machine(options: argparse.Namespace) -> str:
    """What the figures are measured on."""
    cuda = options.device.startswith("cuda")
    name = torch.cuda.get_device_name() if cuda else f"CPU, {torch.get_num_threads()} threads"
    return f"{name}, torch {torch.__version__}"


def write(results: list[Result], options: argparse.Namespace) -> None:
    """The figures so far as CSV, with what they were measured on."""
    options.csv.parent.mkdir(parents=True, exist_ok=True)
    with options.csv.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow([*vars(Result("", "", "", "")), "images_per_s", "batch", "repeats", "steps", "machine"])
        for r in results:
            speed = options.batch / r.seconds
            rows.writerow([*vars(r).values(), speed, options.batch, options.repeats, options.steps, machine(options)])


if __name__ == "__main__":
    main()
