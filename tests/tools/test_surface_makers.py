"""Makers of whole tables in tools/surfaces: what each reads out of small trees like the framework's own."""

from __future__ import annotations

import ast
import json
import subprocess

import pytest

from tools.surfaces import litgpt_models, llama_factory_v1, megatron, megatron_bridge, ms_swift_megatron, unsloth
from tools.surfaces.dataclass_keys import default, fields, short_type
from tools.surfaces.imported import Modules
from tools.surfaces.rows import rows_of
from tools.surfaces.source import Key
from tools.surfaces.states import MissingStateError, States
from tools.surfaces.trees import Folder


def tree(tmp_path, **files):
    """A folder with files, whose paths have `__` for `/`."""
    for name, text in files.items():
        path = tmp_path / f"{name.replace('__', '/')}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return Folder(tmp_path)


def committed(folder, *states):
    """A repository with a tag for each state, whose last is the head too."""

    def git(*words):
        who = ("-c", "user.name=a", "-c", "user.email=a@b")
        subprocess.run(["git", *who, "-C", str(folder), *words], check=True, capture_output=True)

    folder.mkdir()
    git("init", "-q")
    for tag, files in states:
        for path, text in files.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_text(text)
        git("add", "-A")
        git("commit", "-q", "--allow-empty", "-m", tag)
        git("tag", tag)
    return folder


def rows(table):
    return [tuple(line.split("\t")) for line in table.splitlines() if not line.startswith("#")]


def test_unsloth_maps_models_to_dynamic_checkpoints_alone(tmp_path):
    mapper = """
__INT_TO_FLOAT_MAPPER = \\
{
    "unsloth/A-unsloth-bnb-4bit" : ("unsloth/A", "owner/A", "unsloth/A-bnb-4bit"),
    "unsloth/B-bnb-4bit" : ("unsloth/B", "owner/B"),
    "unsloth/C-unsloth-bnb-4bit" : {
        "8" : ("owner/C-FP8", None, "unsloth/C-FP8"),
        "16" : ("unsloth/C", "owner/C"),
    },
    "unsloth/Big-unsloth-bnb-4bit" : ("unsloth/Big", "owner/Big"),
}
raise RuntimeError("never run")
"""
    loader = 'BAD_MAPPINGS = {"unsloth/Big-unsloth-bnb-4bit".lower(): "unsloth/Big-bnb-4bit".lower()}\n'
    files = tree(
        tmp_path,
        unsloth__models__mapper=mapper,
        unsloth__models__loader_utils=loader,
        unsloth__models___utils='__version__ = "1.2"\n',
    )

    table = unsloth.whole(files)["unsloth.tsv"]

    assert "# unsloth 1.2 models/mapper.py" in table
    assert rows(table) == [
        ("owner/A", "unsloth/A-unsloth-bnb-4bit"),
        ("owner/C", "unsloth/C-unsloth-bnb-4bit"),
        ("owner/C-FP8", "unsloth/C-unsloth-bnb-4bit"),
        ("unsloth/A", "unsloth/A-unsloth-bnb-4bit"),
        ("unsloth/C", "unsloth/C-unsloth-bnb-4bit"),
        ("unsloth/C-FP8", "unsloth/C-unsloth-bnb-4bit"),
    ]


def test_litgpt_builds_its_models_in_loops(tmp_path):
    config = """
from copy import deepcopy
configs = [dict(name="b", hf_config=dict(org="o", name="b-hf"), n_layer=2, norm_eps=1e-6)]
olmo = [dict(name="OLMo-{}", hf_config=dict(org="o", name="OLMo-{}"), n_layer=4, n_embd=8 * 4)]
for c in olmo:
    for kind in ("1B", "7B"):
        copy = deepcopy(c)
        copy["name"] = c["name"].format(kind)
        copy["hf_config"]["name"] = c["hf_config"]["name"].format(kind)
        configs.append(copy)
"""
    (tmp_path / "litgpt-9.8.dist-info").mkdir()
    (tmp_path / "litgpt-9.8.dist-info" / "METADATA").write_text("")

    table = litgpt_models.whole(tree(tmp_path, litgpt__config=config))["litgpt_models.tsv"]

    assert "# Models of litgpt 9.8 " in table
    assert [(*row[:3], json.loads(row[3])) for row in rows(table)] == [
        ("b", "o", "b-hf", {"n_layer": 2}),
        ("OLMo-1B", "o", "OLMo-1B", {"elementwise_affine": False, "n_embd": 32, "n_layer": 4}),
        ("OLMo-7B", "o", "OLMo-7B", {"elementwise_affine": False, "n_embd": 32, "n_layer": 4}),
    ]


