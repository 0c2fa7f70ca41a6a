"""Programs of frameworks with a vocabulary of their own: by what they are started, and which words name files."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple

from msgspec.structs import replace

from vramlint.catalog.frameworks import FRAMEWORKS, framework_keys
from vramlint.patterns import lazy
from vramlint.surfaces.launch.clis import CLIS
from vramlint.surfaces.launch.hydra import hydra_files
from vramlint.text import Place
from vramlint.values import Invocation, Scalar, Unknown, Value

PROGRAM = "vramlint:program"
"""Key under which the sheet of a command line holds the program itself, for frameworks that tell methods by it."""
WORDS = "vramlint:words"
"""Key under which it holds the words in front of the first option, where there are any."""
REMOVED = "vramlint:removed"
"""Key under which it holds the keys that it takes out of the configuration, where there are any."""
UNSEEN = "vramlint:unseen"
"""Key under which it holds why nobody can read the configuration that it names, where that is so."""

FILE = "FILE"
"""Among the options that tell a program: that a file of data stands alone on its command line."""
_FILE = lazy(r".+\.(?:ya?ml|json|toml)$", re.IGNORECASE)


_ARGPARSE = frozenset(("diffusers", "ms-swift", "ms-swift-megatron", "lmflow", "timm"))
"""Frameworks whose command line is argparse's: `a=1` is a value there, as in `--optim_args a=1`."""


class FrameworkProgram(NamedTuple):
    """How a framework's program takes its configuration."""

    framework: str
    options: tuple[str, ...] = ("config",)
    """Options that name files, without dashes."""
    positional: bool = False
    """Files may stand without an option."""
    folders: tuple[str, ...] = ()
    """Options that name the folder of the files."""
    suffix: str = ""
    """What is added to the name of a file that has no suffix; other positional words than `scripts` are then files."""
    first: bool = False
    """The first word that is neither an option nor its value is the configuration, a file or a packaged one's name."""
    hydra: bool = False
    """Hydra names the file: `--config-path` and `--config-name`."""
    scripts: tuple[str, ...] = ()
    """Scripts that it runs and that train; empty where it runs none."""
    told_by: tuple[str, ...] = ()
    """Options of which one has to be there, where the program's name is a usual one; none: its name tells it."""

    takes_all: bool = False
    """A script of that name is only meant where all options are of the framework's table."""
    short: tuple[tuple[str, str], ...] = ()
    """Options of one letter, with their dash, and the long ones that they stand for."""
    stands_in: bool = False
    """It is an example that people copy: where the project has the script, the script is read."""

    @property
    def overrides(self) -> bool:
        """Whether `a.b=1` among its words changes its configuration."""
        return self.framework not in _ARGPARSE

    def spelled_out(self, invocation: Invocation) -> Invocation:
        """The command line with long options for those of one letter."""
        long = dict(self.short)
        words = [
            replace(word, value=long[text]) if isinstance(word, Scalar) and (text := _text(word)) in long else word
            for word in invocation.arguments
        ]
        return replace(invocation, arguments=tuple(words))

    def is_told(self, invocation: Invocation | None) -> bool:
        """Whether a program of this name is the framework's, by its options."""
        if not self.told_by or invocation is None:
            return not self.told_by
        if FILE in self.told_by and next(self.files(invocation), None) is not None:
            return True
        said = (word.prefix if isinstance(word, Unknown) else _text(word) for word in invocation.arguments)
        long = dict(self.short)
        # Hydra's settings are `a.b=1`, one that it adds `+a.b=1`
        named = (text for text in said if text.startswith("-") or (self.hydra and "=" in text))
        options = [long.get(text, text).partition("=")[0] for text in named]
        names = {option.lstrip("-+").replace("-", "_") for option in options}
        if self.takes_all and not names <= framework_keys(self.framework).keys():
            return False
        return any(name in self.told_by for name in names)

    def trains(self, invocation: Invocation) -> bool:
        """Whether the program trains with these words."""
        return not self.scripts or any(_text(word).rpartition("/")[2] in self.scripts for word in invocation.arguments)

    def files(self, invocation: Invocation) -> Iterator[tuple[str, Place | None]]:
        """The configuration files of a command line and where they are named, in their order."""
        if self.hydra:
            yield from hydra_files(invocation)
            return
        if self.first:
            yield from _first(invocation)
            return
        takes = ""
        folder = _after(invocation, self.folders)
        for word in invocation.arguments:
            text = _text(word)
            head, equals, tail = text.partition("=")
            name = head.lstrip("-").replace("-", "_") if head.startswith("-") else ""
            is_option = name in self.options
            if takes in self.options and text and takes:
                yield text, word.place
            elif is_option and equals:
                yield tail, word.place
            elif self.positional and not takes and not text.startswith("-") and not equals and _FILE.match(text):
                yield f"{folder}{text}", word.place
            elif self.suffix and text and not name and not takes and not text.endswith(".py"):
                yield f"{folder}{text}{self.suffix}", word.place
            takes = name if not equals else ""

    def unseen(self, invocation: Invocation) -> str:
        """Why it is not known which configuration file a command line names; empty where it is, or none is named."""
        if self.hydra or next(self.files(invocation), None) is not None:
            return ""
        takes = ""
        for number, word in enumerate(invocation.arguments):
            text = word.prefix if isinstance(word, Unknown) else _text(word)
            head, equals, _ = text.partition("=")
            name = head.lstrip("-").replace("-", "_") if head.startswith("-") else ""
            stands_alone = number == 0 and (self.positional or self.first) and not name
            if isinstance(word, Unknown) and (stands_alone or (name if equals else takes) in self.options):
                return word.reason
            takes = name if not equals else ""
        return ""


