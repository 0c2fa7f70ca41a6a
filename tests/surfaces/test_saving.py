"""What programs gather of FSDP's state dicts, and where."""

from __future__ import annotations

import pytest

from tests.surfaces.reading import line, says, sheet

SCRIPT = """
    import torch
    from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict, get_state_dict
    from torch.distributed.fsdp import FullStateDictConfig, FullyShardedDataParallel as FSDP, StateDictType, fully_shard
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained("gpt2")
    model = WRAP
    optimizer = torch.optim.AdamW(model.parameters())
    for batch in loader:
        model(**batch).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    STATEMENT
"""


def script(statement: str, wrap: str = "FSDP(model)") -> str:
    return SCRIPT.replace("STATEMENT", statement.replace("\n", "\n    ")).replace("WRAP", wrap)


FULL = "with FSDP.state_dict_type(model, StateDictType.FULL_STATE_DICT{}):\n    state = model.state_dict()"
SET = "FSDP.set_state_dict_type(model, StateDictType.FULL_STATE_DICT, FullStateDictConfig({}))"
GATHERED = "state = get_model_state_dict(model, options=StateDictOptions({}))"


@pytest.mark.parametrize(
    ("statement", "host"),
    [
        ("torch.save(model.state_dict(), path)", False),
        (FULL.format(""), False),
        (FULL.format(", FullStateDictConfig()"), False),
        (FULL.format(", FullStateDictConfig(rank0_only=True)"), False),
        (FULL.format(", state_dict_config=FullStateDictConfig(offload_to_cpu=False)"), False),
        (FULL.format(", FullStateDictConfig(offload_to_cpu=True, rank0_only=True)"), True),
        (SET.format("True"), True),
        (SET.format("False"), False),
        (GATHERED.format("full_state_dict=True"), False),
        (GATHERED.format("True, False"), False),
        (GATHERED.format("full_state_dict=True, cpu_offload=True"), True),
        ("get_state_dict(model, optimizer, options=StateDictOptions(full_state_dict=True))", False),
    ],
)
def test_a_whole_state_dict(statement: str, host: bool) -> None:
    found = sheet(script(statement))

    assert says(found, "state_dict_on_host") is host
    assert line(found, "state_dict_on_host") >= line(found, "parallelism")


@pytest.mark.parametrize(
    ("statement", "wrap"),
    [
        ("pass", "FSDP(model)"),
        ("torch.save(optimizer.state_dict(), path)", "FSDP(model)"),
        ("with FSDP.state_dict_type(model, StateDictType.SHARDED_STATE_DICT):\n    model.state_dict()", "FSDP(model)"),
        (FULL.format(", FullStateDictConfig(**options)"), "FSDP(model)"),
        (FULL.format(", config"), "FSDP(model)"),
        (GATHERED.format(""), "FSDP(model)"),
        (GATHERED.format("full_state_dict=flag()"), "FSDP(model)"),
        ("get_model_state_dict(model)", "FSDP(model)"),
        ("torch.save(model.state_dict(), path)", "fully_shard(model)"),
        ("torch.save(model.state_dict(), path)", "model"),
    ],
)
def test_no_whole_state_dict_or_nobody_knows_where(statement: str, wrap: str) -> None:
    assert sheet(script(statement, wrap)).get("state_dict_on_host") is None