@pytest.mark.parametrize(
    ("annotation", "short"),
    [
        ("int", "int"),
        ("Optional[int]", "int?"),
        ("str | None", "str?"),
        ("Literal['a', 'b']", "a|b"),
        ("Optional[Literal['a', 'b']]", "a|b?"),
        ("List[str]", "list"),
        ("List[int]", "List[int]"),
        ("Dict[str, Any]", "dict"),
        ("Optional[Union[dict, str]]", "dict|str?"),
    ],
)
def test_types_are_written_short(annotation, short):
    assert short_type(annotation) == short


@pytest.mark.parametrize(
    ("written", "stated"),
    [
        ("1e-5", "1e-05"),
        ("None", ""),
        ("field(default=2, metadata={})", "2"),
        ("field(default_factory=list)", "[]"),
        ("field(default_factory=lambda: ['a'])", '["a"]'),
        ("field(default_factory=Other)", ""),
        ("Kind.ONE", '"one"'),
        ("os.getcwd()", ""),
    ],
)
def test_defaults_are_json_or_nothing(written, stated):
    kind = ast.parse("class Kind(str):\n    ONE = 'one'\n").body[0]

    assert default(ast.parse(written, mode="eval").body, {"Kind": kind}) == stated


def test_a_field_of_several_bases_is_that_of_the_first():
    module = ast.parse(
        "class Base:\n    a: int = 1\n    b: int = 1\n"
        "class Left(Base):\n    a: int = 2\n"
        "class Right(Base):\n    a: int = 3\n    b: int = 3\n    _own: int = 0\n    made: int = field(init=False)\n"
        "class Both(Left, Right):\n    pass\n"
    )
    classes = {node.name: node for node in module.body}

    assert fields(classes, ("Both",)) == {"a": Key("int", "2"), "b": Key("int", "3")}


def test_a_changed_type_makes_no_row_where_types_do_not_count():
    releases = [("1", {"a": Key("int", "1")}), ("2", {"a": Key("int?", "1")}), ("3", {"a": Key("int?", "2")})]

    assert rows_of(releases, types=False) == [
        ("a", "", "3", "", "int?", "1", ""),
        ("a", "3", "", "", "int?", "2", ""),
    ]


def test_llama_factory_v1_by_release(tmp_path):
    folder = "src/llamafactory/v1/config"
    old = "class ModelArguments:\n    template: str = 'a'\n    kernel: PluginConfig | None = None\n"
    new = old.replace("template: str = 'a'", "flash_attn: Kind = field(default=Kind.SDPA)")
    kinds = "class Kind(StrEnum):\n    SDPA = 'sdpa'\n"
    place = committed(
        tmp_path / "clone",
        ("v0.9.4", {f"{folder}/model_args.py": old}),
        ("v0.9.5", {}),
        ("last", {f"{folder}/model_args.py": new, "src/llamafactory/v1/utils/types.py": kinds}),
    )

    (table,) = llama_factory_v1.make(States(place, lambda _: None)).values()

    assert rows(table) == [
        ("flash_attn", "0.9.6", "", "", "Kind", '"sdpa"', ""),
        ("kernel.*", "", "", "", "PluginConfig?", "", ""),
        ("template", "", "0.9.6", "", "str", '"a"', ""),
    ]


def test_ms_swift_megatron_by_release_with_keys_that_no_class_declares(tmp_path):
    before = (
        "class MegatronArguments:\n    lr: float = 1e-5\n"
        "class MegatronTrainArguments(MegatronArguments, BaseArguments):\n    pass\n"
    )
    after = (
        before.replace("Train", "Sft") + "class MegatronRLHFArguments(MegatronSftArguments):\n    lr: float = 2e-5\n"
    )
    base = "class BaseArguments:\n    packing: bool = False\n"
    place = committed(
        tmp_path / "clone",
        ("v3.2.0", {"swift/megatron/argument/megatron_args.py": "class MegatronTrainArguments:\n    old: int = 1\n"}),
        ("v3.3.0", {"swift/megatron/argument/megatron_args.py": before, "swift/llm/argument/base.py": base}),
        ("v3.12.0", {"swift/megatron/argument/megatron_args.py": after}),
    )

    (table,) = ms_swift_megatron.make(States(place, lambda _: None)).values()

    assert [row for row in rows(table) if "driver_utils" not in row[6]] == [
        ("ENV.*", "3.12.0", "", "", "dict", "", "variables of the environment (swift/cli/main.py)"),
        ("lr", "", "3.12.0", "", "float", "1e-05", ""),
        ("lr", "3.12.0", "", "", "float", "2e-05", ""),
        ("packing", "", "", "", "bool", "false", ""),
    ]


