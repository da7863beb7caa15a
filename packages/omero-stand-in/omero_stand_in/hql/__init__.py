"""HQL over the object graph: text → typed tree → evaluation."""

from .execute import Result, run
from .parser import HqlSyntaxError, parse

__all__ = ["HqlSyntaxError", "Result", "parse", "run"]
