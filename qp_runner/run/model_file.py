"""The file `model.safetensors` that a run leaves: weights, masks, scales and bits, and the configuration they are of.

A safetensors file holds tensors by name and a header of text, so reading one can't run code. Names are:

- a network's own names of Parameters and buffers, such as `conv1.weight`, so that other programs can read the weights;
  where a task has several networks, each name begins with its network's. They are the latent weights: what a network
  computes with is Q(M ⊙ w). Tied weights are there under each of their names.
- `mask:<site>`, bool, true keeps, for sites that are pruned; `scale:<site>`, float32, for every site.
- `buffer:<name>` for buffers that a network leaves out of its state_dict.

The header's entry `qp_runner` is JSON: see `About`.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from qp_runner.compress import Compressor, SiteState, site_states
from qp_runner.data import ImagePreprocessing
from qp_runner.errors import ConfigError
from qp_runner.training.checkpoint_file import write

NAME = "model.safetensors"
HEADER = "qp_runner"
MASK, SCALE, BUFFER = "mask:", "scale:", "buffer:"
FORMAT = 1


@dataclass(frozen=True)
class About:
    """What a file says of its tensors.

    Attributes:
        config: the resolved configuration.
        composed: the same as it was composed, interpolations unresolved.
        bits: by site; 32 where nothing is quantized.
        networks: names of all networks; the first part of the tensors' names if they are several.
        compressible: names of those that have sites.
        given: by network, what it was built with in addition to the configuration; None if that is no plain data.
        calls: how the compressible networks are called for one sample and for two (see `example_inputs`); None if that
            is no plain data.
        frozen: by network, the Parameters that were not trained.
        preprocessing: an `ImagePreprocessing`; None if there is none.
        classes: names.
    """

    config: dict[str, Any]
    composed: dict[str, Any]
    bits: dict[str, int]
    networks: list[str]
    compressible: list[str]
    given: dict[str, dict[str, Any]] | None = None
    calls: dict[str, list[dict[str, Any]]] | None = None
    frozen: dict[str, list[str]] = field(default_factory=dict)
    preprocessing: dict[str, Any] | None = None
    classes: list[str] = field(default_factory=list)
    format: int = FORMAT


@dataclass(frozen=True)
class ModelFile:
    """A file that was read.

    Attributes:
        weights: by network, what `load_state_dict` takes.
        buffers: by network, the buffers that are in no state_dict.
        sites: by path.
    """

    path: Path
    about: About
    weights: dict[str, dict[str, Tensor]]
    buffers: dict[str, dict[str, Tensor]]
    sites: dict[str, SiteState]

    @property
    def preprocessing(self) -> ImagePreprocessing | None:
        """What makes a network's input of an image."""
        record = self.about.preprocessing
        return None if record is None else ImagePreprocessing.from_record(record)


def save_model_file(path: Path, networks: Mapping[str, nn.Module], compressor: Compressor, about: About) -> None:
    """Writes the file, whole or not at all. Raises OSError."""
    tensors: dict[str, Tensor] = {}
    for prefix, network in _prefixed(networks):
        state = {name: value for name, value in network.state_dict().items() if isinstance(value, Tensor)}
        tensors |= {prefix + name: value for name, value in state.items()}
        others = {name: value for name, value in network.named_buffers() if name not in state}
        tensors |= {BUFFER + prefix + name: value for name, value in others.items()}
    for site, known in site_states(compressor).items():
        tensors[SCALE + site] = known.scale
        if known.mask is not None:
            tensors[MASK + site] = known.mask
    own = {name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()}
    write(path, save(own, {"format": "pt", HEADER: json.dumps(asdict(about), ensure_ascii=False)}))


def read_model_file(place: Path, *, key: str) -> ModelFile:
    """A run's file, from its path or the run's folder. Raises ConfigError, of this key, for anything else."""
    path = place / NAME if place.is_dir() else place
    if not path.is_file():
        raise ConfigError(key, place, f"the folder of a finished run, or its {NAME}; there is no {path.resolve()}")
    try:
        with safe_open(path, "pt") as file:
            header = (file.metadata() or {}).get(HEADER)
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no dictionary
        if header is None:
            raise ConfigError(key, place, "a file that a run has left; this one has weights, but no configuration")
        about = About(**json.loads(header))
    except (SafetensorError, OSError, ValueError, TypeError) as error:
        if isinstance(error, ConfigError):
            raise
        raise ConfigError(key, place, f"a {NAME} that can be read ({error})") from error
    if about.format != FORMAT:
        raise ConfigError(key, place, f"a file of format {FORMAT}; this is {about.format}, of another version")
    return _sorted(path, about, tensors)


def is_special(name: str) -> bool:
    """Whether a name in a file is none of a network's Parameters and buffers."""
    return name.startswith((MASK, SCALE, BUFFER))


def _sorted(path: Path, about: About, tensors: Mapping[str, Tensor]) -> ModelFile:
    plain = {name: value for name, value in tensors.items() if not is_special(name)}
    hidden = {name.removeprefix(BUFFER): value for name, value in tensors.items() if name.startswith(BUFFER)}
    sites = {
        site: SiteState(tensors.get(MASK + site), tensors[SCALE + site], bits) for site, bits in about.bits.items()
    }
    return ModelFile(path, about, _by_network(about, plain), _by_network(about, hidden), sites)


def _by_network(about: About, tensors: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    if len(about.networks) == 1:
        return {about.networks[0]: dict(tensors)}
    return {
        each: {name.removeprefix(f"{each}."): t for name, t in tensors.items() if name.startswith(f"{each}.")}
        for each in about.networks
    }


def _prefixed(networks: Mapping[str, nn.Module]) -> list[tuple[str, nn.Module]]:
    return [(f"{name}." if len(networks) > 1 else "", network) for name, network in networks.items()]