def _first(invocation: Invocation) -> Iterator[tuple[str, Place | None]]:
    valued = False
    for word in invocation.arguments:
        text = _text(word)
        if text and not text.startswith("-") and not valued:
            yield text, word.place
            return
        valued = text.startswith("-") and "=" not in text


def _text(word: Value) -> str:
    return word.value if isinstance(word, Scalar) and isinstance(word.value, str) else ""


def _after(invocation: Invocation, options: tuple[str, ...]) -> str:
    """The folder that one of the options names, with the slash behind it."""
    words = [_text(word) for word in invocation.arguments]
    named = (after for word, after in pairwise(words) if word.startswith("-") and word.lstrip("-") in options)
    folder = next(named, "")
    return f"{folder.rstrip('/')}/" if folder else ""


_DIFFUSERS = (
    "pretrained_model_name_or_path",
    "dataset_name",
    "train_data_dir",
    "instance_data_dir",
    "model_config_name_or_path",
)
"""Options of which every start of a diffusers example has one."""

_TIMM = FrameworkProgram(
    "timm",
    short=(("-b", "--batch-size"), ("-vb", "--validation-batch-size"), ("-c", "--config")),
    stands_in=True,
)
_TIMMS_OWN = (
    "amp_impl",
    "aug_repeats",
    "aug_splits",
    "epoch_repeats",
    "jsd_loss",
    "recount",
    "remode",
    "reprob",
    "sched_on_updates",
    "split_bn",
    "torchcompile",
    "use_multi_epochs_loader",
)
"""Options that hardly any other train.py has."""
_TIMMS_USUAL = (
    "aa",
    "amp_dtype",
    "crop_pct",
    "cutmix",
    "data_dir",
    "decay_epochs",
    "drop_path",
    "input_size",
    "model_ema",
    "num_classes",
    "opt_eps",
    "warmup_epochs",
)
"""Options that other programs for images have too; with nothing but timm's beside them they tell it."""

_VERL = ("data.train_files", "algorithm.adv_estimator", "actor_rollout_ref.model.path", "data.train_batch_size")
"""Overrides that every start of an RL trainer of verl has one of."""

