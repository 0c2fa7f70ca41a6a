"""torchtitan's pipelines (torchtitan 0.0.1 to 0.2.2 distributed/pipeline_parallel.py).

The keys stood in `experimental` before 0.1. A list of modules for each stage took the place of split points in 0.2.
"""

from __future__ import annotations

from vramlint.surfaces.frameworks.framework import Config
from vramlint.surfaces.frameworks.torchtitan_models import sizes_of
from vramlint.values import Items, Scalar, Value

BETWEEN, WITHIN = "|", " "
"""Between the stages of a layout, and between the modules of one."""
_ROWS = (
    ("pipeline_stage_layers", "pipeline_parallel_layers_per_stage"),
    ("pipeline_micro_batch_size", "pipeline_parallel_microbatch_size"),
    ("pipeline_micro_batches", "pipeline_parallel_microbatches"),
    ("pipeline_embedding_layers", "pipeline_parallel_first_stage_less_layers"),
    ("pipeline_head_layers", "pipeline_parallel_last_stage_less_layers"),
)


def stages(config: Config) -> None:
    """How the layers are cut into stages, and in which order these run."""
    file = _written(config, "pipeline_parallel_schedule_csv")
    if config.text(file):
        config.state("pipeline_schedule", f"of {config.text(file)}", file)
    else:
        schedule = _written(config, "pipeline_parallel_schedule")
        config.state("pipeline_schedule", config.text(schedule) or "1F1B", schedule)
    for fact, key in _ROWS:
        name = _written(config, key)
        number = config.integer(name)
        if number is not None:
            config.state(fact, number, name)
    _layout(config)


def _written(config: Config, key: str) -> str:
    """The key in the table in which it is written."""
    names = [f"{table}.{key}" for table in ("parallelism", "experimental")]
    return next((name for name in names if config.given(name)), names[0])


def _layout(config: Config) -> None:
    key = "parallelism.module_fqns_per_model_part"
    written = config.value(key)
    parts = [_names(part) for part in written.values] if isinstance(written, Items) else []
    if not parts:
        key = _written(config, "pipeline_parallel_split_points")
        points = config.words(key)
        sizes = sizes_of(config.text("model.name"), config.text("model.flavor")) if points else None
        layers = sizes.get("n_layers") if sizes is not None else None
        parts = split(points, layers) if points and isinstance(layers, int) else []
    if parts:
        config.state("pipeline_layout", BETWEEN.join(map(WITHIN.join, parts)), key)


def _names(part: Value) -> list[str]:
    values = part.values if isinstance(part, Items) else ()
    return [str(value.value) for value in values if isinstance(value, Scalar)]


def split(points: tuple[str, ...], layers: int) -> list[list[str]]:
    """The modules of every stage of a model of so many layers, each stage from one of the `points` on."""
    found: list[list[str]] = [[]]
    for name in ("tok_embeddings", *(f"layers.{number}" for number in range(layers)), "norm", "output"):
        if name in points:
            found.append([])
        found[-1].append(name)
    return found
