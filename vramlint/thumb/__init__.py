"""The rules of thumb that people know, shown beside the simulated figure."""

from vramlint.thumb.apply import Dimensions, ThumbResult, applicable, dimensions, figures
from vramlint.thumb.rules import RULES, Rule

__all__ = ["RULES", "Dimensions", "Rule", "ThumbResult", "applicable", "dimensions", "figures"]
