"""From launchers to jobs, over files in memory."""

from __future__ import annotations

import json
import posixpath
from collections.abc import Mapping
from typing import Any

import pytest

from vramlint.api import Hardware, SourceFile, Surroundings, lint
from vramlint.discovery.forms import form_of
from vramlint.engine.loader import load_rules
from vramlint.findings import JobReport, Report
from vramlint.readers import python
from vramlint.settings import Settings
from vramlint.text import Document

RULES = load_rules()

TRAIN = """\
import os
from dataclasses import dataclass, field
from transformers import AutoModelForCausalLM, HfArgumentParser, Trainer, TrainingArguments

@dataclass
class ModelArguments:
    model_name_or_path: str = field(default="openai-community/gpt2")
    block_size: int = field(default=512)

parser = HfArgumentParser((ModelArguments, TrainingArguments))
model_args, training_args = parser.parse_args_into_dataclasses()
model = AutoModelForCausalLM.from_pretrained(model_args.model_name_or_path, torch_dtype="bfloat16")
data = load().map(lambda x: tokenizer(x["text"], truncation=True, max_length=model_args.block_size))
Trainer(model=model, args=training_args, train_dataset=data).train()
"""
DS = '{"zero_optimization": {"stage": 3}, "bf16": {"enabled": true}, "train_micro_batch_size_per_gpu": "auto"}'


def check(files: Mapping[str, str], *given: str, alone: bool = False, gpu: str = "") -> Report:
    data = {path: text.encode() for path, text in files.items()}
    sources = [SourceFile(path, form_of(path), data[path], explicit=True) for path in given]

    def names(folder: str) -> list[str]:
        inside = [path for path in data if folder in (".", "") or path.startswith(f"{folder}/")]
        return sorted({posixpath.relpath(path, folder or ".").split("/")[0] for path in inside})

    around = Surroundings(load=data.get, names=names, around=lambda _: tuple(data), alone=alone, hardware=Hardware(gpu))
    return lint(sources, Settings(), RULES, around)


def facts(job: JobReport) -> dict[str, object]:
    return {fact.name: fact.value for fact in job.facts}


def place(job: JobReport, name: str) -> str:
    found = next(fact.place for fact in job.facts if fact.name == name)
    return f"{found.path}:{found.span.line}" if found else ""


def also(job: JobReport, name: str) -> list[str]:
    places = next(fact.also for fact in job.facts if fact.name == name)
    return [f"{found.path}:{found.span.line}" for found in places]


def test_places_that_say_the_same_and_words_that_pass_a_variable_on() -> None:
    run = """\
export CUDA_VISIBLE_DEVICES=0,1
MODEL=openai-community/gpt2
BS=4
torchrun --nproc_per_node 2 \\
    train.py --model_name_or_path $MODEL \\
    --per_device_train_batch_size $BS
"""
    (job,) = check({"run.sh": run, "train.py": TRAIN}, "run.sh").jobs
    assert (place(job, "world_size"), also(job, "world_size")) == ("run.sh:4", ["run.sh:1"])
    assert place(job, "micro_batch_size") == "run.sh:3"
    assert "run.sh:6" in also(job, "micro_batch_size")
    assert place(job, "model") == "run.sh:2"
    assert "run.sh:5" in also(job, "model")
    assert place(job, "parallelism") == "run.sh:4"


def test_the_launchers_flags_reach_the_script() -> None:
    files = {
        "scripts/run.sh": "BS=4\ntorchrun --nproc_per_node 8 train.py --per_device_train_batch_size $BS --bf16 True\n",
        "train.py": TRAIN,
    }
    (job,) = check(files, "scripts/run.sh").jobs
    assert job.name == "scripts/run.sh runs train.py"
    found = facts(job)
    assert (found["micro_batch_size"], found["precision"], found["world_size"]) == (4, "bf16-mixed", 8)
    assert place(job, "micro_batch_size") == "scripts/run.sh:1"
    assert found["sequence_length"] == 512
    assert job.status == "checked"


