"""How building a model says that it has a variant which is not followed."""

from __future__ import annotations


class NotFollowedError(ValueError):
    """The model or the adapter is known, but not this variant of it; the message names the variant."""
