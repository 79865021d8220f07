"""A look at a network before any site is attached: its calls by name, and which sites would cover all of it."""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from qp_runner.compress.attach import attach_calls
from qp_runner.compress.calls import Calls, Watch, first_tensor, numbered, prefixes
from qp_runner.compress.graph import Graph, LedgerTensor, trace
from qp_runner.compress.isolation import parameters_kept, undisturbed
from qp_runner.compress.recorder import Recorder
from qp_runner.compress.values import Form
from qp_runner.errors import ConfigError

log = logging.getLogger(__name__)

OTHER_CALLS = "called more or fewer times in training than in evaluation"

Run = Callable[[], None]
Shapes = dict[tuple[str, int], tuple[int, ...]]
"""Of results, by name and number of the call."""


@dataclass(frozen=True)
class Call:
    """A call in a forward pass that returns a tensor, or a tuple that begins with one.

    Attributes:
        name: without number.
        number: of the calls of this name, from 0.
        count: how many calls have this name.
        batch_axis: the dimension of the result that is the batch.
    """

    name: str
    number: int
    count: int
    batch_axis: int = 0


@dataclass(frozen=True)
class Survey:
    """What was seen.

    Attributes:
        calls: by numbered name, in order; without those whose number is another in training than in evaluation.
        chosen: names of calls: one for every tensor in memory, so that all that reads it reads the call's result.
        places: by the name of a tensor in memory, its call of `chosen`.
        left: by the name of a tensor in memory that has no such call, the reason.
        ends: those of `chosen` that the first layer of a network writes, or that it returns.
        end_weights: ids of the Parameters of the first and the last layer.
        read: ids of the Parameters that take part.
        graph: of the pass.
    """

    calls: Mapping[str, Call]
    chosen: frozenset[str]
    places: Mapping[str, str]
    left: Mapping[str, str]
    ends: frozenset[str]
    end_weights: frozenset[int]
    read: frozenset[int]
    graph: Graph


def survey(networks: Mapping[str, nn.Module], run: Run, pair: Run | None = None) -> Survey:
    """Surveys networks that have no sites.

    Args:
        networks: by name.
        run: a forward pass of one sample.
        pair: one of two samples; shows where the batch is, and which calls training makes.

    Raises ConfigError for a module whose calls can't be seen.
    """
    parameters = {prefix + name: p for prefix, each in prefixes(networks) for name, p in each.named_parameters()}
    _check(networks)
    known: set[Form] = set()
    shapes: Shapes = {}
    counts: dict[str, int] = {}

    def shown(name: str, number: int, result: Any, recorder: Recorder) -> None:
        counts[name] = max(counts.get(name, 0), number + 1)
        x = first_tensor(result)
        if x is not None and x.is_floating_point() and x.dim():
            shapes.setdefault((name, number), tuple(x.shape))
            _mark_new(numbered(name, number), x, recorder, known)

    with undisturbed(networks.values()), parameters_kept(networks.values()), _counting(networks) as calls:
        graph = trace(networks, {}, parameters=parameters, run=run, seen=lambda *_: None, calls=calls, shown=shown)
        two, training = (shapes, counts) if pair is None else _passes(pair, networks, calls)
    made = {
        numbered(name, number): Call(name, number, counts[name], _batch_axis(one, two.get((name, number), one)))
        for (name, number), one in shapes.items()
        if training.get(name) == counts[name]
    }
    return _survey(graph, made, parameters)


def _check(networks: Mapping[str, nn.Module]) -> None:
    for prefix, network in prefixes(networks):
        for path, module in network.named_modules():
            if isinstance(module, torch.jit.ScriptModule):
                allowed = "is compiled by torch.jit, which hides its calls: give the module that it was made of"
                raise ConfigError("model.networks", prefix + path or type(module).__name__, allowed)


def _survey(graph: Graph, calls: Mapping[str, Call], parameters: Mapping[str, nn.Parameter]) -> Survey:
    ends = [tensor for tensor in graph.ledger if tensor.first_layer or tensor.returned]
    places = [(tensor, place) for tensor in graph.ledger if (place := _place(tensor, calls))]
    return Survey(
        calls=calls,
        chosen=frozenset(place for _, place in places),
        places={tensor.name: place for tensor, place in places},
        left={t.name: OTHER_CALLS for t in graph.ledger if t.sites and calls.keys().isdisjoint(t.sites)},
        ends=frozenset(_place(tensor, calls) for tensor in ends),
        end_weights=frozenset(id(parameters[name]) for tensor in ends for name in tensor.layers),
        read=frozenset(id(parameters[name]) for name in graph.read),
        graph=graph,
    )


def _place(tensor: LedgerTensor, calls: Mapping[str, Call]) -> str:
    """The call that is a tensor's site: the best one, or else the last that may be one; empty if there is none."""
    return next((path for path in (tensor.best, *reversed(list(tensor.sites))) if path in calls), "")


def _mark_new(path: str, x: Tensor, recorder: Recorder, known: set[Form]) -> None:
    """Marks values that no call has returned before: a view of them, or what a module hands on, is no new place; nor is
    a part that was written in place, since what follows reads the whole.
    """
    forms = recorder.of(x)
    for form in forms:
        if form not in known and not form.value.in_part:
            elements = x.numel() if len(forms) == 1 and not form.value.varies else form.value.elements
            form.value.marks.append((path, form, elements))
    known.update(forms)


@contextmanager
def _counting(networks: Mapping[str, nn.Module]) -> Iterator[list[Calls]]:
    """Inside, all calls of the networks are counted."""
    attached = [
        attach_calls(network, Calls({}, prefix=prefix, everything=True)) for prefix, network in prefixes(networks)
    ]
    try:
        yield [each.calls for each in attached]
    finally:
        for each in attached:
            each.remove()


def _passes(pair: Run, networks: Mapping[str, nn.Module], calls: Sequence[Calls]) -> tuple[Shapes, dict[str, int]]:
    """The shapes of the results for two samples, and how many calls of each name training makes."""
    two, evaluation = _pass(pair, calls)
    for network in networks.values():
        network.train()
    try:
        return two, _pass(pair, calls)[1]
    except Exception as error:  # a detector wants targets, for one
        log.info("training is taken to make the calls of evaluation, as this network can't be tried: %s", error)
        return two, evaluation


def _pass(run: Run, calls: Sequence[Calls]) -> tuple[Shapes, dict[str, int]]:
    """The shape of every call's result in a pass, and how many calls there are of each name."""
    shapes: Shapes = {}
    counts: dict[str, int] = {}

    def watch(name: str, number: int, result: Any) -> Any:
        counts[name] = max(counts.get(name, 0), number + 1)
        x = first_tensor(result)
        if x is not None:
            shapes.setdefault((name, number), tuple(x.shape))
        return result

    _watch(calls, watch)
    try:
        run()
    finally:
        _watch(calls, None)
    return shapes, counts


def _watch(calls: Sequence[Calls], watch: Watch | None) -> None:
    for each in calls:
        each.watch = watch


def _batch_axis(one: tuple[int, ...], two: tuple[int, ...]) -> int:
    """The only dimension that is twice as long for two samples as for one; 0 if there is none such."""
    longer = [axis for axis, (a, b) in enumerate(zip(one, two, strict=False)) if a != b]
    return longer[0] if len(one) == len(two) and len(longer) == 1 and two[longer[0]] == 2 * one[longer[0]] else 0
