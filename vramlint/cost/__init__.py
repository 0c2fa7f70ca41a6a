"""What a step computes and moves, how long that takes at the least, and how much longer a changed step takes."""

from vramlint.cost.price import cost_of
from vramlint.cost.slowdown import middle, slowdown

__all__ = ["cost_of", "middle", "slowdown"]
