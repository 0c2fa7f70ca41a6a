"""Every trial of a search that takes other memory is a job."""

from __future__ import annotations

import json
from textwrap import dedent

from tests.api.test_launching import check

_MODEL = 'AutoModelForCausalLM.from_pretrained("openai-community/gpt2", torch_dtype="bfloat16")'
_OPTUNA = dedent(
    f"""\
    import optuna
    from transformers import AutoModelForCausalLM, Trainer, TrainingArguments

    def objective(trial):
        size = trial.suggest_categorical("size", [1, 512])
        rate = trial.suggest_float("rate", 1e-5, 1e-3)
        args = TrainingArguments("out", per_device_train_batch_size=size, learning_rate=rate, bf16=True)
        data = load().map(lambda x: tokenizer(x["text"], truncation=True, max_length=512))
        Trainer({_MODEL}, args, train_dataset=data).train()

    optuna.create_study().optimize(objective)
    """
)
_TRAIN = dedent(
    f"""\
    import wandb
    from transformers import AutoModelForCausalLM, Trainer, TrainingArguments

    wandb.init(config={{"size": 8}})
    args = TrainingArguments("out", per_device_train_batch_size=wandb.config.size, bf16=True)
    data = load().map(lambda x: tokenizer(x["text"], truncation=True, max_length=512))
    Trainer({_MODEL}, args, train_dataset=data).train()
    """
)
_SWEEP = """\
program: train.py
method: bayes
parameters:
  size: {min: 1, max: 512}
  lr: {min: 0.00001, max: 0.001}
"""


def test_the_trial_that_does_not_fit_is_named() -> None:
    report = check({"tune.py": _OPTUNA}, "tune.py", gpu="rtx3090")

    assert [job.name for job in report.jobs] == ["tune.py [size=1]", "tune.py [size=512]"]
    (finding,) = [item for item in report.findings if item.code == "VRAM101"]
    assert finding.jobs == ("tune.py [size=512]",)


def test_a_sweep_is_a_job_for_each_end_of_its_ranges() -> None:
    report = check({"train.py": _TRAIN, "sweep.yaml": _SWEEP}, "sweep.yaml", gpu="rtx3090")

    names = [job.name for job in report.jobs]
    assert names == ["sweep.yaml runs train.py [size=1]", "sweep.yaml runs train.py [size=512]"]
    assert [item.jobs for item in report.findings if item.code == "VRAM101"] == [(names[1],)]


def test_a_grid_is_a_job_for_each_point() -> None:
    grid = _SWEEP.replace("{min: 1, max: 512}", "{values: [1, 2, 4]}")

    report = check({"train.py": _TRAIN, "sweep.yaml": grid}, "sweep.yaml")

    assert [job.name.partition("[")[2] for job in report.jobs] == ["size=1]", "size=2]", "size=4]"]


def test_a_search_that_takes_the_same_memory_is_one_job() -> None:
    text = _OPTUNA.replace("[1, 512]", "[4]")

    assert [job.name for job in check({"tune.py": text}, "tune.py").jobs] == ["tune.py"]


def test_a_sweep_of_a_frameworks_program() -> None:
    sweep = """\
program: main.py
method: grid
parameters:
  data.micro_batch_size_per_gpu: {values: [1, 8]}
  model.partial_pretrain: {value: Qwen/Qwen2.5-0.5B}
command: ["${env}", torchrun, "--nproc_per_node=1", "-m", "verl.trainer.fsdp_sft_trainer", "${args_no_hyphens}"]
"""

    report = check({"sweep.yaml": sweep}, "sweep.yaml")

    assert [job.name.partition("[")[2] for job in report.jobs] == [
        "data.micro_batch_size_per_gpu=1]",
        "data.micro_batch_size_per_gpu=8]",
    ]


def test_a_notebook_that_tunes() -> None:
    cells: list[dict[str, object]] = [
        {"cell_type": "code", "metadata": {}, "outputs": [], "execution_count": None, "source": source}
        for source in ("!pip install optuna", _OPTUNA)
    ]
    text = json.dumps({"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 5})

    report = check({"tune.ipynb": text}, "tune.ipynb")

    assert [job.name for job in report.jobs] == ["tune.ipynb [size=1]", "tune.ipynb [size=512]"]


def test_hydras_multirun() -> None:
    command = (
        "python -m verl.trainer.main_ppo --multirun actor_rollout_ref.model.path=Qwen/Qwen2.5-0.5B "
        "actor_rollout_ref.actor.ppo_micro_batch_size_per_gpu=1,8 actor_rollout_ref.actor.optim.lr=1e-6,1e-5\n"
    )

    report = check({"run.sh": command}, "run.sh")

    assert [job.name for job in report.jobs] == [
        "run.sh [actor_rollout_ref.actor.ppo_micro_batch_size_per_gpu=1]",
        "run.sh [actor_rollout_ref.actor.ppo_micro_batch_size_per_gpu=8]",
    ]
    alone = check({"run.sh": command.replace("--multirun ", "")}, "run.sh")
    assert [job.name for job in alone.jobs] == ["run.sh"]


def test_a_multirun_of_a_program_with_hydra() -> None:
    files = {
        "conf/config.yaml": "model: openai-community/gpt2\nbatch: 8\n",
        "train.py": dedent(
            """\
            import hydra
            from transformers import AutoModelForCausalLM, Trainer, TrainingArguments

            @hydra.main(config_path="conf", config_name="config")
            def main(cfg):
                model = AutoModelForCausalLM.from_pretrained(cfg.model)
                args = TrainingArguments("out", per_device_train_batch_size=cfg.batch, bf16=True)
                Trainer(model, args, train_dataset=load()).train()

            main()
            """
        ),
        "run.sh": "python train.py -m batch=4,16\n",
    }

    report = check(files, "run.sh")

    assert [job.name for job in report.jobs] == ["run.sh runs train.py [batch=4]", "run.sh runs train.py [batch=16]"]
