"""Weights from files of other programs, and their way into a network. Reading a file never runs code from it."""

import difflib
import pickle
import re
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from qp_runner.errors import ConfigError, first_line

WRAPPINGS = ("state_dict", "model_state_dict", "model", "network", "net", "weights")
"""Keys under which training programs keep the weights in a file that holds more than them."""

REASON = re.compile(r"GLOBAL [\w.]+")
"""The object that torch refuses in a file, within its longer message."""

SHOWN = 3
COUNTERS = "num_batches_tracked"  # of batch norms; older files lack them


def read_weights(place: str, *, key: str) -> dict[str, Tensor]:
    """The state_dict in a file: `.safetensors`, or anything that `torch.load(weights_only=True)` reads.

    Raises ConfigError, of this key, for no such file, a damaged one, and one that holds other objects than weights.
    """
    path = Path(place).expanduser()
    if not path.is_file():
        raise ConfigError(key, place, f"no such file ({path.resolve()})")
    try:
        state = load_file(path) if path.suffix == ".safetensors" else torch.load(path, "cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        found = REASON.search(str(error))
        reason = f" ({found.group(0)})" if found else ""
        allowed = (
            f"not a file of weights that can be read without running code from it{reason}: it is damaged, or holds "
            "other objects than tensors, which weights_only=True refuses. Store the weights alone: "
            "torch.save(network.state_dict(), FILE)"
        )
        raise ConfigError(key, place, allowed) from error
    except (SafetensorError, OSError, RuntimeError, ValueError, EOFError, KeyError, TypeError) as error:
        raise ConfigError(key, place, f"not a file of weights, or damaged: {first_line(error)}") from error
    return _state_dict(state, key, place)


def _state_dict(content: Any, key: str, place: str) -> dict[str, Tensor]:
    inside = [content] + [content[name] for name in WRAPPINGS if isinstance(content, Mapping) and name in content]
    for each in inside:
        if isinstance(each, Mapping) and each and all(isinstance(value, Tensor) for value in each.values()):
            return dict(each)
    raise ConfigError(key, place, f"has to hold a state_dict: tensors by name, by itself or as {', '.join(WRAPPINGS)}")


def without_prefix(state: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors below the prefix under which most of the wanted names are found, such as `module.`; all as they are
    where the names fit best so.
    """
    prefixes = {key[: -len(name)] for name in wanted for key in state if key.endswith(f".{name}")}
    best = max(["", *sorted(prefixes)], key=lambda prefix: sum(prefix + name in state for name in wanted))
    return {key.removeprefix(best): value for key, value in state.items() if key.startswith(best)}


def fitted(
    state: Mapping[str, Tensor], wanted: Mapping[str, Tensor], *, skip: Sequence[str] = (), key: str, value: object
) -> dict[str, Tensor]:
    """The tensors that go into a network, each of the shape that it has there.

    Args:
        state: what a file holds.
        wanted: the network's own state.
        skip: globs over names, of the network or the file, that are left out: the network keeps its own.
        key: of the configuration, for errors.
        value: what it is set to.

    Raises:
        ConfigError: names that are missing or unexpected, with the nearest ones, and shapes that differ; a glob that
            matches nothing.
    """
    for glob in skip:
        if not any(fnmatchcase(name, glob) for name in (*wanted, *state)):
            raise ConfigError("model.init_skip", glob, "matches no name, neither of the network nor of the file")

    def counts(name: str) -> bool:
        return not any(fnmatchcase(name, glob) for glob in skip)

    given = {name: each for name, each in state.items() if counts(name)}
    needed = {name: each for name, each in wanted.items() if counts(name)}
    missing = [name for name in needed if name not in given and not name.endswith(COUNTERS)]
    unexpected = [name for name in given if name not in needed]
    misshapen = [name for name in needed if name in given and given[name].shape != needed[name].shape]
    problems = [
        *_listed("missing", [f"{name}{_nearest(name, unexpected)}" for name in missing]),
        *_listed("unexpected", [f"{name}{_nearest(name, missing)}" for name in unexpected]),
        *_listed("of another shape", [_shapes(name, given[name], needed[name]) for name in misshapen]),
    ]
    if problems:
        left = sorted({name.rpartition(".")[0] for name in [*misshapen, *missing, *unexpected]} - {""})
        hint = f"; model.init_skip=['{left[0]}.*'] leaves such out" if left and key == "model.init" else ""
        raise ConfigError(key, value, f"weights of this network: {'; '.join(problems)}{hint}")
    return {name: given[name] for name in needed if name in given}


def _listed(what: str, names: Sequence[str]) -> list[str]:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return [f"{len(names)} {what}: {', '.join(names[:SHOWN])}{more}"] if names else []


def _nearest(name: str, others: Sequence[str]) -> str:
    close = difflib.get_close_matches(name, others, n=1)
    return f" (nearest: {close[0]})" if close else ""


def _shapes(name: str, given: Tensor, needed: Tensor) -> str:
    return f"{name} (file {[*given.shape]}, network {[*needed.shape]})"
