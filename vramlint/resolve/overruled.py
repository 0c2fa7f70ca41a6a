"""What one file of a run says in vain because of another, or against it: the Trainer, DeepSpeed, FSDP."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType

from vramlint.facts import Fact, Origin, Remark, Sheet
from vramlint.surfaces.deepspeed_types import is_validated
from vramlint.text import Place
from vramlint.values import Entry, Scalar, Table, Value

_ADAM = ("adamw_torch", "adamw_torch_fused", "adamw_hf", "adamw_apex_fused")
_SAME: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "adam": _ADAM,
        "adamw": _ADAM,
        "adagrad": ("adagrad",),
        "lion": ("lion_32bit",),
        "sgd": ("sgd",),
        "rmsprop": ("rmsprop",),
    }
)
"""Types of optimizers in a DeepSpeed JSON, in lower case, and the Trainer's `optim` that keep the same states."""

_SECTION = "activation_checkpointing"
_SAVING = ("partition_activations", "cpu_checkpointing", "contiguous_memory_optimization")
"""Keys of that section that change what is kept, where somebody calls DeepSpeed's checkpoint function."""


def trainer_remarks(own: Mapping[str, Fact], table: Table) -> Iterator[Remark]:
    """What a DeepSpeed configuration overrules of the Trainer's arguments, and what the Trainer never looks at in it.

    Args:
        own: facts of the Trainer's arguments, before the configuration is joined in.
        table: the configuration.
    """
    yield from _ignored_optimizer(own.get("optimizer"), table)
    yield from _unread_section(table)


def _ignored_optimizer(own: Fact | None, table: Table) -> Iterator[Remark]:
    """An `optim` that the JSON's optimizer takes the place of (transformers 5.23 integrations/deepspeed.py)."""
    chosen = table.get("optimizer", "type")
    if own is None or own.origin is not Origin.WRITTEN or own.place is None or not isinstance(own.value, str):
        return
    if own.key != "optim" or not isinstance(chosen, Scalar) or not isinstance(chosen.value, str):
        return
    same = _SAME.get(chosen.value.lower(), (chosen.value.lower(),))
    if own.value.lower() not in same:
        message = f"optim {own.value} has no effect: the DeepSpeed configuration's optimizer, {chosen.value}, trains"
        yield Remark("ignored-optimizer", own.key, message, own.place, vocabulary="deepspeed")


def _unread_section(table: Table) -> Iterator[Remark]:
    section = table.entry(_SECTION)
    if section is None or not isinstance(section.value, Table):
        return
    on = [entry for entry in section.value if entry.key in _SAVING and _is_on(entry)]
    place = _place(on[0]) if on else None
    if place is not None:
        verb = "has" if len(on) == 1 else "have"
        names = ", ".join(entry.key for entry in on)
        message = f"{names} {verb} no effect on this model: transformers never calls DeepSpeed's checkpoint function"
        yield Remark("unread-section", f"{_SECTION}.{on[0].key}", message, place, vocabulary="deepspeed")


def unfilled_autos(table: Table) -> Iterator[Remark]:
    """Values "auto" in a configuration that a program hands to `deepspeed.initialize` itself: nobody fills them in.

    In the sections that it validates DeepSpeed drops them, so that the default holds; elsewhere it computes with the
    word (deepspeed 0.19 runtime/config_utils.py, runtime/config.py).
    """
    found = list(_autos(table, ""))
    if not found:
        return
    fatal = [(key, place) for key, place in found if not is_validated(key)]
    key, place = (fatal or found)[0]
    names = ", ".join(name for name, _ in (fatal or found))
    effect = "DeepSpeed takes the word for a value" if fatal else "DeepSpeed takes its own default"
    message = (
        f'"auto" of {names} is left as it is: the Trainer and Accelerate fill it in, this program does not; {effect}'
    )
    yield Remark("unfilled-auto", key, message, place, vocabulary="deepspeed")


def _autos(table: Table, prefix: str) -> Iterator[tuple[str, Place]]:
    for entry in table:
        key = prefix + entry.key
        place = _place(entry)
        if isinstance(entry.value, Table):
            yield from _autos(entry.value, f"{key}.")
        elif place and _is_auto(entry.value) and not key.startswith(_OWN_AUTO):
            yield from [(key, place)] if key in _FILLED or not is_validated(key) else []


_FILLED = (
    "fp16.enabled",
    "bf16.enabled",
    "zero_optimization.reduce_bucket_size",
    "zero_optimization.stage3_prefetch_bucket_size",
    "zero_optimization.stage3_param_persistence_threshold",
    "zero_optimization.stage3_gather_16bit_weights_on_model_save",
)
"""Keys of validated sections for which the integration of transformers has another value than DeepSpeed's default
(transformers 5.23 integrations/deepspeed.py, trainer_config_process and trainer_config_finalize)."""
_OWN_AUTO = ("data_types.keep_in_fp32_modules", "expert_parallel.", "autotuning.", "tensor_parallel.", "compile.")
"""Keys and sections that have an "auto" of their own."""


def twice_checkpointed(own: Fact | None, other: Fact | None, *, trainer: bool) -> Iterator[Remark]:
    """FSDP's activation checkpointing beside the Trainer's own, which the Trainer refuses.

    Args:
        own: the Trainer's.
        other: that of `fsdp_config` or of Accelerate's configuration.
        trainer: the Trainer runs the loop, with FSDP.
    """
    if not trainer or own is None or other is None or own.value is not True or other.value is not True:
        return
    written = own.origin is Origin.WRITTEN and other.origin is Origin.WRITTEN
    if written and other.place is not None and own.key != other.key:
        message = (
            f"FSDP's activation checkpointing is on, and so is the Trainer's own ({own.key}): it takes one of them"
        )
        yield Remark("checkpointed-twice", other.key, message, other.place, vocabulary="fsdp")


def fsdp_beside_deepspeed(own: Mapping[str, Fact], said: Sheet, *, trainer: bool) -> Iterator[Remark]:
    """`fsdp` of the Trainer's arguments under a configuration by which accelerate makes a DeepSpeed plugin.

    The Trainer refuses them together (transformers 5.23 trainer.py, create_accelerator_and_postprocess).

    Args:
        own: the facts of the run without the configuration.
        said: Accelerate's configuration.
        trainer: the Trainer runs the loop.
    """
    fsdp, shared = own.get("fsdp"), said.get("parallelism")
    if not trainer or fsdp is None or shared is None or shared.value != "deepspeed":
        return
    if fsdp.origin is Origin.WRITTEN and fsdp.place is not None and fsdp.value not in ("", False, None):
        message = "the Trainer refuses fsdp beside DeepSpeed, which Accelerate's configuration switches on"
        yield Remark("fsdp-with-deepspeed", fsdp.key, message, fsdp.place, vocabulary="fsdp")


def _is_auto(value: Value) -> bool:
    return isinstance(value, Scalar) and value.value == "auto"


def _is_on(entry: Entry) -> bool:
    return isinstance(entry.value, Scalar) and entry.value.value is True


def _place(entry: Entry) -> Place | None:
    return entry.key_place or getattr(entry.value, "place", None)
