"""Frameworks whose keys stand in the code as they are: files, and the classes, functions or parsers in them."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from tools.surfaces.declared import Part, reader
from tools.surfaces.source import Source


def _source(
    name: str, repository: str, packages: str, *parts: Part, distribution: str = "", elsewhere: tuple[str, ...] = ()
) -> Source:
    return Source(distribution, (packages,), repository, reader(name, parts), elsewhere=elsewhere)


_FAIRSEQ = "fairseq/dataclass/configs.py"
_LLAMA_FACTORY = "llamafactory/hparams/*.py"
_NEOX = (
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
)
_OLMO_CORE = (
    "CheckpointConfig",
    "LoggingConfig",
    "DatasetConfig",
    "TrainingConfig",
    "ModelConfig",
    "ExperimentConfig",
)

PLAIN: Mapping[str, Source] = MappingProxyType(
    {
        "fairseq": _source(
            "fairseq",
            "facebookresearch/fairseq",
            "fairseq",
            Part(_FAIRSEQ, ("CommonConfig",), "common."),
            Part(_FAIRSEQ, ("CommonEvalConfig",), "common_eval."),
            Part(_FAIRSEQ, ("DistributedTrainingConfig",), "distributed_training."),
            Part(_FAIRSEQ, ("DatasetConfig",), "dataset."),
            Part(_FAIRSEQ, ("OptimizationConfig",), "optimization."),
            Part(_FAIRSEQ, ("CheckpointConfig",), "checkpoint."),
            Part(_FAIRSEQ, ("EMAConfig",), "ema."),
            distribution="fairseq",
        ),
        "gpt-neox": _source(
            "gpt-neox", "EleutherAI/gpt-neox", "megatron", Part("megatron/neox_arguments/*_args.py", _NEOX)
        ),
        "lightning": _source(
            "lightning",
            "Lightning-AI/pytorch-lightning",
            "lightning",
            Part("lightning/pytorch/trainer/trainer.py", prefix="trainer.", functions=("Trainer.__init__",)),
            distribution="lightning",
        ),
        "litgpt": _source(
            "litgpt",
            "Lightning-AI/litgpt",
            "litgpt",
            Part("litgpt/finetune/*.py", functions=("setup",)),
            Part("litgpt/pretrain.py", functions=("setup",)),
            Part("litgpt/args.py", ("TrainArgs",), "train."),
            Part("litgpt/args.py", ("EvalArgs",), "eval."),
            Part("litgpt/args.py", ("LogArgs",), "log."),
            distribution="litgpt",
        ),
        "llama-factory": _source(
            "llama-factory",
            "hiyouga/LLaMA-Factory",
            "llamafactory",
            Part(_LLAMA_FACTORY, ("ModelArguments",)),
            Part(_LLAMA_FACTORY, ("DataArguments",)),
            Part(_LLAMA_FACTORY, ("FinetuningArguments",)),
            Part(_LLAMA_FACTORY, ("TrainingArguments",)),
            Part(_LLAMA_FACTORY, ("GeneratingArguments",)),
            Part(_LLAMA_FACTORY, ("EvaluationArguments",)),
            distribution="llamafactory",
            elsewhere=("mcore_adapter", "TrainingArguments", "transformers-kt"),
        ),
        "llm-foundry": _source(
            "llm-foundry",
            "mosaicml/llm-foundry",
            "llmfoundry",
            Part("llmfoundry/utils/config_utils.py", ("TrainConfig", "EvalConfig")),
            distribution="llm-foundry",
        ),
        "ms-swift": _source(
            "ms-swift",
            "modelscope/ms-swift",
            "swift",
            Part("swift/**/*.py", ("SftArguments",)),
            Part("swift/**/*.py", ("RLHFArguments",)),
            distribution="ms-swift",
            elsewhere=("TrainingArguments", "variables of the environment"),
        ),
        "open-instruct": _source(
            "open-instruct",
            "allenai/open-instruct",
            "open_instruct",
            Part("open_instruct/environments/*.py", ("EnvsConfig",)),
            Part("open_instruct/data_loader.py", ("StreamingDataLoaderConfig", "VLLMConfig")),
            Part("open_instruct/grpo_utils.py", ("GRPOExperimentConfig",)),
            Part("open_instruct/reward_modeling.py", ("Args",)),
            Part("open_instruct/model_utils.py", ("ModelConfig",)),
            Part("open_instruct/olmo_core_utils.py", _OLMO_CORE),
            Part("open_instruct/*.py", ("DPOExperimentConfig",)),
            Part("open_instruct/dataset_transformation.py", ("TokenizerConfig",)),
            Part("open_instruct/finetune.py", ("FlatArguments",)),
        ),
    }
)
"""By the name of the vocabulary."""