@pytest.mark.parametrize("given", ["run.sh", "train.py", "conf/ds.json"])
def test_the_job_is_found_from_any_of_its_files(given: str) -> None:
    files = {
        "run.sh": "deepspeed --num_gpus 4 train.py --deepspeed conf/ds.json --per_device_train_batch_size 2\n",
        "train.py": TRAIN,
        "conf/ds.json": DS,
    }
    (job,) = (job for job in check(files, given).jobs if job.kind == "training")
    assert job.name == "run.sh runs train.py + ds.json"
    assert facts(job)["zero_stage"] == 3
    zero = next(fact for fact in job.facts if fact.name == "zero_stage")
    assert [step.span.line for step in zero.through] == [1]


def test_a_models_config_finds_the_job_that_loads_it() -> None:
    config = {"model_type": "gpt2", "n_embd": 64, "n_layer": 2, "n_head": 2, "vocab_size": 100, "n_positions": 512}
    files = {
        "scripts/run.sh": "python src/train.py --model_name_or_path models/tiny\n",
        "src/train.py": TRAIN,
        "models/tiny/config.json": json.dumps(config),
    }
    (job,) = (job for job in check(files, "models/tiny/config.json").jobs if job.kind == "training")
    assert job.name == "scripts/run.sh runs src/train.py"
    assert facts(job)["model_type"] == "gpt2"


def test_several_launchers_are_several_jobs() -> None:
    files = {
        "a.sh": "python train.py --per_device_train_batch_size 1\n",
        "b.sh": "python train.py --per_device_train_batch_size 2\n"
        "for M in gpt2 gpt2-large; do python train.py --model_name_or_path $M; done\n",
        "train.py": TRAIN,
    }
    names = [job.name for job in check(files, "train.py").jobs]
    assert names == [
        "a.sh runs train.py",
        "b.sh:1 runs train.py",
        "b.sh:2 [M=gpt2] runs train.py",
        "b.sh:2 [M=gpt2-large] runs train.py",
    ]


def test_a_script_by_itself_stands_for_itself_or_comes_first() -> None:
    files = {"run.sh": "python train.py --per_device_train_batch_size 3\n", "train.py": TRAIN}
    assert [job.name for job in check(files, "train.py").jobs] == ["run.sh runs train.py"]
    assert [job.name for job in check(files, "train.py", alone=True).jobs] == ["train.py", "run.sh runs train.py"]
    assert [job.name for job in check({"train.py": TRAIN}, "train.py").jobs] == ["train.py"]


def test_a_script_that_another_script_starts_is_one_job() -> None:
    files = {
        "all.sh": "bash one.sh gpt2-large 4\n",
        "one.sh": "python train.py --model_name_or_path $1 --per_device_train_batch_size $2\n",
        "train.py": TRAIN,
    }
    (job,) = check(files, "all.sh", "one.sh", "train.py").jobs
    assert (facts(job)["model"], facts(job)["micro_batch_size"]) == ("gpt2-large", 4)
    (job,) = check({name: files[name] for name in ("one.sh", "train.py")}, "one.sh").jobs
    assert "positional argument 1 of one.sh" in next(fact.reason for fact in job.facts if fact.name == "model")
    assert job.status == "unresolved"


def test_a_deepspeed_json_that_the_launcher_writes_itself() -> None:
    files = {
        "run.sh": f"cat > ds.json <<'EOF'\n{DS}\nEOF\ndeepspeed train.py --deepspeed ds.json\n",
        "train.py": TRAIN,
    }
    report = check(files, "run.sh")
    assert facts(report.jobs[0])["zero_stage"] == 3
    assert place(report.jobs[0], "zero_stage") == "run.sh:2"


