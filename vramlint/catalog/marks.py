"""The keys that tell a vocabulary, and words of paths that hint at it: what `surfaces/recognising.py` weighs."""

from __future__ import annotations

from functools import cache
from typing import NamedTuple


class Marks(NamedTuple):
    """How files of one vocabulary are told."""

    kind: str
    """Kind of the sheets: the name of a framework, or one of `surfaces/kinds.py`."""
    own: tuple[str, ...]
    """Keys that no other vocabulary has; dotted for nested tables, `*` for a table of any name."""
    shared: tuple[str, ...] = ()
    """Keys that others have too."""
    paths: tuple[str, ...] = ()
    """Parts of a path, in lower case; `/` begins a folder or name."""
    never: tuple[str, ...] = ()
    """Keys that rule it out."""


MARKS: tuple[Marks, ...] = (
    Marks(
        "axolotl",
        (
            "base_model",
            "sequence_len",
            "sample_packing",
            "pad_to_sequence_len",
            "datasets.type",
            "val_set_size",
            "special_tokens.pad_token",
            "flash_optimum",
            "lora_target_linear",
            "dataset_prepared_path",
            "chat_template_jinja",
        ),
        ("micro_batch_size", "adapter", "load_in_4bit", "load_in_8bit", "lora_r", "num_epochs", "wandb_project", "rl"),
        ("axolotl",),
    ),
    Marks(
        "peft",
        ("peft_type", "run_info.peft_config"),
        (
            "optimizer_kwargs",
            "optimizer_kwargs.lr",
            "batch_size_eval",
            "use_gc",
            "grad_norm_clip",
            "autocast_adapter_dtype",
            "base_model_name_or_path",
            "inference_mode",
        ),
        ("training_params.json", "adapter_config.json"),
    ),
    Marks(
        "gpt-neox",
        tuple(
            spelled
            for key in (
                "pipe_parallel_size",
                "model_parallel_size",
                "no_weight_tying",
                "pos_emb",
                "gpt_j_residual",
                "output_layer_parallelism",
                "attention_config",
                "scaled_upper_triang_masked_softmax_fusion",
                "bias_gelu_fusion",
                "checkpoint_factor",
                "keep_last_n_checkpoints",
                "distributed_backend",
                "lr_decay_iters",
                "train_data_paths",
                "merge_file",
                "synchronize_each_layer",
            )
            for spelled in (key, key.replace("_", "-"))
        ),
        (
            "num_layers",
            "num-layers",
            "train_micro_batch_size_per_gpu",
            "data_path",
            "data-path",
            "vocab_file",
            "vocab-file",
        ),
        ("neox",),
    ),
    Marks(
        "torchtune",
        (
            "model._component_",
            "tokenizer._component_",
            "checkpointer._component_",
            "dataset._component_",
            "optimizer._component_",
            "loss._component_",
            "policy_model._component_",
            "metric_logger._component_",
            "profiler._component_",
            "quantizer._component_",
        ),
        (
            "enable_activation_checkpointing",
            "enable_activation_offloading",
            "optimizer_in_bwd",
            "log_peak_memory_stats",
            "max_steps_per_epoch",
            "resume_from_checkpoint",
        ),
        ("torchtune",),
    ),
)
"""Every vocabulary with marks; the one with the most evidence wins, the first of equals."""


@cache
def own_words() -> frozenset[bytes]:
    """The last parts of the keys that one vocabulary alone has."""
    return frozenset(key.rpartition(".")[2].encode() for marks in MARKS for key in marks.own)


@cache
def shared_words() -> frozenset[bytes]:
    """The last parts of the keys that several have."""
    return frozenset(key.rpartition(".")[2].encode() for marks in MARKS for key in marks.shared)
