"""Recipes of Megatron-Bridge and NeMo: what tools/surfaces works out of functions that it never calls."""

from __future__ import annotations

import json

import pytest

from tools.surfaces import bridge_recipes, nemo_recipes
from tools.surfaces.recipe_programs import made, recipe_lines
from tools.surfaces.trees import Folder
from vramlint.values import Scalar

COMMON = """
from megatron.bridge.training.config import ConfigContainer, OptimizerConfig, TrainingConfig
from megatron.bridge.peft.lora import LoRA

LONG: int = 16384

def _common():
    return ConfigContainer(
        model=None,
        train=TrainingConfig(global_batch_size=32, micro_batch_size=2, train_iters=10),
        optimizer=OptimizerConfig(optimizer="adam", lr=1e-4),
        peft=LoRA(dim=32, alpha=32),
        mixed_precision="bf16_mixed",
    )
"""
LLAMA = """
from megatron.bridge import AutoBridge
from megatron.bridge.peft.lora import LoRA
from megatron.bridge.recipes.common import LONG, _common
from megatron.bridge.training.mixed_precision import bf16_with_fp8_mixed

def llama_pretrain_8gpu_config():
    cfg = _common()
    cfg.model = AutoBridge.from_hf_pretrained("meta-llama/Llama-3.2-1B").get_model_config()
    cfg.model.seq_length = LONG
    cfg.model.tensor_model_parallel_size = 2
    cfg.model.virtual_pipeline_model_parallel_size = None
    cfg.ddp.use_megatron_fsdp = False
    cfg.mixed_precision = bf16_with_fp8_mixed()
    cfg.peft = None
    return cfg

def llama_peft_config(peft_scheme="lora"):
    cfg = llama_pretrain_8gpu_config()
    cfg.peft = LoRA(dim=8)
    return cfg

def needs_words_config(size):
    raise RuntimeError("never run")
"""


@pytest.fixture
def root(tmp_path):
    def write(path, text):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)

    write("megatron/bridge/recipes/common.py", COMMON)
    write("megatron/bridge/recipes/llama/h100/llama.py", LLAMA)
    write(
        "megatron/bridge/recipes/llama/llama.py",
        "from megatron.bridge.recipes.llama.h100.llama import llama_pretrain_8gpu_config as llama_pretrain_config\n",
    )
    write("nemo/collections/llm/recipes/base.py", BASE)
    write("nemo/collections/llm/recipes/tiny_1b.py", TINY)
    write("nemo/collections/llm/recipes/tiny_1b_16k.py", LONGER)
    write("nemo/collections/llm/peft/__init__.py", "from nemo.x import LoRA\nPEFT_STR2CLS = {'lora': LoRA}\n")
    return Folder(tmp_path)


def read(table):
    return {
        name: json.loads(body)
        for name, body in (line.split("\t") for line in table.splitlines() if not line.startswith("#"))
    }


def test_recipes_of_bridge_with_what_they_replace(root):
    (table,) = bridge_recipes.whole(root).values()

    pretrain = {
        "mixed_precision": "bf16_with_fp8_mixed",
        "model.hf_model": "meta-llama/Llama-3.2-1B",
        "model.seq_length": 16384,
        "model.tensor_model_parallel_size": 2,
        "optimizer.optimizer": "adam",
        "train.global_batch_size": 32,
        "train.micro_batch_size": 2,
    }
    assert read(table) == {
        "llama_peft_config": {**pretrain, "peft.dim": 8, "peft.type": "LoRA"},
        "llama_pretrain_8gpu_config": pretrain,
        "llama_pretrain_config": {"same": "llama_pretrain_8gpu_config"},
    }


BASE = """
import nemo_run as run
from nemo import lightning as nl

def trainer(devices=8, nodes=1):
    return run.Config(nl.Trainer, devices=devices, num_nodes=nodes, strategy=run.Config(nl.MegatronStrategy))

def resume(model_id):
    return run.Config(nl.AutoResume, restore_config=run.Config(nl.RestoreConfig, path=f"nemo://{model_id}"))
"""
TINY = """
import nemo_run as run
from nemo.collections.llm.gpt.model import TinyConfig, TinyModel
from nemo.collections.llm.peft import PEFT_STR2CLS
from nemo.collections.llm.recipes.base import resume, trainer

def model():
    return run.Config(TinyModel, config=run.Config(TinyConfig))

def pretrain_recipe(dir=None, num_nodes=2):
    return run.Partial(train, model=model(), trainer=trainer(nodes=num_nodes), data=run.Config(Mock, seq_length=2048))

def finetune_recipe(peft_scheme="lora"):
    recipe = run.Partial(tune, model=model(), trainer=trainer(), resume=resume("owner/tiny-1b"))
    if peft_scheme is None or peft_scheme.lower() == "none":
        recipe.trainer.strategy.tensor_model_parallel_size = 2
    elif peft_scheme.lower() in ["lora", "dora"]:
        recipe.peft = run.Config(PEFT_STR2CLS[peft_scheme.lower()])
        recipe.peft.dim = 8
    else:
        raise ValueError(peft_scheme)
    return recipe
"""
LONGER = """
import nemo_run as run
from nemo.collections.llm.recipes import tiny_1b

def pretrain_recipe():
    recipe = tiny_1b.pretrain_recipe(num_nodes=4)
    recipe.data = run.Config(Mock, seq_length=16384)
    return recipe
"""


def test_recipes_of_nemo_with_and_without_an_adapter(root):
    (table,) = nemo_recipes.whole(root).values()

    tiny = {"model.config.type": "TinyConfig", "model.id": "owner/tiny-1b", "trainer.devices": 8}
    assert read(table) == {
        "tiny_1b.finetune_recipe": {**tiny, "peft.dim": 8, "peft.type": "LoRA", "trainer.num_nodes": 1},
        "tiny_1b.finetune_recipe:none": {
            **tiny,
            "trainer.num_nodes": 1,
            "trainer.strategy.tensor_model_parallel_size": 2,
        },
        "tiny_1b.pretrain_recipe": {**tiny, "data.seq_length": 2048, "trainer.num_nodes": 2},
        "tiny_1b_16k.pretrain_recipe": {**tiny, "data.seq_length": 16384, "trainer.num_nodes": 4},
    }


def test_values_of_many_calls_come_in_several_programs(tmp_path):
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "numbers.py").write_text("def same(number):\n    return number\n")
    calls = {f"n{number}": f"package.numbers:same({number})" for number in range(20)}

    values = made(Folder(tmp_path), r"package\.\w+", calls)

    assert [value.value for value in values.values() if isinstance(value, Scalar)] == [*range(20)]


def test_recipes_that_say_the_same_name_the_first():
    assert [*recipe_lines({"b": {"x": 1}, "c": {"x": 2}, "a": {"x": 1}})] == [
        'a\t{"x":1}',
        'b\t{"same":"a"}',
        'c\t{"x":2}',
    ]
