"""Programs that hand their whole configuration to a framework's own function."""

from __future__ import annotations

import pytest

from tests.api.test_launching import check

_SWIFT = """\
from swift.llm import sft_main, TrainArguments
result = sft_main(TrainArguments(model="Qwen/Qwen2.5-7B-Instruct", train_type="lora", max_length=2048))
"""
_FACTORY = """\
from llamafactory.train.tuner import run_exp
args = dict(stage="sft", do_train=True, model_name_or_path="Qwen/Qwen2.5-7B-Instruct", finetuning_type="lora")
args["cutoff_len"] = 2048
args["bf16"] = True
run_exp(args)
"""


@pytest.mark.parametrize(("text", "kind"), [(_SWIFT, "ms-swift"), (_FACTORY, "llama-factory")])
def test_the_argument_is_the_configuration(text: str, kind: str):
    (job,) = check({"train.py": text}, "train.py").jobs
    facts = {fact.name: fact for fact in job.facts}
    assert job.recognised is not None
    assert job.recognised.kind == kind
    said = [facts[name].value for name in ("model", "tuning", "objective", "sequence_length", "bf16")]
    assert said == ["Qwen/Qwen2.5-7B-Instruct", "lora", "sft", 2048, True]
    place = facts["model"].place
    assert place is not None
    assert (place.path, place.span.line) == ("train.py", 2)


def test_a_launcher_starts_it():
    files = {"run.sh": "torchrun --nproc_per_node 2 train.py\n", "train.py": _SWIFT}
    (job,) = [job for job in check(files, "run.sh").jobs if job.status != "skipped"]
    facts = {fact.name: fact.value for fact in job.facts}
    assert (facts["world_size"], facts["parallelism"], facts["model"]) == (2, "ddp", "Qwen/Qwen2.5-7B-Instruct")


@pytest.mark.parametrize(
    "text", [_SWIFT + _SWIFT.replace("7B", "14B"), "from llamafactory import run_exp\nrun_exp()\n"]
)
def test_several_runs_and_the_command_line_are_no_configuration(text: str):
    assert all(job.recognised is None or job.recognised.kind == "python" for job in check({"a.py": text}, "a.py").jobs)
