"""Readers in tools/surfaces: what each takes out of small packages like the framework's own."""

from __future__ import annotations

import tarfile
import zipfile

from tools.surfaces import axolotl, lmflow, openrlhf, specforge, torchtitan, torchtune, verl, xtuner
from tools.surfaces.drift import is_older, refreshed
from tools.surfaces.pypi import version_in
from tools.surfaces.source import Key
from tools.surfaces.trees import Archive, Folder


def tree(tmp_path, files):
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return Folder(tmp_path)


def test_packages_are_read_where_they_lie(tmp_path):
    wheel = tmp_path / "mine-1.2.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("mine-1.2.0.data/purelib/mine/args.py", "A = 1\n")
    source = tmp_path / "args.py"
    source.write_text("B = 2\n")
    sdist = tmp_path / "mine-1.3.0.tar.gz"
    with tarfile.open(sdist, "w:gz") as packed:
        packed.add(source, "mine-1.3.0/src/mine/args.py")

    assert Archive(wheel).text("mine/args.py") == "A = 1\n"
    assert list(Archive(sdist).files("mine/*.py")) == [("mine/args.py", "B = 2\n")]
    assert Archive(sdist).text("mine/other.py") == ""
    assert [version_in(path) for path in (wheel, sdist)] == ["1.2.0", "1.3.0"]


def test_axolotl_reads_models_in_models_their_aliases_and_plugins(tmp_path):
    files = {
        "src/axolotl/utils/schemas/config.py": """
class FSDPConfig(BaseModel):
    fsdp_version: int | None = Field(validation_alias=AliasChoices("fsdp_version", "version"), default=None)
    offload_params: bool | None = None
class Remapped(BaseModel):
    type_of_model: str | None = Field(default=None, alias="model_type")
class AxolotlInputConfig(Remapped):
    fsdp_config: FSDPConfig | None = None
    datasets: list[FSDPConfig] | None = None
    options: dict[str, int] | None = None
    rank: Annotated[int, Field(default=8)]
""",
        "src/axolotl/integrations/liger/args.py": "class LigerArgs(BaseModel):\n    liger_rope: bool | None = None\n",
        "src/axolotl/integrations/liger/plugin.py": (
            "class P:\n    def get_input_args(self):\n        return 'axolotl.integrations.liger.LigerArgs'\n"
        ),
    }

    found = axolotl.read(tree(tmp_path, files))["axolotl"]

    assert found["rank"].default == "8"
    assert {key for key in found if key.startswith("fsdp_config.")} == {
        "fsdp_config.fsdp_version",
        "fsdp_config.version",
        "fsdp_config.fsdp_offload_params",
        "fsdp_config.offload_params",
    }
    assert {"type_of_model", "model_type", "liger_rope", "options.*", "datasets"} <= found.keys()
    assert "datasets.fsdp_version" not in found


def test_verl_composes_the_files_of_the_chosen_engine(tmp_path):
    folder = "verl/trainer/config"
    files = {
        f"{folder}/ppo_trainer.yaml": (
            "defaults:\n  - model_engine: dp\n  - actor@actor_rollout_ref.actor: ${model_engine}_actor\n  - _self_\n"
            "trainer:\n  nnodes: 1\n  total: ${trainer.nnodes}\n"
        ),
        f"{folder}/ppo_megatron_trainer.yaml": "defaults:\n  - ppo_trainer\n  - override model_engine: megatron\n",
        f"{folder}/model_engine/dp.yaml": "# @package _global_\nmodel_engine: dp\n",
        f"{folder}/model_engine/megatron.yaml": "# @package _global_\nmodel_engine: megatron\n",
        f"{folder}/actor/dp_actor.yaml": "lr: 1e-6\n",
        f"{folder}/actor/megatron_actor.yaml": "lr: 1e-5\ntp: 2\n",
    }

    found = verl.read(tree(tmp_path, files))["verl"]

    assert found["actor_rollout_ref.actor.lr"] == Key("float", "1e-06")
    assert found["actor_rollout_ref.actor.tp"] == Key("int", "2", "Megatron")
    assert found["model_engine"] == Key("str", '"dp"')
    assert found["trainer.total"] == Key("int", "1", "as trainer.nnodes")


