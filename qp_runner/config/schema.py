"""The configuration of a run as types."""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, field_serializer, field_validator

from qp_runner.config.search import SearchSection
from qp_runner.config.section import Factory, Section
from qp_runner.errors import ConfigError
from qp_runner.masking import masked
from qp_runner.schedule import Schedule, Time

Quantile = Annotated[float, Field(ge=0.0, le=1.0)]


class TaskSection(Section):
    """What is learned: see `qp_runner.tasks`."""

    name: str
    factory: Factory


class DataSection(Section):
    """Where samples come from. A data set may have further keys (`split`, `subset`, ...)."""

    model_config = ConfigDict(extra="allow", frozen=True, strict=True)
    name: str
    root: str | None = None
    factory: Factory
    mixup: float = Field(default=0.0, ge=0)
    cutmix: float = Field(default=0.0, ge=0)


Globs = list[str] | Literal["auto"]


class SitesSection(Section):
    """Globs over parameters and calls, or `auto` for all of them; `unpruned` sites are quantized but never pruned.

    `unpruned: auto` is the first layer and the last one with what they write; the default beside `auto`, else none.
    `bits` are by glob, in place of an event's; on a command line '+model.sites.bits={conv*:4,fc:8}', since Hydra takes
    no quoted keys. Weights that are not trained are left alone unless `frozen`.
    """

    weight: Globs = "auto"
    activation: Globs = "auto"
    unpruned: Globs | None = None
    exclude: list[str] = Field(default=[])
    bits: dict[str, Annotated[int, Field(ge=2, le=16)]] = Field(default={})
    frozen: bool = False

    @property
    def spares_the_ends(self) -> bool:
        """Whether what is not pruned is chosen automatically."""
        return self.unpruned == "auto" or (self.unpruned is None and "auto" in (self.weight, self.activation))


class ModelSection(Section):
    """A task's networks by name, the weights they start from, and what of them is compressed.

    Attributes:
        init: a file of weights (state_dict in .pt, .pth or .safetensors), or a run's folder or model.safetensors.
        init_compression: of a run, take masks and scales too.
        init_skip: globs over names of weights that are left as they are, such as a head for other classes.
        weights: published ones of torchvision or timm, in place of `init`.
    """

    name: str
    networks: dict[str, Factory] = Field(min_length=1)
    sites: SitesSection = SitesSection()
    init: str | None = None
    init_compression: bool = False
    init_skip: list[str] = Field(default=[])
    weights: str | None = None

    @property
    def starts_trained(self) -> bool:
        """Whether networks start from given weights."""
        return self.init is not None or self.weights is not None

    def check(self) -> None:
        """Raises ConfigError for keys that do not go together."""
        if self.init is not None and self.weights is not None:
            raise ConfigError("model.weights", self.weights, "null beside model.init")
        if self.init is None and self.init_compression:
            raise ConfigError("model.init_compression", True, "needs model.init: a run's folder or model.safetensors")
        if not self.starts_trained and self.init_skip:
            raise ConfigError("model.init_skip", self.init_skip, "needs model.init or model.weights")

    @field_validator("sites", mode="before")
    @classmethod
    def _auto(cls, value: object) -> object:
        return {} if value == "auto" else value


class ScheduleSection(Section):
    """The events by name; `qp_runner.schedule` checks them."""

    events: dict[str, Any] = Field(default={})


class CalibrationSection(Section):
    """The training samples from which activation masks and scales are computed."""

    samples: int = Field(default=256, ge=1)
    batch_size: int = Field(default=64, ge=1)


class CompressSection(Section):
    """How masks and scales are computed, and which footprint performance density divides by."""

    scale: Literal["power_of_two", "float"] = "power_of_two"
    granularity: Literal["element", "channel"] = "element"
    quantiles: Annotated[list[Quantile], Field(min_length=2, max_length=2)] | None = None
    calibration: CalibrationSection = CalibrationSection()
    footprint: Literal["ideal", "stored", "published"] = "ideal"

    @field_validator("quantiles")
    @classmethod
    def _rising(cls, value: list[float] | None) -> list[float] | None:
        if value is not None and value[0] >= value[1]:
            raise ValueError("two quantiles in [0, 1], the lower one first")
        return value