def test_a_job_file_declares_the_gpu() -> None:
    files = {
        "job.yaml": "resources:\n  accelerators: A100-80GB:8\nrun: |\n  torchrun --nproc_per_node 8 train.py\n",
        "train.py": TRAIN,
    }
    (job,) = check(files, "job.yaml").jobs
    assert job.gpu == "NVIDIA A100-SXM4-80GB"
    assert job.gpu_origin == "job.yaml:2"


def test_a_makefile_names_the_target() -> None:
    files = {
        "Makefile": "train:\n\tpython train.py --bf16 True\nlong:\n\tpython train.py --block_size 1024\n",
        "train.py": TRAIN,
    }
    assert [job.name for job in check(files, "Makefile").jobs] == [
        "Makefile (train) runs train.py",
        "Makefile (long) runs train.py",
    ]


@pytest.mark.parametrize(
    ("flags", "full"),
    [("--use_lora", False), ("--use_lora True --q_lora", False), ("--use_lora False --bf16", True), ("", True)],
)
def test_usual_flags_of_a_script_that_is_not_there_say_how_it_tunes(flags: str, full: bool) -> None:
    command = "python ../finetune.py --model_name_or_path gpt2 --output_dir out --per_device_train_batch_size 1"
    (job,) = check({"run.sh": f"{command} {flags}\n"}, "run.sh").jobs
    tuning = next(fact for fact in job.facts if fact.name == "tuning")
    assert ("full" in {candidate.value for candidate in tuning.candidates}) is full


def test_a_script_that_is_not_there_leaves_the_options_of_a_trainer() -> None:
    run = (
        "python /opt/code/finetune.py --model_name_or_path gpt2 --per_device_train_batch_size 2 --bf16 \\\n"
        "    --output_dir o --bits 4 --quant_type nf4 --cutoff_len 640\n"
    )
    (job,) = check({"run.sh": run}, "run.sh").jobs
    assert facts(job)["micro_batch_size"] == 2
    assert (facts(job)["quantization_bits"], facts(job)["sequence_length"]) == (4, 640)
    dtype = next(fact for fact in job.facts if fact.name == "load_dtype")
    assert "finetune.py is not in the project" in dtype.reason
    assert check({"run.sh": "python /opt/code/prepare.py --input x\n"}, "run.sh").jobs == ()
    strange = check({"run.sh": run.replace("--cutoff_len 640", "--eval_step 10")}, "run.sh")
    assert [finding.code for finding in strange.findings] == ["VRAM906"]


def test_a_script_that_hands_its_training_on() -> None:
    run = "python src/go.py --model_name_or_path gpt2 --per_device_train_batch_size 2 --output_dir o\n"
    given = "from tool.tuner import run_exp\n\nif __name__ == '__main__':\n    run_exp()\n"
    (job,) = check({"run.sh": run, "src/go.py": given}, "run.sh").jobs
    assert facts(job)["micro_batch_size"] == 2
    analysis = "from datasets import load_dataset\n\ndef main():\n    print(load_dataset('x'))\n\nmain()\n"
    assert check({"run.sh": run, "src/go.py": analysis}, "run.sh").jobs == ()


def test_environment_of_the_launcher_reaches_the_script() -> None:
    script = TRAIN.replace('"bfloat16"', 'os.environ.get("DTYPE", "float32")')
    (job,) = check({"run.sh": "export DTYPE=float16\npython train.py\n", "train.py": script}, "run.sh").jobs
    assert facts(job)["load_dtype"] == "float16"


def test_comments_of_launcher_and_script_declare() -> None:
    files = {
        "run.sh": "# vramlint: gpu=rtx4090\npython train.py\n",
        "train.py": f"# vramlint: micro-batch=2 gpu=rtx3090\n{TRAIN}",
    }
    (job,) = check(files, "run.sh").jobs
    assert job.gpu == "NVIDIA GeForce RTX 4090"


