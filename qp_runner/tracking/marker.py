"""How much of a run MLflow has: a file in the run's folder, so that any later process can go on from there."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

from qp_runner.tracking.records import Record, write_json

FILE = "mlflow.json"


@dataclass
class Marker:
    """How much of a run MLflow has.

    Attributes:
        id: the attempt's, as in run.json.
        store: the `store_key` of the store that has it.
        run_id: MLflow's identifier; empty as long as the run may not have been made.
        end: the run's end, as `Record.end` gives it, if MLflow has everything until then.
        rows: bytes of metrics.csv that MLflow has.
        files: size and time of change (ns) of the artifacts that MLflow has.
    """

    id: str = ""
    store: str | None = None
    run_id: str = ""
    end: str = ""
    rows: int = 0
    files: dict[str, list[int]] = field(default_factory=dict)

    @classmethod
    def load(cls, folder: Path) -> "Marker":
        """The marker in a run's folder; an empty one where there is none that can be read."""
        try:
            return cls(**json.loads((folder / FILE).read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return cls()

    def save(self, folder: Path) -> None:
        """Writes mlflow.json."""
        write_json(folder / FILE, asdict(self))

    def is_of(self, record: Record) -> bool:
        """Whether it tells of this attempt in this store."""
        return (self.id, self.store) == (record.id, record.store)

    def has_all(self, record: Record) -> bool:
        """Whether MLflow has everything of a run that is over."""
        return self.is_of(record) and self.end == record.end != ""
