"""Says from a file's bytes whether it can describe a training run, so that the rest is never parsed."""

from __future__ import annotations

import re
from collections.abc import Callable
from types import MappingProxyType

from vramlint.patterns import lazy

_GATES = (b"Trainer(", b"TrainingArguments(", b".backward(", b"deepspeed.initialize(")
"""One of these is in every script that trains. Looked up first, for that is far faster than an expression."""

_TRAINER_CALL = lazy(
    rb"(?<!class )(?<!def )(?<![\w.])(?:\w+\.)*"
    rb"(?:\w*TrainingArguments|(?!BpeT|WordPieceT|WordLevelT|UnigramT)\w*Trainer)\((?!\.\.\.)"
)
"""Arguments and trainers of transformers, TRL and their like constructed. The excluded ones train tokenizers."""

_LOOP = lazy(rb"\.backward\(")
_ENGINE = lazy(rb"\bdeepspeed\.initialize\(")
_SILENT = (b"#", b">>>", b"...")
"""How a line begins that is a comment or part of a doctest."""

_OPTIMIZER = lazy(
    rb"\b(?:optim\.\w+|\w*Adam\w*|Adafactor|SGD|RMSprop|Lion\w*|Muon\w*|\w*[Oo]ptimizers?\w*)\(|\bdeepspeed\.initialize\("
)
_OWN_TRAINER = lazy(rb"(?m)^class \w*(?:Trainer|TrainingArguments)\b")
_SCRIPT_BODY = lazy(rb"(?m)^(?:if __name__\b|(?:for|while|with)\b|(?!logger\b|warnings\b|register)[A-Za-z_][\w.]*\()")
"""Statements that run on their own: the main guard, a loop, a call that stands alone."""

_DEEPSPEED_SURE = (b"zero_optimization", b"train_micro_batch_size_per_gpu", b"stage3_", b"offload_optimizer")
_DEEPSPEED_HINTS = (
    b"zero_",
    b"micro_batch",
    b"train_batch_size",
    b"gradient_accumulation_steps",
    b"gradient_clipping",
    b"offload_param",
    b"allgather_",
    b"reduce_bucket_size",
    b"wall_clock_breakdown",
    b"steps_per_print",
    b"loss_scale",
    b"fp16",
    b"bf16",
    b"bfloat16",
    b"activation_checkpointing",
)
"""Two of them make a DeepSpeed config, so that a misspelt key does not hide the file."""

_ACCELERATE = b"distributed_type"
"""The key that every Accelerate configuration has."""
_ARGUMENTS = (b"per_device_train_batch_size", b"per_gpu_train_batch_size")
_ARGUMENT_HINTS = (b"output_dir", b"learning_rate", b"num_train_epochs", b"gradient_accumulation_steps", b"max_steps")
_MODEL_NAME = b"model_name_or_path"
_MODEL_CONFIG = lazy(rb"\"model_type\"\s*:")
_TRAINER_STATE = b"log_history"
"""In the trainer_state.json that a finished run leaves behind."""


def may_train(form: str, data: bytes) -> bool:
    """Whether a file of that form, a value of `forms.FORMS`, can say something about a training run."""
    return _TESTS[form](data) or may_start(form, data)


_PYTHON_CONFIGS = (
    (b"xtuner", (b"optim_wrapper", b"TrainerConfig(")),
    (b"megatron.bridge.recipes", (b" pretrain(", b" finetune(", b" distill(")),
    (b"nemo.collections", (b".pretrain_recipe(", b".finetune_recipe(", b"= pretrain_recipe(", b"= finetune_recipe(")),
    (b"llamafactory", (b"run_exp(",)),
    (b"swift", (b"sft_main(", b"pt_main(", b"rlhf_main(")),
    (b"torchtune", (b"@config.parse", b"@torchtune.config.parse")),
    (b"torchtitan", (b"-> Trainer.Config:", b'Trainer.Config":')),
)
"""What a configuration that is a Python file imports, and what one of has it then."""


_RECIPES = (b"def pretrain_recipe(", b"def finetune_recipe(", b"import pytest")
"""In modules that define recipes, and in tests of them."""


def is_python_config(data: bytes) -> bool:
    """Whether a Python file may be the configuration of a framework."""
    marked = any(package in data and any(mark in data for mark in marks) for package, marks in _PYTHON_CONFIGS)
    return marked and not any(word in data for word in _RECIPES)