def test_settings_that_a_script_executes_belong_to_its_job() -> None:
    files = {
        "train.py": "import sys, torch\nbatch_size = 8\nexec(open(sys.argv[1]).read())\nmodel = torch.nn.Linear(8, 8)\n"
        "opt = torch.optim.AdamW(model.parameters())\nloss = model(torch.ones(batch_size, 8)).sum()\nloss.backward()\n"
        "opt.step()\n",
        "config/small.py": "batch_size = 32\n",
    }
    (job,) = check(files, "config/small.py").jobs
    assert job.name == "config/small.py runs train.py"
    assert facts(job)["micro_batch_size"] == 32


def test_a_script_with_a_syntax_error_is_told() -> None:
    report = check({"run.sh": "python train.py\n", "train.py": "def f(:\n  Trainer()\n"}, "run.sh")
    assert any(finding.name == "syntax-error" and finding.place.path == "train.py" for finding in report.findings)


def test_a_launcher_that_starts_itself_ends() -> None:
    files = {"run.sh": "bash run.sh\npython train.py\n", "train.py": TRAIN}
    assert len(check(files, "run.sh").jobs) == 1


def test_of_a_package_the_main_module_runs() -> None:
    files = {
        "run.sh": "torchrun -m tool.train --model_name_or_path openai-community/gpt2-medium\n",
        "tool/__init__.py": "",
        "tool/train/__init__.py": "",
        "tool/train/__main__.py": TRAIN,
    }
    (job,) = check(files, "run.sh").jobs
    assert job.name == "run.sh runs tool/train/__main__.py"
    assert facts(job)["model"] == "openai-community/gpt2-medium"


def test_turns_that_start_the_same_are_one_job() -> None:
    script = """\
for liger in True False; do
  for i in 1 2 3; do
    python train.py --use_liger_kernel $liger --per_device_train_batch_size 4
    sleep $i
  done
done
"""
    jobs = check({"bench.sh": script, "train.py": TRAIN}, "bench.sh").jobs
    assert [job.name for job in jobs] == [f"bench.sh:3 [liger={word}] runs train.py" for word in ("True", "False")]


def test_a_script_that_is_run_several_times_is_told_apart_by_who_runs_it() -> None:
    files = {
        "all.sh": "bash one.sh 4\nbash one.sh 8\nbash two.sh\n",
        "one.sh": "\n\npython train.py --per_device_train_batch_size $1\n",
        "two.sh": "python train.py --bf16 True\npython train.py --fp16 True\n",
        "train.py": TRAIN,
    }
    names = [job.name.removesuffix(" runs train.py") for job in check(files, "all.sh").jobs]
    assert names == ["all.sh:1", "all.sh:2", "all.sh:3 through two.sh:1", "all.sh:3 through two.sh:2"]


def test_a_test_that_a_workflow_runs_is_no_job() -> None:
    workflow = """\
on: push
jobs:
  gpu:
    runs-on: ubuntu-latest
    steps:
      - run: torchrun --nproc_per_node 2 tests/test_training.py
      - run: torchrun --nproc_per_node 2 -m tests.test_training
      - run: python train.py --bf16 True
"""
    files = {".github/workflows/ci.yml": workflow, "tests/test_training.py": TRAIN, "train.py": TRAIN}
    (job,) = check(files, ".github/workflows/ci.yml").jobs
    assert job.name.endswith("runs train.py")


LIBRARY = """\
import deepspeed

class Strategy:
    def prepare(self, model, optimizer):
        return deepspeed.initialize(model=model, optimizer=optimizer, config={"zero_optimization": {"stage": 2}})[0]

    def backward(self, loss, model):
        model.backward(loss)
"""


def test_definitions_of_a_step_without_a_model_are_no_run() -> None:
    (job,) = check({"strategy.py": LIBRARY}, "strategy.py").jobs
    assert (job.status, job.kind) == ("skipped", "library")
    (job,) = check({"train.py": f"{LIBRARY}\nmain()\n"}, "train.py").jobs
    assert job.status == "unresolved"