def test_options_in_loops_schemas_and_what_recipes_ask_for(tmp_path):
    files = {
        "openrlhf/cli/train_sft.py": (
            "for part in ('actor', 'critic'):\n    p.add_argument(f'--{part}.adam.lr', type=float, default=1e-6)\n"
            "p.add_argument('--bf16', action='store_true')\n"
        ),
        "specforge/config/schema.py": (
            "class Data(BaseModel):\n    size: int = 256 << 20\nclass Config(BaseModel):\n    data: Data\n"
        ),
        "recipes/full.py": "def run(self, cfg):\n    self.b = cfg.batch_size\n    cfg.get('clip', True)\n",
        "torchtitan/config_manager.py": (
            "parser.add_argument('--training.steps', type=int, default=10)\n"
            "parser.add_argument('--training.compile', action='store_true')\n"
        ),
    }
    files_tree = tree(tmp_path, files)

    assert openrlhf.read(files_tree)["openrlhf-sft"] == {
        "actor.adam.lr": Key("float", "1e-06"),
        "critic.adam.lr": Key("float", "1e-06"),
        "bf16": Key("bool", "false"),
    }
    assert specforge.read(files_tree)["specforge"]["data.size"] == Key("int", "268435456")
    recipe = torchtune.read(files_tree)["torchtune"]
    assert (recipe["batch_size"], recipe["clip"]) == (Key(""), Key("bool", "true"))
    assert torchtitan.read(files_tree)["torchtitan"] == {
        "training.steps": Key("", "10"),
        "training.compile": Key("bool", "false"),
    }


def test_defaults_of_one_program_hold_for_no_other(tmp_path):
    text = (
        "class ModelArguments:\n    rank: int = 8\n    dtype: str = 'a'\n"
        "class DPOAlignerArguments:\n    steps: int = 100\n"
        "class InferencerArguments:\n    dtype: str = 'b'\n"
    )

    found = lmflow.read(tree(tmp_path, {"src/lmflow/args.py": text}))["lmflow"]

    assert found == {"rank": Key("int", "8"), "dtype": Key("str"), "steps": Key("int")}


def test_xtuner_says_configurations_that_differ_in_the_model_once(tmp_path):
    text = """
from mmengine.optim import AmpOptimWrapper
from torch.optim import AdamW
from xtuner.model import SupervisedFinetune
name = "{}"
model = dict(type=SupervisedFinetune, llm=dict(pretrained_model_name_or_path=name))
train_dataloader = dict(batch_size=2, dataset=dict(type="ConcatDataset", datasets=[dict(max_length=64), dict()]))
optim_wrapper = dict(type=AmpOptimWrapper, optimizer=dict(type=AdamW, weight_decay=0))
"""
    files = {f"xtuner/configs/{name}/{name}_full.py": text.format(f"org/{name}") for name in ("a", "b")}

    table = xtuner.whole(tree(tmp_path, files))["frameworks/xtuner_configs.tsv"]

    form, *named = [line for line in table.splitlines() if not line.startswith("#")]
    assert named == ["a_full\t1\torg/a", "b_full\t1\torg/b"]
    assert form == (
        '1\t{"model":{"llm":{"pretrained_model_name_or_path":"@"},"type":"SupervisedFinetune"},'
        '"optim_wrapper":{"type":"AmpOptimWrapper"},"train_dataloader":{"batch_size":2,"dataset":{"max_length":64}}}'
    )


def test_drift_leaves_alone_what_comes_from_elsewhere_or_an_open_table_takes():
    table = "\n".join(
        (
            "a\t\t2.0\t\tint\t1\t",
            "b.c\t\t\t\tint\t\t",
            "kept\t\t\t\tint\t\tby hand, from a script",
            "d\t2.0\t\t\tint\t3\t",
        )
    )
    declared = {"a": Key("int", "1"), "b": Key("dict"), "b.*": Key("Any")}

    assert refreshed(table, declared, "1.0", ("by hand",))[1] == ["+ b dict"]
    assert refreshed(table, declared, "2.0", ("by hand",))[1] == ["- d", "+ a int 1", "+ b dict"]
    assert is_older(table, "1.0")
    assert not is_older(table, "2.0")
