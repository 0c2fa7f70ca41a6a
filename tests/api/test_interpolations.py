"""Arguments of trainers in files that OmegaConf or Hydra reads."""

from __future__ import annotations

from tests.surfaces.frameworks.explained import Explained, line, values

ARGUMENTS = """\
_target_: trl.SFTConfig
max_length: ${max_length}
per_device_train_batch_size: ${batch_size}
per_device_eval_batch_size: ${.per_device_train_batch_size}
gradient_accumulation_steps: ${oc.decode:${oc.env:STEPS,8}}
bf16: ${is_bf16}
optim: ${optim}
max_grad_norm: 1.0
"""


def test_what_other_files_say_is_not_known_and_of_no_wrong_type(explained: Explained) -> None:
    assert explained.findings("configs/training_arguments/sft.yaml", ARGUMENTS, "") == []


def test_what_the_file_itself_says_is_read_there(explained: Explained) -> None:
    own = "max_length: 512\nbatch_size: 4\nis_bf16: true\noptim: sgd\n"
    job = explained.job("args.yaml", ARGUMENTS.replace("max_length: ${max_length}\n", "") + own)

    assert values(job, "micro_batch_size", "gradient_accumulation_steps", "bf16", "optimizer") == {
        "micro_batch_size": 4, "gradient_accumulation_steps": 8, "bf16": True, "optimizer": "sgd",
    }  # fmt: skip
    assert line(job, "micro_batch_size") == 9