def test_cells_of_a_notebook_start_jobs_with_what_they_write() -> None:
    cells = [
        ["%env DTYPE=float16\n"],
        ["%%writefile ds.json\n", DS],
        ["!deepspeed --num_gpus 2 train.py --deepspeed ds.json --per_device_train_batch_size 4\n"],
    ]
    code = [{"cell_type": "code", "metadata": {}, "outputs": [], "source": source} for source in cells]
    notebook = json.dumps({"cells": code, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}, indent=1)
    script = TRAIN.replace('"bfloat16"', 'os.environ.get("DTYPE", "float32")')
    jobs = check({"run.ipynb": notebook, "train.py": script}, "run.ipynb").jobs
    (job,) = (job for job in jobs if job.kind == "training")
    found = facts(job)
    assert (found["zero_stage"], found["world_size"], found["micro_batch_size"]) == (3, 2, 4)
    assert found["load_dtype"] == "float16"


def test_findings_name_the_jobs_that_they_are_about() -> None:
    big = "--model_name_or_path meta-llama/Llama-2-70b-hf"
    files = {
        "a.sh": f"# vramlint: gpu=rtx3090\npython train.py {big}\n",
        "b.sh": "# vramlint: gpu=rtx3090\npython train.py\n",
        "train.py": TRAIN,
    }
    report = check(files, "train.py")
    (finding,) = (finding for finding in report.findings if finding.name == "exceeds-gpu-memory")
    assert finding.jobs == ("a.sh runs train.py",)


def test_one_cause_in_many_jobs_is_one_finding_that_names_them() -> None:
    run = "deepspeed --num_gpus 4 train.py --deepspeed ds.json"
    files = {"a.sh": run, "b.sh": run, "train.py": TRAIN, "ds.json": DS.replace("}, ", '}, "gradient_clippin": 1, ', 1)}
    found = [finding for finding in check(files, "train.py").findings if finding.name == "unknown-deepspeed-key"]
    assert len(found) == 1


def test_a_command_of_trl_loads_as_its_model_config_says() -> None:
    run = "trl sft --model_name_or_path Qwen/Qwen2.5-0.5B --dataset_name x --max_length 512{more}\n"
    (job,) = check({"run.sh": run.format(more="")}, "run.sh").jobs
    assert facts(job)["load_dtype"] == "float32"
    (job,) = check({"run.sh": run.format(more=" --dtype bfloat16")}, "run.sh").jobs
    assert facts(job)["load_dtype"] == "bfloat16"


RECIPE = (
    "model_name_or_path: gpt2-medium\nper_device_train_batch_size: 2\nbf16: true\noutput_dir: out\nblock_size: 256\n"
)


def test_a_recipe_that_a_launcher_names_is_part_of_its_job() -> None:
    loads = TRAIN.replace(
        "parser.parse_args_into_dataclasses()", "parser.parse_yaml_file(yaml_file=os.path.abspath(sys.argv[1]))"
    ).replace("import os", "import os, sys")
    files = {"run.sh": "torchrun --nproc_per_node 2 train.py recipes/a.yaml\n", "train.py": loads}
    files["recipes/a.yaml"] = RECIPE + "per_device_train_batch_sise: 4\n"
    report = check(files, "run.sh", "recipes/a.yaml")
    (job,) = report.jobs
    assert (facts(job)["model"], facts(job)["micro_batch_size"], facts(job)["sequence_length"]) == (
        "gpt2-medium",
        2,
        256,
    )
    assert place(job, "micro_batch_size") == "recipes/a.yaml:2"
    assert "unknown-training-argument" in {finding.name for finding in report.findings}
    assert [job.name for job in check(files, "recipes/a.yaml").jobs] == ["run.sh runs train.py"]


