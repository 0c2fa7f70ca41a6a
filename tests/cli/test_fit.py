"""`vramlint fit FILE`."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import SCRIPT, Run, on_processors
from vramlint.__main__ import main
from vramlint.api.planning import Planning
from vramlint.plans import Fitting


def test_a_plan_is_found_shown_made_and_then_it_fits(vramlint: Run, script: Path) -> None:
    content = json.loads(vramlint("fit", "train.py", "--gpu", "5GiB", "--format", "json").out)
    (job,) = content["jobs"]
    first = job["plans"][0]
    assert first["complete"]
    assert first["peak_bytes"] <= job["limit_bytes"] < job["need_bytes"]
    shown = vramlint("fit", "train.py", "--gpu", "5GiB", "--diff")
    assert script.read_text("utf-8") == SCRIPT
    assert [line[0] for line in shown.out.splitlines()[:2]] == ["-", "+"]
    assert vramlint("fit", "train.py", "--gpu", "5GiB", "--apply", "1").code == 0
    assert script.read_text("utf-8") != SCRIPT
    again = json.loads(vramlint("fit", "train.py", "--gpu", "5GiB", "--format", "json").out)["jobs"][0]
    assert (again["status"], again["need_bytes"]) == ("fits", first["peak_bytes"])
    assert "no plan to make: it fits" in vramlint("fit", "train.py", "--gpu", "5GiB", "--apply", "1").err


def test_a_program_with_escapes_that_python_warns_of_is_edited_in_silence(vramlint: Run, script: Path) -> None:
    script.write_text(SCRIPT.replace('output_dir="out"', r'output_dir="out\d"'), "utf-8")
    result = vramlint("fit", "train.py", "--gpu", "5GiB", "--format", "json")
    assert json.loads(result.out)["jobs"][0]["plans"][0]["complete"]
    assert result.err == ""


def test_where_nothing_fits_it_says_what_would(vramlint: Run, script: Path) -> None:
    result = vramlint("fit", "train.py", "--gpu", "1GiB")
    assert result.code == 1
    assert "nothing fits; nearest:" in result.out
    assert "with --allow lora" in result.out
    assert vramlint("fit", "train.py", "--gpu", "1GiB", "--allow", "lora").code == 0


def test_one_change_alone(vramlint: Run, script: Path) -> None:
    out = vramlint("fit", "train.py", "--gpu", "24GiB", "--why-not", "8bit-adam").out
    assert "8bit-adam (8-bit AdamW) alone takes " in out
    assert "the training's result: the optimizer's states have 8 bits" in out
    assert "the job fits without it" in out
    out = vramlint("fit", "train.py", "--gpu", "24GiB", "--why-not", "sdpa").out
    assert "sdpa: it does not apply: it takes eager attention" in out


@pytest.mark.parametrize(("setting", "now"), [("micro-batch", 4), ("seq-len", 512)])
def test_the_largest_value_that_fits(vramlint: Run, script: Path, setting: str, now: int) -> None:
    options = ("fit", "train.py", "--gpu", "8GiB", "--maximize", setting, "--format", "json")
    (job,) = json.loads(vramlint(*options).out)["jobs"]
    found = job["largest"]
    assert found["now"] == now < found["value"]
    if found["plan"] is not None:
        assert found["plan"]["peak_bytes"] <= job["limit_bytes"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((), "train.py: no GPU is declared: give --gpu"),
        (("--gpu", "rtx3900"), "did you mean"),
        (
            ("--gpu", "3GiB", "--allow", "qlorra"),
            "'qlorra' is none of seq-len, lora, qlora, gpus, did you mean 'qlora'?",
        ),
        (("--gpu", "3GiB", "--why-not", "8bit-adan"), "no change is called '8bit-adan', did you mean '8bit-adam'?"),
        (("--gpu", "3GiB", "--maximize", "lora-rank"), "train.py has no lora-rank"),
        (("--gpu", "3GiB", "--job", "other"), "no job is called 'other': train.py"),
        (("--gpu", "24GiB", "--apply", "9"), "no plan to make: it fits as it is"),
        (("--gpu", "3GiB", "--headroom", "95"), "'95' is no part between 0 and 1"),
    ],
)
def test_what_cannot_be_done_is_said_in_a_line(
    vramlint: Run, script: Path, options: tuple[str, ...], message: str
) -> None:
    result = vramlint("fit", "train.py", *options)
    assert result.code == 2
    assert message in result.err
    assert result.err.count("\n") == 1


@pytest.fixture
def launcher(tmp_path: Path, script: Path) -> Path:
    """Two jobs, both of the script with a size of its own."""
    script.write_text(
        "import argparse\nparser = argparse.ArgumentParser()\nparser.add_argument('--size', type=int)\n"
        "size = parser.parse_args().size\n"
        + SCRIPT.replace("per_device_train_batch_size=4", "per_device_train_batch_size=size"),
        "utf-8",
    )
    path = tmp_path / "two.sh"
    path.write_text("torchrun train.py --size 2\ntorchrun train.py --size 4\n", "utf-8")
    return path


def test_of_several_jobs_each_is_told_before_the_next_is_planned_for(
    vramlint: Run, launcher: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = vramlint("fit", "two.sh", "--gpu", "2GiB", "--output-file", "out.txt")
    assert (whole.code, whole.out) == (0, "")
    written: list[str] = []
    planned: list[tuple[int, str]] = []
    fitting = Planning.fitting

    def noted(planning: Planning) -> Fitting:
        planned.append((len(written), planning.run.name))
        return fitting(planning)

    monkeypatch.setattr(Planning, "fitting", noted)
    monkeypatch.setattr("vramlint.cli.processes._processors", lambda: 1)
    monkeypatch.setattr(sys.stdout, "write", written.append)
    assert main(["fit", "two.sh", "--gpu", "2GiB"]) == 0
    monkeypatch.undo()
    assert [count for count, _ in planned] == [0, 1]
    assert all(name in text for (_, name), text in zip(planned, written, strict=True))
    assert "".join(written) == launcher.with_name("out.txt").read_text("utf-8")


def test_several_jobs_are_planned_for_in_as_many_processes_with_the_same_result(launcher: Path) -> None:
    options = (launcher.parent, "fit", launcher.name, "--gpu", "2GiB")
    one, two = (on_processors(count, *options) for count in (1, 2))
    assert (one.code, one.err) == (0, "")
    assert one == two
    one, two = (on_processors(count, *options, "--format", "json") for count in (1, 2))
    assert json.loads(one.out) == json.loads(two.out)


def test_of_several_jobs_without_a_gpu_nothing_is_told(vramlint: Run, launcher: Path) -> None:
    result = vramlint("fit", "two.sh")
    assert (result.code, result.out) == (2, "")
    assert "no GPU is declared" in result.err


def test_of_several_jobs_one_is_chosen(vramlint: Run, launcher: Path) -> None:
    report = vramlint("fit", "two.sh", "--gpu", "24GiB", "--format", "json").out
    names = [job["name"] for job in json.loads(report)["jobs"]]
    assert len(names) == 2
    refused = vramlint("fit", "two.sh", "--gpu", "24GiB", "--apply", "1")
    assert refused.code == 2
    assert f"choose one with --job: {', '.join(names)}" in refused.err
    (job,) = json.loads(vramlint("fit", "two.sh", "--gpu", "24GiB", "--job", names[1], "--format", "json").out)["jobs"]
    assert job["name"] == names[1]


def test_a_file_without_a_run(vramlint: Run, tmp_path: Path) -> None:
    (tmp_path / "empty.yaml").write_text("a: 1\n", "utf-8")
    result = vramlint("fit", "empty.yaml", "--gpu", "3GiB")
    assert result.code == 2
    assert "no training run found" in result.err


def test_all_gpus_of_the_machine_share_the_model(vramlint: Run, tmp_path: Path, script: Path) -> None:
    (tmp_path / "run.sh").write_text("python train.py\n", "utf-8")
    options = ("fit", "run.sh", "--gpu", "2GiBx8")
    (job,) = json.loads(vramlint(*options, "--format", "json").out)["jobs"]
    first = job["plans"][0]
    names = [change["name"] for change in first["changes"]]
    assert {"all-gpus", "fsdp"} <= set(names)
    assert first["complete"]
    assert first["peak_of_edited_files_bytes"] == first["peak_bytes"] <= job["limit_bytes"] < job["need_bytes"]
    assert job["notes"] == []
    assert vramlint(*options, "--apply", "1").code == 0
    assert (tmp_path / "run.sh").read_text("utf-8") == "torchrun --nproc_per_node 8 train.py\n"
    assert 'fsdp="full_shard auto_wrap"' in script.read_text("utf-8")
    (again,) = json.loads(vramlint(*options, "--format", "json").out)["jobs"]
    assert (again["status"], again["need_bytes"]) == ("fits", first["peak_bytes"])


def test_where_no_plan_fits_it_says_how_many_gpus_would_do(vramlint: Run, tmp_path: Path, script: Path) -> None:
    script.write_text(SCRIPT.replace("gpt2", "gpt2-medium"), "utf-8")
    (tmp_path / "run.sh").write_text("python train.py\n", "utf-8")
    (job,) = json.loads(vramlint("fit", "run.sh", "--gpu", "1.5GiB", "--format", "json").out)["jobs"]
    assert (job["status"], job["allowed_gpus"]) == ("nothing", 2)
    assert "gpus" in job["allowances"]
    (job,) = json.loads(vramlint("fit", "run.sh", "--gpu", "1.5GiB", "--allow", "gpus", "--format", "json").out)["jobs"]
    first = job["plans"][0]
    assert first["complete"]
    assert "torchrun --nproc_per_node 2" in first["changes"][0]["description"]


def test_the_dictionary_that_deepspeed_is_given_is_edited(vramlint: Run, tmp_path: Path) -> None:
    loop = """\