PROGRAMS: tuple[tuple[re.Pattern[str], FrameworkProgram], ...] = (
    (lazy(r"(?:^|\.)axolotl\.cli\.train$"), FrameworkProgram("axolotl", (), positional=True)),
    (lazy(r"(?:^|\.)xtuner\.tools\.train$"), FrameworkProgram("xtuner", (), first=True)),
    (lazy(r"(?:^|\.)xtuner\.v1\.train\.cli\.(?:sft|rl)$"), FrameworkProgram("xtuner")),
    (
        lazy(
            r"(?:^|\.)(?:pretrain_(?:gpt|bert|t5|mamba|hybrid|vlm|retro|ict|llava)|train_rl"
            r"|examples\.(?:multimodal|mimo|multimodal_dev)\.(?:train|pretrain)|multimodal\.train)$"
        ),
        FrameworkProgram("megatron", ("yaml_cfg",)),
    ),
    (
        lazy(r"(?:^|\.)deepy$"),
        FrameworkProgram(
            "gpt-neox", (), positional=True, folders=("d", "conf_dir"), suffix=".yml", scripts=("train.py", "train")
        ),
    ),
    (
        lazy(r"(^|\.)openrlhf\.cli\.train_\w+$"),
        FrameworkProgram("openrlhf", ()),
    ),
    (
        lazy(r"(^|\.)train_(?:sft|dpo|rm|kto|kd|prm|ppo|ppo_ray)$"),
        FrameworkProgram("openrlhf", (), told_by=("micro_train_batch_size", "train.micro_batch_size")),
    ),
    (
        lazy(r"(?:^|\.)open_instruct\.(?:finetune|dpo(?:_tune(?:_cache)?)?|grpo(?:_fast)?|ppo\w*|reward_modeling)$"),
        FrameworkProgram("open-instruct", (), positional=True),
    ),
    (lazy(r"(?:^|\.)torchtitan\.(?:\w+\.)*train$"), FrameworkProgram("torchtitan", ("job.config_file",))),
    (
        lazy(
            r"(?:^|\.)(?:(?:full|lora|qat_lora|early_exit)_finetune|(?:full|lora)_dpo|(?:async_)?grpo_full_finetune|qat"
            r"|knowledge_distillation|ppo_full_finetune)_(?:single_device|distributed)(?:_multi_dataset)?$"
        ),
        FrameworkProgram("torchtune"),
    ),
    (
        lazy(r"(?:^|\.)train_(?:eagle3(?:_online|_offline|_sgl_online|_dataflow)?|dflash|domino|peagle)$"),
        FrameworkProgram("specforge", ()),
    ),
    (
        lazy(
            r"(^|\.)verl\.trainer\.(main_ppo|(fsdp_)?sft_trainer|main_ppo_\w+)(_ray)?$"
            r"|(^|\.)verl\.experimental\.([\w.]+\.)?(main_\w+|\w+_main)$"
        ),
        FrameworkProgram("verl", hydra=True),
    ),
    (
        lazy(r"(^|\.)recipe\.\w+\.([\w.]+\.)?(main_(?!gen|eval)\w+|\w+_main)$"),
        FrameworkProgram("verl", hydra=True, told_by=_VERL),
    ),
    (lazy(r"(?:^|\.)fairseq(?:_cli\.hydra_train|-hydra-train)$"), FrameworkProgram("fairseq", hydra=True)),
    (
        lazy(
            r"(?:^|\.)(?:train_(?:text_to_image|dreambooth)(?:_lora)?(?:_sdxl|_sd3|_flux)?"
            r"|train_dreambooth_lora_(?:flux_kontext|flux2(?:_klein)?(?:_img2img)?|(?:flux|sd15|sdxl)_advanced"
            r"|hidream|ideogram4|krea2|lumina2|qwen_image|sana|z_image)"
            r"|train_controlnet(?:_sdxl|_sd3|_flux)?|train_control(?:_lora)?_flux"
            r"|train_instruct_pix2pix(?:_sdxl)?|train_custom_diffusion|train_unconditional|textual_inversion(?:_sdxl)?)$"
        ),
        FrameworkProgram("diffusers", (), told_by=_DIFFUSERS, stands_in=True),
    ),
    (lazy(r"(?:^|\.)(?:pytorch-image-models|timm)\.train$"), _TIMM),
    (lazy(r"^\.*train$"), _TIMM._replace(told_by=_TIMMS_OWN)),
    (lazy(r"^\.*train$"), _TIMM._replace(told_by=_TIMMS_USUAL, takes_all=True)),
    (lazy(r"(?:^|\.)litgpt\.(?:finetune\.\w+|pretrain)$"), FrameworkProgram("litgpt")),
    (
        lazy(r"(?:^|\.)run_recipe$"),
        FrameworkProgram("megatron-bridge", ("config_file",), told_by=("recipe", "model")),
    ),
    (lazy(r"(?:^|\.)train\.train$"), FrameworkProgram("llm-foundry", (), positional=True, told_by=(FILE,))),
    (
        lazy(r"(?:^|\.)llamafactory\.(?:launcher|cli)$"),
        FrameworkProgram("llama-factory", (), positional=True),
    ),
    (
        lazy(r"(?:^|\.)src\.train(?:_bash)?$"),
        FrameworkProgram(
            "llama-factory", (), positional=True, told_by=("stage", "finetuning_type", "cutoff_len", FILE)
        ),
    ),
    (lazy(r"(?:^|\.)swift\.cli\.(?:sft|pt|rlhf)$"), FrameworkProgram("ms-swift", (), positional=True)),
    (
        lazy(r"(?:^|\.)swift\.cli\._megatron\.(?:sft|pt|rlhf)$"),
        FrameworkProgram("ms-swift-megatron", (), positional=True),
    ),
    (
        lazy(
            r"(?:^|\.)examples\.(?:finetune(?:_multi_modal)?|(?:iterative_)?dpo(?:v2)?_train|reward_modeling|raft_align)$"
        ),
        FrameworkProgram("lmflow", (), positional=True, told_by=("dataset_path", "dataset_path_list")),
    ),
)
"""Scripts and modules by a pattern that is searched in the dotted path: `verl.trainer.main_ppo`, `pretrain_gpt`."""


def framework_program(program: str, invocation: Invocation | None = None) -> FrameworkProgram | None:
    """The framework behind what a command line starts: a script's path, a dotted module, or a tool's words.

    Args:
        program: what is started.
        invocation: its words; without them programs that only these tell are left out.
    """
    words = program.split()
    if words and words[0] in CLIS:
        cli = CLIS[words[0]]
        if cli.vocabulary not in FRAMEWORKS:
            return None
        return FrameworkProgram(cli.vocabulary, cli.options, cli.positional, first=cli.named)
    dotted = program.replace("\\", "/").removesuffix(".py").replace("/", ".")
    named = (found for pattern, found in PROGRAMS if pattern.search(dotted))
    return next((found for found in named if found.is_told(invocation)), None)