def test_a_program_that_only_starts_another_is_no_job_itself() -> None:
    launcher = 'import subprocess\n\nsubprocess.run(["python", "train.py", "--bf16", "True"], check=True)\n'
    (job,) = check({"launch.py": launcher, "train.py": TRAIN}, "launch.py").jobs
    assert job.name == "launch.py runs train.py"


RECIPE_SCRIPT = """\
from trl import ModelConfig, ScriptArguments, SFTConfig, SFTTrainer, TrlParser, get_peft_config

script, training, model = TrlParser((ScriptArguments, SFTConfig, ModelConfig)).parse_args_and_config()
SFTTrainer(model.model_name_or_path, args=training, train_dataset=data, peft_config=get_peft_config(model)).train()
"""


def test_a_recipe_that_the_launcher_is_given_is_why_nothing_is_known() -> None:
    files = {"run.sh": "python train.py --config $1 --max_length 512\n", "train.py": RECIPE_SCRIPT}
    (job,) = check(files, "run.sh").jobs
    found = {fact.name: fact for fact in job.facts}
    assert found["sequence_length"].value == 512
    for name in ("model", "tuning", "load_dtype", "micro_batch_size"):
        assert "positional argument 1 of run.sh" in found[name].reason, name
        assert found[name].origin.value in ("unknown", "assumed")


@pytest.mark.parametrize(
    "start", ["torchrun -m train --", "torchrun --standalone train.py --", "accelerate launch train.py --"]
)
def test_dashes_between_program_and_arguments_are_the_launchers(start: str) -> None:
    (job,) = check({"run.sh": f"{start} --per_device_train_batch_size=16\n", "train.py": TRAIN}, "run.sh").jobs
    assert facts(job)["micro_batch_size"] == 16


def test_a_projects_own_script_is_no_example_of_transformers() -> None:
    run = "python run_clm.py --model_name_or_path gpt2 --per_device_train_batch_size 2 --output_dir out\n"
    own = "from tool import write\n\nwrite('not a training script')\n"
    assert check({"run.sh": run, "run_clm.py": own}, "run.sh").jobs == ()
    (job,) = check({"run.sh": run}, "run.sh").jobs
    assert facts(job)["objective"] == "sft"


def test_a_model_in_the_home_directory() -> None:
    run = "python train.py --model_name_or_path ~/models/gpt2\n"
    (job,) = check({"run.sh": run, "train.py": TRAIN}, "run.sh").jobs
    assert facts(job)["model"] == "~/models/gpt2"


@pytest.mark.parametrize(
    ("folder", "found"), [("$MODELS/Llama-2-7b-hf", True), ("~/models/gpt2/", True), ("$OUT/checkpoint-500", False)]
)
def test_a_folder_of_which_the_end_is_known_may_name_the_model(folder: str, found: bool) -> None:
    run = f"python train.py --model_name_or_path {folder} --per_device_train_batch_size 1\n"
    (job,) = check({"run.sh": run, "train.py": TRAIN}, "run.sh").jobs
    assert ("model" not in job.unresolved) is found
    reason = next(fact.reason for fact in job.facts if fact.name == "model")
    assert found or "no model of the catalog has the name of that folder" in reason


def test_a_file_that_accelerates_file_names_is_reached_from_the_launcher() -> None:
    files = {
        "run.sh": "accelerate launch --num_processes 4 \\\n  --config_file acc.yaml train.py\n",
        "acc.yaml": "distributed_type: DEEPSPEED\ndeepspeed_config:\n  deepspeed_config_file: ds.json\n",
        "ds.json": DS,
        "train.py": TRAIN,
    }
    (job,) = check(files, "run.sh").jobs
    zero = next(fact for fact in job.facts if fact.name == "zero_stage")
    assert (zero.value, zero.place and zero.place.path) == (3, "ds.json")
    assert [(step.path, step.span.line) for step in zero.through] == [("acc.yaml", 3), ("run.sh", 2)]