import deepspeed
import torch
from transformers import AutoModelForCausalLM

model = AutoModelForCausalLM.from_pretrained("openai-community/gpt2", torch_dtype="float32")
config = {
    "train_micro_batch_size_per_gpu": 8,  # rows
    "zero_optimization": {
        "stage": 1,
    },
}
engine, _, loader, _ = deepspeed.initialize(model=model, model_parameters=model.parameters(), config=config)
for batch in loader:
    ids = torch.zeros(8, 512, dtype=torch.long)
    loss = engine(input_ids=ids, labels=ids).loss
    engine.backward(loss)
    engine.step()
# vramlint: sequence-length=512
"""
    (tmp_path / "loop.py").write_text(loop, "utf-8")
    options = ("fit", "loop.py", "--gpu", "4GiBx2", "--format", "json")
    first = json.loads(vramlint(*options).out)["jobs"][0]["plans"][0]
    assert first["complete"]
    assert vramlint(*options[:4], "--apply", "1").code == 0
    text = (tmp_path / "loop.py").read_text("utf-8")
    assert '        "stage": 2,\n        "offload_optimizer": {"device": "cpu"},\n    },\n' in text
    assert "# rows" in text
    assert json.loads(vramlint(*options).out)["jobs"][0]["need_bytes"] == first["peak_bytes"]


@pytest.mark.parametrize(("word", "name"), [("lora", "lora"), ("qlora", "qlora")])
def test_adapters_are_put_into_the_script(vramlint: Run, script: Path, word: str, name: str) -> None:
    options = ("fit", "train.py", "--gpu", "1GiB", "--allow", word)
    (job,) = json.loads(vramlint(*options, "--format", "json").out)["jobs"]
    first = job["plans"][0]
    assert name in [change["name"] for change in first["changes"]]
    assert first["complete"]
    assert vramlint(*options, "--apply", "1").code == 0
    assert "model = get_peft_model(" in script.read_text("utf-8")
    (again,) = json.loads(vramlint(*options, "--format", "json").out)["jobs"]
    assert (again["status"], again["need_bytes"]) == ("fits", first["peak_bytes"])


LOOP = """\
import torch
from accelerate import Accelerator
from torch.utils.data import DataLoader
from transformers import AutoModelForCausalLM

