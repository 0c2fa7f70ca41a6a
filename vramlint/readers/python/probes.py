"""Questions that a program asks of the machine it runs on, answered by the declared GPU."""

from __future__ import annotations

import math
from types import MappingProxyType

from vramlint.patterns import lazy
from vramlint.readers.python.commandline.flag_values import flag_value
from vramlint.readers.python.commandline.words import argv
from vramlint.readers.python.machine import Arguments, Machine, Site
from vramlint.readers.python.objects import Object, Sequence
from vramlint.text import Place
from vramlint.values import Name, Plain, Scalar

BF16 = "torch.cuda.is_bf16_supported()"
MAJOR, MINOR = "torch.cuda.get_device_capability()[0]", "torch.cuda.get_device_capability()[1]"

_SAME_QUESTION = MappingProxyType(
    {
        "transformers.utils.is_torch_bf16_gpu_available": BF16,
        "transformers.utils.import_utils.is_torch_bf16_gpu_available": BF16,
        "transformers.is_torch_bf16_gpu_available": BF16,
        "transformers.file_utils.is_torch_bf16_available": BF16,
        "transformers.utils.is_torch_bf16_available": BF16,
        "unsloth.is_bfloat16_supported": BF16,
        "unsloth.is_bf16_supported": BF16,
        "trl.is_bfloat16_supported": BF16,
        "torch.distributed.get_world_size": 'os.environ["WORLD_SIZE"]',
    }
)

_ASSUMED = MappingProxyType[str, Plain](
    {
        "torch.cuda.is_available()": True,
        "torch.backends.mps.is_available()": False,
        "torch.xpu.is_available()": False,
        "torch.npu.is_available()": False,
        "torch.backends.mps.is_built()": False,
    }
)
"""Taken for granted unless `known` says otherwise: the run is on an NVIDIA GPU."""

_FLAGS = "absl.flags.FLAGS."

_ARGUMENT_BASES = ("transformers.TrainingArguments",)


def call_probe(machine: Machine, callee: str, arguments: Arguments, site: Site) -> Object | None:
    """The answer to a library call that asks about the machine, None for all other calls."""
    if callee == "torch.cuda.get_device_capability":
        major, minor = machine.known.get(MAJOR), machine.known.get(MINOR, 0)
        if major is None:
            return site.unknown("compute capability of the GPU")
        return Sequence.of((Scalar(major, None, "environment"), Scalar(minor, None, "environment")), None)
    own = f"{callee}()"
    question = own if own in machine.known else _SAME_QUESTION.get(callee, own)
    if machine.known.get(question) is not None:
        return _environment(machine.known[question], question)
    if question in _ASSUMED:
        return Scalar(_ASSUMED[question], None, "environment")
    return site.unknown(f"{question} of the GPU") if question == BF16 else None


def _environment(value: Plain, question: str) -> Scalar:
    """An answer; environment variables, which are text, come as the number that a library function makes of them."""
    is_number = question.startswith("os.environ") and isinstance(value, str) and value.isdigit()
    return Scalar(int(str(value)) if is_number else value, None, "environment")


def environment_variable(machine: Machine, name: Object, default: Object | None, site: Site) -> Object:
    """`os.environ.get(...)`, `os.getenv(...)`; and `os.environ[...]`, where an unset variable raises."""
    if not isinstance(name, Scalar):
        return site.unknown("environment variable")
    found = variable(machine, str(name.value))
    if (
        found is None
        and isinstance(default, Scalar)
        and default.value is not None
        and not _LAUNCHERS.match(str(name.value))
    ):
        return Scalar(default.value, default.place, "environment")  # as a setting of the command line has its default
    if found is None:
        return site.unknown(f"environment variable {name.value}")
    return default if default is not None and isinstance(found, Scalar) and found.value is None else found


_LAUNCHERS = lazy(
    r"(LOCAL_|NODE_|GROUP_|WORLD_|MASTER_|SLURM|OMPI|PMI|MPI|CUDA|NCCL|NVIDIA|ACCELERATE|TORCH|FSDP|DEEPSPEED|PET_|SM_|RANK)"
    r"|.*(N_?GPU|NPROC|GPUS|WORLD_SIZE|DEVICES)"
)
"""Variables that a launcher sets, whatever a script takes for their default."""


def set_variable(machine: Machine, name: Object, value: Object) -> None:
    """`os.environ[name] = value`."""
    if isinstance(name, Scalar):
        machine.journal.put(machine.process, f"variable {name.value}", value)


def variable(machine: Machine, name: str) -> Object | None:
    """What an environment variable holds: as the program set it, of the machine, then of the launcher.

    A Scalar of None where it is not set.

    None when nothing says.
    """
    own: Object | None = machine.process.get(f"variable {name}")
    if own is not None:
        return own
    key = f'os.environ["{name}"]'
    value = machine.known.get(key)
    if value is not None:
        return Scalar(str(value), None, "environment")
    if name in machine.environment:
        return machine.environment[name]
    return Scalar(None, None, "environment") if key in machine.known else None


_CONSTANTS = {f"{module}.{name}": getattr(math, name) for module in ("math", "numpy") for name in ("pi", "e", "inf")}


def attribute_probe(machine: Machine, qualified: str, place: Place) -> Object:
    """A qualified name, or what it is known to stand for."""
    if qualified == "sys.argv":
        return argv(machine, place)
    if qualified.startswith(_FLAGS):
        found = flag_value(machine, qualified.removeprefix(_FLAGS))
        return Name(qualified, place) if found is None else found
    if qualified in _CONSTANTS:
        return Scalar(_CONSTANTS[qualified], place, "computed")
    if qualified in {"sys.platform", "os.name"}:
        return Scalar("linux" if qualified == "sys.platform" else "posix", None, "environment")
    if qualified in machine.known:
        return Scalar(machine.known[qualified], None, "environment")
    return Name(qualified, place)


def library_default(machine: Machine, callee: str, name: str, place: Place) -> Object | None:
    """What `known` says about a parameter that a library call leaves to its default.

    Keys are `transformers.TrainingArguments.fp16`, `trl.SFTConfig.bf16`. A config of TRL doesn't fall back to the
    TrainingArguments that it extends, because TRL has defaults of its own for inherited fields.
    """
    owners = [callee]
    last = callee.rpartition(".")[2]
    if last.endswith("TrainingArguments"):
        owners += _ARGUMENT_BASES
    for owner in owners:
        key = f"{owner}.{name}"
        if key in machine.known:
            return Scalar(machine.known[key], None, "library")
    if last == "get_device_properties" and name in {"major", "minor"}:
        key = MAJOR if name == "major" else MINOR
        return Scalar(machine.known[key], None, "environment") if key in machine.known else None
    return None