def test_processes_that_torchrun_starts_are_replicas_however_many() -> None:
    run = "torchrun --nproc_per_node $(nvidia-smi -L | wc -l) train.py --bf16 True\n"
    (job,) = check({"run.sh": run, "train.py": TRAIN}, "run.sh").jobs
    found = {fact.name: [item.value for item in fact.candidates] for fact in job.facts}
    assert found["world_size"] == [1, 8]
    assert found["parallelism"] == ["none", "ddp"]


def test_an_option_that_says_to_train_is_not_lost_behind_evaluations() -> None:
    script = """\
import argparse
import torch
parser = argparse.ArgumentParser()
parser.add_argument("--do_train", action="store_true")
parser.add_argument("--task", default="evaluate")
parser.add_argument("--n", type=int, default=1)
args = parser.parse_args()
model = torch.nn.Linear(8, 8)
optimizer = torch.optim.AdamW(model.parameters())
if args.do_train or args.task == "fit":
    loss = model(torch.ones(4, 8)).sum()
    loss.backward()
    optimizer.step()
"""
    evaluations = "".join(f"python run.py --n {number}\n" for number in range(5))
    for option in ("--do_train", "--task fit", "--task=fit"):
        files = {"all.sh": f"{evaluations}python run.py {option}\n", "run.py": script}
        kinds = [job.kind for job in check(files, "all.sh").jobs]
        assert kinds == ["training"], option


def _started(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The scripts that are read for a launcher, as they are read."""
    started = []
    own = python.read_program

    def read_program(document: Document, *rest: Any, **more: Any) -> Any:
        if more.get("invocation") is not None:
            started.append(document.path)
        return own(document, *rest, **more)

    monkeypatch.setattr(python, "read_program", read_program)
    return started


def test_launchers_of_other_scripts_of_that_name_are_not_followed(monkeypatch: pytest.MonkeyPatch) -> None:
    files = {
        "a/train.py": TRAIN,
        "a/run.sh": "python train.py --output_dir out --per_device_train_batch_size 2\n",
        "b/train.py": TRAIN,
        "b/run.sh": "python train.py --output_dir out --per_device_train_batch_size 4\n",
        "c/main.py": "from a.train import *\n" + TRAIN,
        "c/run.sh": "# like train.py\npython main.py --output_dir out --per_device_train_batch_size 8\n",
    }
    started = _started(monkeypatch)
    report = check(files, "a/train.py")
    assert [job.name for job in report.jobs] == ["a/run.sh runs a/train.py", "c/run.sh runs c/main.py"]
    assert started == ["a/train.py", "c/main.py"]
    started.clear()
    assert len(check(files, *files).jobs) == 3
    assert started == ["a/train.py", "b/train.py", "c/main.py"]


def test_launchers_that_only_mention_a_shell_script_are_not_followed(monkeypatch: pytest.MonkeyPatch) -> None:
    mention = "# like run.sh\npython other.py --output_dir out\n"
    launchers = {"mention.sh": mention, "run.sh": "python train.py --bf16\n", "twice.sh": f"bash run.sh\n{mention}"}
    started = _started(monkeypatch)
    report = check({**launchers, "train.py": TRAIN, "other.py": TRAIN}, "run.sh")
    assert [job.name for job in report.jobs] == ["twice.sh:1 runs train.py"]
    assert set(started) == {"train.py"}


def test_a_launchers_other_scripts_are_not_read_and_still_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    files = {
        "train.py": TRAIN,
        "other.py": TRAIN,
        "data.py": "print('no training here')\n",
        "both.sh": "python data.py\npython train.py --output_dir out\npython other.py --output_dir out\n",
        "one.sh": "python data.py\npython train.py --output_dir out --bf16\n",
    }
    started = _started(monkeypatch)
    names = [job.name for job in check(files, "train.py").jobs]
    assert names == ["both.sh:2 runs train.py", "one.sh runs train.py"]
    assert started == ["train.py", "train.py"]
    assert set(names) < {job.name for job in check(files, *files).jobs}