class LearningRateSection(Section):
    """A torch scheduler and how often it steps. Values `total_steps` and `steps_per_epoch` are filled in."""

    interval: Literal["epoch", "step"] = "epoch"
    factory: Factory


class EarlyStopSection(Section):
    """When a run ends before its time; never without `patience`."""

    patience: int | None = Field(default=None, ge=1)
    min_delta: float = Field(default=0.0, ge=0)


class DistillationSection(Section):
    """How much a network learns from `trainer.teacher`."""

    temperature: float = Field(default=4.0, gt=0)
    weight: float = Field(default=0.9, ge=0, le=1)
    network: Factory | None = None


class TrainerSection(Section):
    """How a run is trained."""

    epochs: int = Field(ge=0)
    batch_size: int = Field(ge=1)
    optimizer: Factory
    lr_schedule: LearningRateSection | None = None
    evaluate_every: int = Field(default=1, ge=1)
    executor: Literal["auto", "eager", "compile", "graph"] = "auto"
    precision: Literal["float32", "tf32", "bfloat16"] = "float32"
    channels_last: bool | Literal["auto"] = "auto"
    device: str = Field(default="auto", pattern=r"^(auto|cpu|cuda(:\d+)?|mps)$")
    threads: int | None = Field(default=None, ge=1)
    deterministic: bool = True
    progress: bool = True
    save_model: bool = True
    grad_clip: float | None = Field(default=None, gt=0)
    warmup: str | None = None
    accumulate: int = Field(default=1, ge=1)
    ema: float | None = Field(default=None, gt=0, lt=1)
    early_stop: EarlyStopSection = EarlyStopSection()
    teacher: str | None = None
    distillation: DistillationSection = DistillationSection()

    @field_validator("warmup")
    @classmethod
    def _is_time(cls, value: str | None) -> str | None:
        if value is not None:
            try:
                Time.parse(value, key="trainer.warmup")
            except ConfigError as error:
                raise ValueError(error.allowed) from error
        return value


class TrackingSection(Section):
    """Where records go. Plain files are always written; `mlflow` adds a store at `uri` (null: below results)."""

    kind: Literal["mlflow", "none"]
    uri: str | None = None

    @field_serializer("uri")
    def _masked(self, uri: str | None) -> str | None:
        return None if uri is None else masked(uri)


class CheckpointSection(Section):
    """Stored states that runs share and resume from: before every event and every `every` steps."""

    enabled: bool = True
    every: int | None = Field(default=1000, ge=1)
    limit_gb: float = Field(default=10.0, gt=0)
    fresh: bool = False

    @field_validator("limit_gb", mode="before")
    @classmethod
    def _number(cls, value: object) -> object:
        return float(value) if isinstance(value, int) and not isinstance(value, bool) else value


class OnnxSection(Section):
    """How an ONNX file computes: see `qp_runner.export`."""

    mode: Literal["exact", "int8"] = "exact"
    branches: bool = False
    float_bias: bool = True
    signed_weights: bool = False


class ExportSection(Section):
    """Files that a run ends with, beside its own."""

    formats: list[Literal["packed", "onnx"]] = Field(default=[])
    onnx: OnnxSection = OnnxSection()


class Config(Section):
    """A whole run."""

    seed: int = Field(ge=0, lt=2**32)
    results: str
    task: TaskSection
    data: DataSection
    model: ModelSection
    schedule: ScheduleSection
    compress: CompressSection
    trainer: TrainerSection
    tracking: TrackingSection
    checkpoint: CheckpointSection = CheckpointSection()
    export: ExportSection = ExportSection()
    search: SearchSection | None = None

    def store_uri(self) -> str | None:
        """The MLflow store's URI, or None. SQLite paths are absolute, independent of the working directory."""
        if self.tracking.kind == "none":
            return None
        return self.tracking.uri or f"sqlite:///{Path(self.results).resolve() / 'mlflow.db'}"

    def events(self) -> Schedule:
        """The schedule; raises ConfigError where it breaks a rule."""
        return Schedule.from_config(self.schedule.events)
