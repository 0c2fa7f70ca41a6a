"""Casts of models that are on the GPU already."""

from __future__ import annotations

import pytest

from tests.surfaces.reading import line, says, sheet

SCRIPT = """
    import torch
    from accelerate import Accelerator
    from transformers import AutoModelForCausalLM, Trainer, TrainingArguments

    device = torch.device("cuda:0")
    accelerator = Accelerator()
    model = AutoModelForCausalLM.from_pretrained("gpt2"KEYWORDS)
    STATEMENT
    Trainer(model=model, args=TrainingArguments(output_dir="out"), train_dataset=rows).train()
"""


def script(statement: str, keywords: str = "") -> str:
    return SCRIPT.replace("STATEMENT", statement.replace("\n", "\n    ")).replace("KEYWORDS", keywords)


@pytest.mark.parametrize(
    ("statement", "keywords"),
    [
        ("model = model.to('cuda').half()", ""),
        ("model = model.to(device).to(torch.bfloat16)", ""),
        ("model.to(device=device)\nmodel.bfloat16()", ""),
        ("model.cuda()\nmodel = model.to(dtype=torch.float16)", ""),
        ("model.to(accelerator.device)\nmodel.half()", ""),
        ("model.to(0).half()", ""),
        ("model.half()", ", device_map='auto'"),
        ("model.half()", ", device_map={'': 0}"),
    ],
)
def test_a_cast_of_what_is_on_the_gpu(statement: str, keywords: str) -> None:
    found = sheet(script(statement, keywords))

    assert says(found, "cast_on_device") is True
    assert found.get("arrival_dtype") is None


@pytest.mark.parametrize(
    ("statement", "keywords"),
    [
        ("model = model.half().to('cuda')", ""),
        ("model = model.to('cuda', torch.float16)", ""),
        ("model = model.to('cuda', dtype=torch.float16)", ""),
        ("model.to('cpu')\nmodel.half()", ""),
        ("model.to(somewhere)\nmodel.half()", ""),
        ("model.half()", ", device_map='cpu'"),
        ("model.to('cuda')", ", dtype=torch.float32"),
        ("model.to('cuda')\nif flag():\n    model.half()", ""),
        ("if flag():\n    model.to('cuda')\nmodel.half()", ""),
        ("other.to('cuda').half()", ""),
    ],
)
def test_no_such_cast(statement: str, keywords: str) -> None:
    found = sheet(script(statement, keywords))

    assert found.get("cast_on_device") is None
    assert found.get("arrival_dtype") is None


def test_the_dtype_before_is_that_of_the_loader_or_of_an_earlier_cast() -> None:
    loaded = sheet(script("model.cuda()\nmodel.half()", ", torch_dtype=torch.float32"))
    earlier = sheet(script("model.float().cuda().half()", ", dtype=torch.bfloat16"))
    second = sheet(script("model.cuda().bfloat16().half()", ", dtype=torch.float32"))

    assert [says(found, "arrival_dtype") for found in (loaded, earlier, second)] == ["float32"] * 3
    assert line(loaded, "cast_on_device") == line(loaded, "arrival_dtype") + 2


@pytest.mark.parametrize(
    ("statement", "keywords", "here"),
    [
        ("model = FullyShardedDataParallel(model.to(rank).cuda())", "", True),
        ("model.to('cuda')\nmodel = FullyShardedDataParallel(model)", "", True),
        ("model.cuda()\nfully_shard(model)", "", True),
        ("fully_shard(model)", ", device_map={'': 0}", True),
        ("model = FullyShardedDataParallel(model, device_id=0)", "", False),
        ("fully_shard(model)\nmodel.to('cuda')", "", False),
        ("model.cuda()\nfully_shard(other)", "", False),
        ("model.cuda()", "", False),
    ],
)
def test_a_model_that_is_sharded_on_the_gpu(statement: str, keywords: str, here: bool) -> None:
    imports = "from torch.distributed.fsdp import FullyShardedDataParallel, fully_shard\n"
    found = sheet(script(imports + statement, keywords))

    assert (found.get("sharded_on_device") is not None) is here
    assert found.get("cast_on_device") is None


def test_a_model_that_is_cast_and_sharded_there() -> None:
    statement = "from torch.distributed.fsdp import fully_shard\nmodel.cuda().bfloat16()\nfully_shard(model)"
    found = sheet(script(statement, ", dtype=torch.float32"))

    assert says(found, "cast_on_device") is says(found, "sharded_on_device") is True
    assert says(found, "arrival_dtype") == "float32"
