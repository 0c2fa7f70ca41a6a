"""Which keys a configuration class accepts, in which releases."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache, lru_cache
from types import MappingProxyType

from msgspec import Struct

from vramlint.catalog.lines import lines
from vramlint.catalog.versions import NEWEST, Version, at_least, version_of
from vramlint.job import Libraries

_FILE = "keys.tsv"

_TRL_TRAINERS = (
    "SFTConfig",
    "DPOConfig",
    "ORPOConfig",
    "CPOConfig",
    "KTOConfig",
    "BCOConfig",
    "GRPOConfig",
    "RLOOConfig",
    "RewardConfig",
    "PRMConfig",
    "PPOConfig",
    "OnlineDPOConfig",
    "XPOConfig",
    "NashMDConfig",
    "GKDConfig",
)

LIBRARIES = MappingProxyType(
    {
        "TrainingArguments": "transformers",
        "Seq2SeqTrainingArguments": "transformers",
        "BitsAndBytesConfig": "transformers",
        "LoraConfig": "peft",
        "ModelConfig": "trl",
        **dict.fromkeys(_TRL_TRAINERS, "trl"),
        "deepspeed": "deepspeed",
    }
)
"""Every vocabulary with the library that defines it."""

_BASES = MappingProxyType(
    {"Seq2SeqTrainingArguments": "TrainingArguments", **dict.fromkeys(_TRL_TRAINERS, "TrainingArguments")}
)

SCRIPT_ARGUMENTS = frozenset(
    (
        "dataset_name",
        "dataset_config",
        "dataset_train_split",
        "dataset_test_split",
        "dataset_streaming",
        "datasets",
        "streaming",
        "test_split_size",
        "gradient_checkpointing_use_reentrant",
        "ignore_bias_buffers",
        "env",
    )
)
"""Keys of a recipe that TRL's parser takes beside those of a trainer and of ModelConfig (trl 0.9 to 1.16,
ScriptArguments and DatasetMixtureConfig of scripts/utils.py, TrlParser.parse_args_and_config)."""


_SFT_ARGUMENTS = (
    "dataset_text_field",
    "packing",
    "max_seq_length",
    "infinite",
    "num_of_sequences",
    "chars_per_token",
    "dataset_num_proc",
    "dataset_batch_size",
    "neftune_noise_alpha",
    "model_init_kwargs",
    "dataset_kwargs",
    "eval_packing",
)
_DPO_ARGUMENTS = (
    "beta",
    "label_smoothing",
    "loss_type",
    "label_pad_token_id",
    "padding_value",
    "truncation_mode",
    "max_length",
    "max_prompt_length",
    "max_target_length",
    "is_encoder_decoder",
    "disable_dropout",
    "generate_during_eval",
    "precompute_ref_log_probs",
    "dataset_num_proc",
    "model_init_kwargs",
    "ref_model_init_kwargs",
    "model_adapter_name",
    "ref_adapter_name",
    "reference_free",
    "force_use_ref_model",
)
DROPPED = MappingProxyType(
    {
        "Trainer": ("transformers", {"tokenizer": "5.0"}),
        "Seq2SeqTrainer": ("transformers", {"tokenizer": "5.0"}),
        "SFTTrainer": ("trl", {"tokenizer": "0.16", **dict.fromkeys(_SFT_ARGUMENTS, "0.13")}),
        "DPOTrainer": ("trl", {"tokenizer": "0.16", **dict.fromkeys(_DPO_ARGUMENTS, "0.13")}),
    }
)
"""Of trainers the library, and arguments of theirs with the first release that lacks them (transformers 5.0.0
trainer.py and trainer_seq2seq.py; trl 0.12.2, 0.13.0, 0.15.2 and 0.16.0 trainer/{sft,dpo}_trainer.py)."""


class KeyHistory(Struct, frozen=True):
    """The life of one key."""

    vocabulary: str
    key: str
    since: str
    """The first release that has it; empty when the oldest release read has it."""
    until: str
    """The first release that lacks it; empty while the newest has it."""
    renamed_to: str
    """The key that took over."""
    type: str
    """The annotation in the newest release that has the key."""

    def exists_in(self, version: Version) -> bool:
        """Whether release `version` accepts the key."""
        if self.since and not at_least(version, version_of(self.since)):
            return False
        return not self.until or not at_least(version, version_of(self.until))


def same_type(one: str, other: str) -> bool:
    """Whether two annotations allow the same values, a missing one aside: `int | None`, `Optional[int]` and `int`."""
    return _plain_type(one) == _plain_type(other) and bool(one)


def _plain_type(annotation: str) -> frozenset[str]:
    inner = annotation.removeprefix("Optional[").removeprefix("Union[")
    inner = inner.removesuffix("]") if inner != annotation else inner
    words = (word.strip() for word in inner.replace("|", ",").split(","))
    return frozenset(word for word in words if word not in ("None", "NoneType"))


def lineage(vocabulary: str) -> Iterator[tuple[str, str]]:
    """(library, class) of a vocabulary and of what it inherits from, nearest first."""
    owner = vocabulary
    while owner in LIBRARIES:
        yield LIBRARIES[owner], owner
        owner = _BASES.get(owner, "")


def keys(vocabulary: str, version: Version) -> frozenset[str]:
    """The keys that class `vocabulary` (or `deepspeed`: dotted paths) defines itself in release `version`."""
    return frozenset(history.key for history in histories(vocabulary) if history.exists_in(version))


@lru_cache(maxsize=256)
def accepted_keys(vocabulary: str, libraries: Libraries = NEWEST) -> frozenset[str]:
    """The keys that class `vocabulary` accepts, inherited ones included, under these releases."""
    found: frozenset[str] = frozenset()
    for library, owner in lineage(vocabulary):
        found |= keys(owner, getattr(libraries, library))
    return found


def key_history(vocabulary: str, key: str) -> KeyHistory | None:
    """The life of `key` in `vocabulary` or in what it inherits from; None when no release read has it."""
    for _, owner in lineage(vocabulary):
        for history in histories(owner, key):
            return history
    return None


@cache
def trl_keys() -> frozenset[str]:
    """Keys that a class of TRL has, or had, and TrainingArguments never."""
    classes = [name for name, library in LIBRARIES.items() if library == "trl"]
    plain = {history.key for name in ("TrainingArguments", "Seq2SeqTrainingArguments") for history in histories(name)}
    return frozenset(history.key for name in classes for history in histories(name)) - plain


def histories(vocabulary: str, *key: str) -> Iterator[KeyHistory]:
    """The lives of all keys that `vocabulary` itself ever had, or of the one named."""
    yield from _deepspeed(*key) if vocabulary == "deepspeed" else _of_class(vocabulary, *key)


@lru_cache(maxsize=4096)
def _of_class(vocabulary: str, *key: str) -> tuple[KeyHistory, ...]:
    return tuple([KeyHistory(*columns) for columns in lines(_FILE).starting_with(vocabulary, *key)])


def _deepspeed(*key: str) -> Iterator[KeyHistory]:
    from vramlint.catalog.deepspeed import all_deepspeed_keys, find_deepspeed_key

    rows = [row for name in key if (row := find_deepspeed_key(name))] if key else all_deepspeed_keys()
    for row in rows:
        since = "" if row.since == "0.1.0" else row.since
        yield KeyHistory("deepspeed", row.key, since, row.removed_in, "", row.type)
