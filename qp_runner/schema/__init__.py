"""The configuration as types."""

from qp_runner.schema.config import Config
from qp_runner.schema.search import RangeSection, SearchSection
from qp_runner.schema.section import Factory, Section
from qp_runner.schema.validation import validate

__all__ = ["Config", "Factory", "RangeSection", "SearchSection", "Section", "validate"]
