"""Adapters merged after training."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from tests.memory.runs import llama
from vramlint.api import Hardware, SourceFile, Surroundings, lint
from vramlint.engine.loader import load_rules
from vramlint.job import Adapter, Batch, Job, Precision, Quantization
from vramlint.memory import simulate
from vramlint.settings import Settings

WIDE, HIDDEN = 704, 256
LARGEST = WIDE * HIDDEN
"""Elements of the largest adapted matrix."""


def phases(job: Job) -> dict[str, int]:
    return {phase.phase: phase.allocated for phase in simulate(job, reserved=False).phases}


def merging(job: Job, *, targets: tuple[str, ...] = ("q_proj", "up_proj")) -> int:
    """Bytes above what is there between two steps."""
    merged = phases(replace(job, adapter=Adapter(8, 0.0, targets, merged=True)))["merging"]
    rest = simulate(replace(job, adapter=Adapter(8, 0.0, targets)), reserved=False)
    held = {"weights", "buffers", "quantization constants", "optimizer states"}
    return merged - sum(part.bytes for part in rest.components if part.name in held)


def test_nothing_is_merged_unless_asked_for():
    assert "merging" not in phases(llama(adapter=Adapter(8, 0.0, ("q_proj",))))


def test_a_dense_weight_takes_the_product_twice():
    assert merging(llama(precision=Precision("float32"))) == 2 * 4 * LARGEST


def test_the_largest_adapted_weight_decides():
    assert merging(llama(precision=Precision("float32")), targets=("q_proj",)) == 2 * 4 * HIDDEN * HIDDEN


def test_a_quantized_weight_is_there_in_every_form():
    job = llama(precision=Precision("bfloat16"), quantization=Quantization("nf4", False, "bfloat16", True))
    code = 512  # 16 float32 values, rounded
    packed = LARGEST // 2 + LARGEST // 64 * 4 + code
    assert merging(job) == 2 * LARGEST + 4 * LARGEST + 2 * 4 * LARGEST + packed


def test_merging_can_be_the_peak_of_a_run():
    config = {"intermediate_size": 16384, "hidden_size": 4096, "num_hidden_layers": 1}
    job = llama(config, precision=Precision("bfloat16"), batch=Batch(1, 16))
    estimate = simulate(replace(job, adapter=Adapter(8, 0.0, ("up_proj",), merged=True)), reserved=False)

    assert estimate.peak_phase == "merging"
    assert sum(part.bytes for part in estimate.components) == estimate.allocated


SCRIPT = """\
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, Trainer, TrainingArguments

model = AutoModelForCausalLM.from_pretrained("openai-community/gpt2", torch_dtype="float32")
model = get_peft_model(model, LoraConfig(r=8, target_modules=["c_attn"]))
args = TrainingArguments(output_dir="out", per_device_train_batch_size=1)
trainer = Trainer(model=model, args=args, train_dataset=dataset)
BEFORE
trainer.train()
AFTER
"""


def merges(before: str, after: str) -> bool:
    text = SCRIPT.replace("BEFORE", before).replace("AFTER", after)
    source = SourceFile("train.py", "python", text.encode(), explicit=True)
    (job,) = lint([source], Settings(), load_rules(), Surroundings(hardware=Hardware("t4"))).jobs
    assert job.high is not None
    return any(phase.phase == "merging" for phase in job.high.phases)


def test_a_script_that_merges_after_training_says_so():
    assert merges("", "model = model.merge_and_unload()")
    assert not merges("model = model.merge_and_unload()", "")
    assert not merges("", "")


def test_a_model_in_training_mode_has_not_trained():
    assert not merges("model.train()\nmodel = model.merge_and_unload()", "")


@pytest.mark.parametrize(
    ("after", "here"),
    [
        ("model = model.cpu().merge_and_unload()", False),
        ('model.to("cpu")\nmodel.merge_and_unload()', False),
        ('model.to("cuda")\nmodel.merge_and_unload()', True),
        ('model.save_pretrained("out")\ntrainer.model.merge_and_unload()', True),
        ('AutoModelForCausalLM.from_pretrained("out").merge_and_unload()', False),
        ('model = PeftModel.from_pretrained(other, "out")\nmodel.merge_and_unload()', False),
    ],
)
def test_what_is_merged_on_the_host_or_loaded_anew_is_not_the_trained_model(after: str, here: bool):
    assert merges("", after) is here
