"""Models that see or hear: their towers and projectors, which frameworks leave frozen unless they are told otherwise.

Names of modules: llamafactory 0.9.5 model/model_utils/visual.py, ms-swift 4.5 swift/model/model_arch.py.
"""

from __future__ import annotations

from collections.abc import Iterator

from vramlint.catalog.models import find_model
from vramlint.surfaces.frameworks.framework import Config

_PARTS = ("vision_config", "audio_config", "thinker_config")
"""Keys of config.json that only such models have."""
_TOWERS = r"vision_tower|vision_model|visual|audio_tower|vpm|apm|image_newline"
_PROJECTORS = r"multi_modal_projector|mm_projector|merger|aligner|resampler|embed_vision|embed_audio|mlp1|connector"
_LANGUAGE = r"language_model|lm_head"


def is_multimodal(model: str) -> bool:
    """Whether a model of the catalog has a tower beside its language model."""
    row = find_model(model) if model else None
    return row is not None and any(part in row.config for part in _PARTS)


def freeze_parts(config: Config, model: str, *, towers: str, projectors: str, language: str) -> None:
    """What stays frozen of a model with towers, in full tuning and under adapters on all linear layers.

    Args:
        config: of the run.
        model: the key of the model.
        towers: the key of the switch that freezes the towers.
        projectors: that of the switch for what leads from them to the language model.
        language: that of the switch for the language model.
    """
    if not is_multimodal(config.text(model)):
        return
    tuning = config.fact("tuning")
    keys = (towers, projectors, language)
    frozen = tuple(_frozen(*[config.on(key) for key in keys]))
    if tuning is not None and tuning.value == "full" and frozen:
        config.state("frozen_parameters", tuple([rf"(?:^|\.)(?:{names})\.{but}" for names, but in frozen]), *keys)
    targets = config.fact("lora_target_modules")
    if targets is not None and targets.value == "all-linear" and frozen:
        config.state(
            "lora_exclude_modules", "|".join(rf"(?:.*\.)?(?:{names})(?:\.{but}.*)?" for names, but in frozen), *keys
        )


def _frozen(towers: bool, projectors: bool, language: bool) -> Iterator[tuple[str, str]]:
    """Names of modules that are frozen, and what does not follow them."""
    if towers:
        yield _TOWERS, "" if projectors else rf"(?!.*(?:{_PROJECTORS}))"
    if projectors:
        yield _PROJECTORS, ""
    if language:
        yield _LANGUAGE, ""