ARGUMENTS = """
def _add(parser):
    exclude = ["num_experts"]
    ArgumentGroupFactory(TrainConfig, exclude=exclude).build_group(parser)
    group.add_argument("--lr", "--learning-rate", type=float, default=1e-4)
    group.add_argument("--seed", type=int, default=1234)
    group.add_argument("--rl-use-packing", action=argparse.BooleanOptionalAction, type=bool, default=False)
"""
CONFIG = """
@dataclass
class Base:
    num_layers: int = field(default=0, metadata={"argparse_meta": {"default": None}})
    num_experts: int | None = None

@dataclass
class TrainConfig(Base):
    fused: bool = True
    packed: bool = False
    bias: bool = field(default=True, metadata={"argparse_meta": {"arg_names": ["--disable-bias-linear"]}})
    lazily: bool = field(default=False, metadata={"argparse_meta": {"default": None}})
    steps: int = field(init=False)
    names: list[str] = field(default_factory=list)
"""


def test_megatrons_flags_are_options_and_fields(tmp_path):
    files = tree(
        tmp_path,
        megatron__training__arguments=ARGUMENTS,
        megatron__training__config=CONFIG,
        pretrain_gpt='add = parser.add_argument\nadd("--none")\nparser.add_argument("--seed", type=int, default=1)\n',
        tools__report='parser.add_argument("--port", type=int, default=1)\n',
        tools__serve='parser.add_argument("--port", type=int, default=2)\n',
        tests__helper='parser.add_argument("--not-a-flag")\n',
    )

    assert megatron.read(files)["megatron"] == {
        "disable_bias_linear": Key("flag", "false"),
        "disable_fused": Key("flag", "false"),
        "lazily": Key("flag", "false"),
        "learning_rate": Key("float", "0.0001"),
        "lr": Key("float", "0.0001"),
        "names": Key("list[str]", ""),
        "no_fused": Key("flag", "false"),
        "no_rl_use_packing": Key("flag", "false"),
        "num_layers": Key("int", ""),
        "packed": Key("flag", "false"),
        "port": Key("int", ""),
        "rl_use_packing": Key("bool", "false"),
        "seed": Key("int", "1234"),
    }


def test_megatron_says_which_program_it_cannot_read(tmp_path, capsys):
    files = tree(tmp_path, tools__broken='parser.add_argument("--a"\n', tools__whole='parser.add_argument("--b")\n')

    assert megatron.read(files) == {"megatron": {"b": Key("str")}}
    assert "tools/broken.py:1: not read" in capsys.readouterr().err


def test_bridges_sections_are_classes_of_two_repositories(tmp_path):
    config = """
from megatron.core.optimizer import OptimizerConfig as CoreConfig
from megatron.training.config import RNGConfig

class OptimizerConfig(CoreConfig):
    fused: bool = False

class ConfigContainer:
    optimizer: OptimizerConfig
    rng: Optional[RNGConfig] = None
    model: Provider
    _private: int = 0
"""
    core = {
        "megatron/core/optimizer/__init__.py": "from .optimizer_config import OptimizerConfig\n",
        "megatron/core/optimizer/optimizer_config.py": "class OptimizerConfig:\n    lr: float = 0.1\n",
        "megatron/training/config.py": (
            "class RNGConfig:\n    seed: int = 1234\n    ranks: list = field(default_factory=list)\n"
        ),
    }
    bridge = committed(tmp_path / "bridge", ("v1", {"src/megatron/bridge/training/config.py": config}))
    place = committed(tmp_path / "core", ("v1", core))

    (table,) = megatron_bridge.make(States(bridge, lambda _: None, {"megatron": place}.get)).values()

    assert [(row[0], *row[4:6]) for row in rows(table)] == [
        ("mode", "str", ""),
        ("model", "section", ""),
        ("model.*", "", ""),
        ("optimizer", "section", ""),
        ("optimizer.fused", "bool", ""),
        ("optimizer.lr", "float", ""),
        ("recipe", "str", ""),
        ("rng", "section", ""),
        ("rng.ranks", "list", ""),
        ("rng.seed", "int", "1234"),
    ]
    with pytest.raises(MissingStateError, match="--repo megatron=PATH"):
        megatron_bridge.make(States(bridge, lambda _: None))


def test_a_class_that_imports_lead_nowhere_is_none(tmp_path):
    files = tree(tmp_path, a__b="from .b import Own\nfrom torch import Tensor\n")

    modules = Modules((files,))

    assert modules.find("a/b.py", "Own") is None
    assert modules.find("a/b.py", "Tensor") is None
    assert modules.find("a/missing.py", "Own") is None
