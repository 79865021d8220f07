"""The configuration: what a command line asks for, composed by Hydra, checked, as types."""

from qp_runner.config.schema import Config
from qp_runner.config.search import RangeSection, SearchSection
from qp_runner.config.section import Factory, Section
from qp_runner.config.validation import validate

__all__ = ["Config", "Factory", "RangeSection", "SearchSection", "Section", "validate"]