def _python(data: bytes) -> bool:
    if is_python_config(data):
        return True
    if not any(gate in data for gate in _GATES):
        return False
    trains = (
        _is_called(_TRAINER_CALL, data)
        or _is_called(_ENGINE, data)
        or (_is_called(_LOOP, data) and _OPTIMIZER.search(data) is not None)
    )
    return trains and (_OWN_TRAINER.search(data) is None or runs_by_itself(data))


def runs_by_itself(data: bytes) -> bool:
    """Whether a Python file has statements that do something when it is run, and not definitions alone."""
    return _SCRIPT_BODY.search(data) is not None


_HANDLER = lazy(rb"(?<![\w.])(?!def )(\w*(?:train|sft|exp|tune|tuning|main|launch|cli)\w*)\(")


def hands_on(data: bytes) -> bool:
    """Whether a Python file leaves its training to a function that it imports: `run_exp()`, `sft_main()`."""
    names = set(_HANDLER.findall(data))
    return any(re.search(rb"\bimport[ \t]+(?:\([^)]*|[^\n(]*)\b" + name + rb"\b", data) is not None for name in names)


def _is_called(call: re.Pattern[bytes], data: bytes) -> bool:
    """Whether `call` stands in a line that is neither a comment nor part of a doctest."""
    return any(
        not data[data.rfind(b"\n", 0, match.start()) + 1 : match.end()].lstrip().startswith(_SILENT)
        for match in call.finditer(data)
    )


def _json(data: bytes) -> bool:
    if data.lstrip(b"\xef\xbb\xbf \t\r\n")[:1] == b"[" or _TRAINER_STATE in data:
        return False
    return (
        _is_deepspeed(data)
        or _has_arguments(data)
        or _ACCELERATE in data
        or _MODEL_CONFIG.search(data) is not None
        or _is_framework(data)
    )


def _yaml(data: bytes) -> bool:
    known = _has_arguments(data) or _ACCELERATE in data or any(key in data for key in _DEEPSPEED_SURE[:2])
    return known or _is_framework(data)


_KEY = lazy(rb"[\"']?([A-Za-z_][\w.-]{2,63})[\"']?[ \t]*[:=]")
"""What may be a key of a data file."""
_FEW = 4
"""So many keys that frameworks share make a file worth a look."""


def _is_framework(data: bytes) -> bool:
    """Whether a data file has keys of a framework with a vocabulary of its own."""
    from vramlint.catalog.marks import own_words, shared_words
    from vramlint.catalog.usual_keys import usual_words

    words = {key.rpartition(b".")[2] for key in _KEY.findall(data)}
    known = not words.isdisjoint(own_words()) or len(words & shared_words()) >= _FEW
    return known or len(words & usual_words()) >= _FEW


def _toml(data: bytes) -> bool:
    return b"[build-system]" not in data and _is_framework(data)


def _is_deepspeed(data: bytes) -> bool:
    return any(key in data for key in _DEEPSPEED_SURE) or sum(key in data for key in _DEEPSPEED_HINTS) > 1


def _has_arguments(data: bytes) -> bool:
    hints = sum(key in data for key in _ARGUMENT_HINTS)
    named = hints > 0 and _MODEL_NAME in data
    return named or any(key in data for key in _ARGUMENTS) or (_ARGUMENT_HINTS[0] in data and hints > 1)


_STARTS = lazy(
    rb"\b(?:torchrun|deepspeed|accelerate[ \\\t\r\n]+launch|srun|mpirun|composer|llamafactory-cli|axolotl|litgpt"
    rb"|swift[ \t]+(?:sft|pt|rlhf)|tune[ \t]+run|trl[ \t]+\w+|xtuner|torchx|colossalai)\b"
    rb"|\bpython[\d.]*[ \t](?:[^\n\\;|&]|\\\r?\n|\\[^\r\n])*(?:\.py\b|-m[ \t])"
    rb"|\$[A-Za-z_{][^\n;|&]*\.py\b"
    rb"|\b(?:uv[ \t]+run|hf[ \t]+jobs|custom-jobs[ \t]+create)\b"
)
"""Programs that start training, and Python started on a script or module, itself or behind a variable."""


def _commands(data: bytes) -> bool:
    return _STARTS.search(data) is not None


