"""Where the frameworks declare their keys: files of the distribution, and the classes or parsers in them."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple


class Part(NamedTuple):
    """One place that declares keys."""

    path: str
    """Inside the distribution, below the folder that is on Python's path; a glob."""
    classes: tuple[str, ...] = ()
    """Classes whose annotated fields, inherited ones included, are keys; none: the options of argparse parsers."""
    prefix: str = ""
    """What stands in front of the keys, with its dot."""
    functions: tuple[str, ...] = ()
    """Functions whose parameters are keys, `setup`, or methods, `Trainer.__init__`; then nothing else is."""


class Source(NamedTuple):
    """All places of one framework."""

    distribution: str
    """On PyPI, unless the framework is used from a checkout alone."""
    parts: tuple[Part, ...]


SOURCES: Mapping[str, Source] = MappingProxyType(
    {
        "axolotl": Source(
            "axolotl",
            (Part("axolotl/utils/schemas/**/*.py", ("AxolotlInputConfig",)),),
        ),
        "fairseq": Source(
            "fairseq",
            (
                Part("fairseq/dataclass/configs.py", ("CommonConfig",), "common."),
                Part("fairseq/dataclass/configs.py", ("CommonEvalConfig",), "common_eval."),
                Part("fairseq/dataclass/configs.py", ("DistributedTrainingConfig",), "distributed_training."),
                Part("fairseq/dataclass/configs.py", ("DatasetConfig",), "dataset."),
                Part("fairseq/dataclass/configs.py", ("OptimizationConfig",), "optimization."),
                Part("fairseq/dataclass/configs.py", ("CheckpointConfig",), "checkpoint."),
                Part("fairseq/dataclass/configs.py", ("EMAConfig",), "ema."),
            ),
        ),
        "gpt-neox": Source(
            "gpt-neox",
            (
                Part(
                    "megatron/neox_arguments/*_args.py",
                    (
                        "NeoXArgsDeepspeedRunner",
                        "NeoXArgsDeepspeedConfig",
                        "NeoXArgsModel",
                        "NeoXArgsMoE",
                        "NeoXArgsLRScheduler",
                        "NeoXArgsOptimizer",
                        "NeoXArgsTokenizer",
                        "NeoXArgsTraining",
                        "NeoXArgsParallelism",
                        "NeoXArgsLogging",
                        "NeoXArgsTextgen",
                        "NeoXArgsOther",
                    ),
                ),
            ),
        ),
        "llm-foundry": Source(
            "llm-foundry", (Part("llmfoundry/utils/config_utils.py", ("TrainConfig", "EvalConfig")),)
        ),
        "lightning": Source(
            "lightning",
            (Part("lightning/pytorch/trainer/trainer.py", prefix="trainer.", functions=("Trainer.__init__",)),),
        ),
        "litgpt": Source(
            "litgpt",
            (
                Part("litgpt/finetune/*.py", functions=("setup",)),
                Part("litgpt/pretrain.py", functions=("setup",)),
                Part("litgpt/args.py", ("TrainArgs",), "train."),
                Part("litgpt/args.py", ("EvalArgs",), "eval."),
                Part("litgpt/args.py", ("LogArgs",), "log."),
            ),
        ),
        "llama-factory": Source(
            "llamafactory",
            (
                Part("llamafactory/hparams/*.py", ("ModelArguments",)),
                Part("llamafactory/hparams/*.py", ("DataArguments",)),
                Part("llamafactory/hparams/*.py", ("FinetuningArguments",)),
                Part("llamafactory/hparams/*.py", ("TrainingArguments",)),
                Part("llamafactory/hparams/*.py", ("GeneratingArguments",)),
            ),
        ),
        "ms-swift": Source(
            "ms-swift",
            (
                Part("swift/**/*.py", ("SftArguments",)),
                Part("swift/**/*.py", ("RLHFArguments",)),
            ),
        ),
        "open-instruct": Source(
            "open-instruct",
            (
                Part("open_instruct/environments/*.py", ("EnvsConfig",)),
                Part("open_instruct/data_loader.py", ("StreamingDataLoaderConfig", "VLLMConfig")),
                Part("open_instruct/grpo_utils.py", ("GRPOExperimentConfig",)),
                Part("open_instruct/reward_modeling.py", ("Args",)),
                Part("open_instruct/model_utils.py", ("ModelConfig",)),
                Part(
                    "open_instruct/olmo_core_utils.py",
                    (
                        "CheckpointConfig",
                        "LoggingConfig",
                        "DatasetConfig",
                        "TrainingConfig",
                        "ModelConfig",
                        "ExperimentConfig",
                    ),
                ),
                Part("open_instruct/*.py", ("DPOExperimentConfig",)),
                Part("open_instruct/dataset_transformation.py", ("TokenizerConfig",)),
                Part("open_instruct/finetune.py", ("FlatArguments",)),
            ),
        ),
        "openrlhf": Source("openrlhf", (Part("openrlhf/cli/train_*.py"),)),
    }
)
"""By the name of the vocabulary. Frameworks that declare no keys (torchtune reads what a recipe asks its file for), or
make flags of dataclasses by rules of their own (Megatron), are left out: their tables are read off by hand."""
