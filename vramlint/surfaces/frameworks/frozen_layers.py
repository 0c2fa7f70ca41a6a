"""Training a few layers of a model: which parameters that freezes."""

from __future__ import annotations

from vramlint.catalog.models import find_model

_COUNTS = ("num_hidden_layers", "num_layers", "n_layer")


def trained_layers(model: str, count: int) -> str:
    """A pattern of the parameters that stay frozen while some layers train; empty where nobody knows how many it has.

    Args:
        model: its id.
        count: so many of the last layers train; of the first ones where it is negative.
    """
    row = find_model(model) if model else None
    text = row.config.get("text_config") if row else None
    config = {**(row.config if row else {}), **(text if isinstance(text, dict) else {})}
    layers = next((value for key in _COUNTS if isinstance(value := config.get(key), int)), None)
    if layers is None:
        return ""
    trained = range(max(0, layers - count), layers) if count > 0 else range(min(-count, layers))
    numbers = "|".join(map(str, trained))
    return rf"^(?!.*\.(?:{numbers})\.)"