_JOB_MARKS = lazy(
    rb"runs-on|apiVersion|accelerators|instance_type|services:|[wW]orker_?[pP]ool_?[sS]pecs|azureml|gpuCount"
    rb"|(?m:^[ \t]*(?:- )?(?:script|run|commands?|entrypoint|program)[ \t]*:)"
)
"""Keys of which every kind of job file has one."""
_JOB_STARTS = lazy(
    rb"\b(?:torchrun|deepspeed|accelerate|srun|mpirun|composer|llamafactory-cli|axolotl|litgpt|xtuner|torchx|colossalai)\b"
    rb"|\bswift[ \t]+(?:sft|pt|rlhf)\b|\btune[ \t]+run\b|\btrl[ \t]+\w+"
    rb"|\bpython[\d.]*[\"']?(?:[ \t]*,)?(?:\s+-)?\s+[^\n;|&]*(?:\.py\b|-m\b)"
    rb"|\b(?:uv[ \t]+run|hf[ \t]+jobs)\b[^\n;|&]*\.py\b"
    rb"|\bprogram[ \t]*:[ \t]*[\w./-]+\.py\b"
    rb"|(?:\./|\b(?:bash|sh)[ \t]+)[\w./-]+\.sh\b"
)
"""What starts training, as shell text or as a list of words."""
_JOB_WORDS = (
    *(b"torchrun", b"deepspeed", b"accelerate", b"srun", b"mpirun", b"composer", b"llamafactory-cli", b"axolotl"),
    *(b"litgpt", b"xtuner", b"torchx", b"colossalai", b"swift", b"tune", b"trl", b"python", b"uv", b"hf"),
    *(b"program", b".sh"),
)
"""One of these is in whatever starts something. Looked for first, as the gates above are."""
_TOOLS = lazy(
    rb"-m[\"']?,?\s+-?\s*[\"']?(?:pip|uv|build|pytest|unittest|venv|virtualenv|twine|coverage|ruff|mypy|black|isort|flake8"
    rb"|pylint|pre_commit|ensurepip|site|sphinx|http\.server|json\.tool|compileall|cibuildwheel)\b"
)
"""Modules that test, pack and check a project."""
_PYTHON_JOBS = (
    (b"sagemaker", b"entry_"),
    (b"aiplatform", b"CustomJob"),
    (b"azure.ai.ml", b"command("),
    (b"sky.Task(", b"run="),
    (b"run_uv_job(", b"flavor"),
    (b"import modal", b"gpu="),
    (b"from modal", b"gpu="),
    (b"ScalingConfig(", b"ray"),
)
"""Words that only a Python file has together that starts jobs, the rarer one first."""


_PROCESS = lazy(rb"\bos\.system\(|\bsubprocess\.(?:run|call|check_call|check_output|Popen)\(|\bPopen\(")
_PROCESS_WORDS = (b"subprocess", b"os.system(", b"Popen(")
_STARTED = lazy(
    rb"[\"'\s/]torchrun[\"' \t\\\\]|[\"']deepspeed[\"'],\s*f?[\"']|[\"'\s]deepspeed[ \t]+(?:-|[\w./]+\.py)"
    rb"|accelerate(?:[\"'],\s*[\"']|[ \t]+)launch\b"
)
"""A launcher as a word of a command, in text or in a list."""


def makes_processes(data: bytes) -> bool:
    """Whether a Python file runs commands."""
    return any(word in data for word in _PROCESS_WORDS) and _PROCESS.search(data) is not None


def may_start(form: str, data: bytes) -> bool:
    """Whether a file of that form may start programs on machines that it asks for, or send jobs to a service."""
    if form == "python":
        return any(first in data and second in data for first, second in _PYTHON_JOBS) or (
            makes_processes(data) and _STARTED.search(data) is not None and runs_by_itself(data)
        )
    if form not in ("yaml", "json") or not any(word in data for word in _JOB_WORDS) or _JOB_MARKS.search(data) is None:
        return False
    return any(
        _TOOLS.search(match[0] + data[match.end() : match.end() + 40]) is None for match in _JOB_STARTS.finditer(data)
    )


def _container(data: bytes) -> bool:
    return _STARTS.search(data) is not None or _JOB_STARTS.search(data) is not None


_LAUNCHERS = (
    b"torchrun",
    b"deepspeed",
    b"accelerate",
    b"llamafactory-cli",
    b"axolotl",
    b"trl sft",
    b"tune run",
    b"%run ",
)
_PYTHON_START = lazy(rb"python[\d.]*[ \t]+(?:[^\n;|&]*\.py\b|-m[ \t])")
"""Begins with a letter that can be looked for, since most of a notebook is the base64 of its images."""


def _notebook(data: bytes) -> bool:
    return any(word in data for word in (*_GATES, *_LAUNCHERS)) or _PYTHON_START.search(data) is not None


_TESTS: MappingProxyType[str, Callable[[bytes], bool]] = MappingProxyType(
    {
        "python": _python,
        "notebook": _notebook,
        "json": _json,
        "yaml": _yaml,
        "toml": _toml,
        "shell": _commands,
        "make": _commands,
        "docker": _container,
    }
)