accelerator = Accelerator()
model = AutoModelForCausalLM.from_pretrained("openai-community/gpt2")
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5)
loader = DataLoader(dataset, batch_size=8)
model, optimizer, loader = accelerator.prepare(model, optimizer, loader)
for batch in loader:
    outputs = model(**batch)
    accelerator.backward(outputs.loss)
    optimizer.step()
    optimizer.zero_grad()
# vramlint: sequence-length=512
"""


def test_a_loop_by_hand_is_edited_as_far_as_calls_do_it(vramlint: Run, tmp_path: Path) -> None:
    (tmp_path / "loop.py").write_text(LOOP, "utf-8")
    report = vramlint("fit", "loop.py", "--gpu", "3GiB", "--format", "json").out
    changes = {change["name"]: change for plan in json.loads(report)["jobs"][0]["plans"] for change in plan["changes"]}
    assert not changes["8bit-optimizer"]["by_hand"]
    assert not changes["activation-checkpointing"]["by_hand"]
    assert all(change["by_hand"] for name, change in changes.items() if name.startswith("micro-batch"))


def test_gradients_are_accumulated_by_loops_that_ask_for_it(vramlint: Run, tmp_path: Path) -> None:
    head, body = LOOP.split("for batch in loader:\n")
    lines = body.splitlines(keepends=True)
    inside = "".join(f"    {line}" for line in lines[:-1])
    text = f"{head}for batch in loader:\n    with accelerator.accumulate(model):\n{inside}{lines[-1]}"
    (tmp_path / "loop.py").write_text(text, "utf-8")
    report = vramlint("fit", "loop.py", "--gpu", "4GiB", "--format", "json").out
    changes = {change["name"]: change for plan in json.loads(report)["jobs"][0]["plans"] for change in plan["changes"]}
    smaller = [change for name, change in changes.items() if name.startswith("micro-batch")]
    assert smaller
    assert not any(change["by_hand"] for change in smaller)


@pytest.mark.parametrize("gpu", ["2.5GiB", "2GiB"])
def test_a_framework_prepares_a_base_in_4_bits_its_own_way(vramlint: Run, tmp_path: Path, gpu: str) -> None:
    config = (
        "base_model: TinyLlama/TinyLlama-1.1B-Chat-v1.0\nsequence_len: 2048\nsample_packing: true\n"
        "micro_batch_size: 1\noptimizer: adamw_torch_fused\nbf16: auto\ngradient_checkpointing: true\n"
        "flash_attention: true\nadapter: lora\nlora_r: 16\nlora_target_linear: true\n"
    )
    (tmp_path / "a.yml").write_text(config, "utf-8")
    options = ("fit", "a.yml", "--gpu", gpu, "--allow", "qlora")
    (job,) = json.loads(vramlint(*options, "--format", "json").out)["jobs"]
    first = job["plans"][0]
    assert first["complete"]
    assert first["peak_bytes"] == first["peak_of_edited_files_bytes"] <= job["limit_bytes"]
    assert vramlint(*options, "--apply", "1").code == 0
    assert "adapter: qlora\n" in (tmp_path / "a.yml").read_text("utf-8")
    (again,) = json.loads(vramlint(*options, "--format", "json").out)["jobs"]
    assert (again["status"], again["need_bytes"]) == ("fits", first["peak_bytes"])
