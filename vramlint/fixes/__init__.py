"""Ways out: changes to a job, and the cheapest set of them that fits."""

from vramlint.fixes.plan import plan

__all__ = ["plan"]
