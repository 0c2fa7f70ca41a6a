"""Facts of whole scripts, from bytes to the report: what only reader, surfaces and resolve together can get right."""

from __future__ import annotations

from textwrap import dedent

import pytest

from vramlint.api import Hardware, SourceFile, Surroundings, lint
from vramlint.engine.loader import load_rules
from vramlint.facts import Fact, Origin
from vramlint.findings import Report
from vramlint.settings import Settings

RULES = load_rules()
LLAMA = '"meta-llama/Llama-2-7b-hf"'


def check(source: str, hardware: Hardware | None = None, path: str = "train.py", **around: str) -> Report:
    disk = {name.replace("__", "/").replace("_dot_", "."): text.encode() for name, text in around.items()}
    file = SourceFile(path, "python", dedent(source).encode(), explicit=True)
    return lint([file], Settings(), RULES, Surroundings(load=disk.get, hardware=hardware or Hardware("")))


def fact(report: Report, name: str) -> Fact:
    found = next((item for item in report.jobs[0].facts if item.name == name), None)
    assert found is not None, f"{name} is not said"
    return found


def values(report: Report, name: str) -> set[object]:
    return {candidate.value for candidate in fact(report, name).candidates}


WORLD = f"""
    import os
    from transformers import AutoModelForCausalLM, Trainer, TrainingArguments
    steps, device_map = 32, "auto"
    world = int(os.environ.get("WORLD_SIZE", 1))
    if world != 1:
        steps = steps // world
        device_map = {{"": int(os.environ.get("LOCAL_RANK") or 0)}}
    model = AutoModelForCausalLM.from_pretrained({LLAMA}, device_map=device_map)
    Trainer(model=model, args=TrainingArguments("out", gradient_accumulation_steps=steps)).train()
"""


@pytest.mark.parametrize(
    ("hardware", "steps", "parallelism", "gpus"),
    [(Hardware(""), 32, "device_map", 1), (Hardware("a100-80gb", gpus_per_node=4), 8, "ddp", 4)],
)
def test_the_environment_of_the_launcher_follows_the_declared_world(
    hardware: Hardware, steps: int, parallelism: str, gpus: int
) -> None:
    report = check(WORLD, hardware)
    assert values(report, "gradient_accumulation_steps") == {steps}
    assert values(report, "parallelism") == {parallelism}
    assert values(report, "world_size") == {gpus}
    assert fact(report, "world_size").origin is Origin.ASSUMED


def test_a_model_on_the_gpu_of_its_process_is_launched() -> None:
    source = f"""
        import os
        from transformers import AutoModelForCausalLM, Trainer, TrainingArguments
        device = "cuda:" + str(os.getenv("LOCAL_RANK"))
        model = AutoModelForCausalLM.from_pretrained({LLAMA}, device_map={{"": device}})
        Trainer(model=model, args=TrainingArguments("out")).train()
    """
    assert values(check(source), "parallelism") == {"ddp"}


def test_a_script_may_set_the_world_size_itself() -> None:
    source = f"""
        import os
        from transformers import AutoModelForCausalLM, Trainer, TrainingArguments
        os.environ["WORLD_SIZE"] = "1"
        model = AutoModelForCausalLM.from_pretrained({LLAMA})
        Trainer(model=model, args=TrainingArguments("out", deepspeed={{"zero_optimization": {{"stage": 3}}}})).train()
    """
    found = fact(check(source), "world_size")
    assert (found.value, found.origin) == (1, Origin.WRITTEN)


SHARDED = f"""
    from transformers import AutoModelForCausalLM, AutoTokenizer, Trainer, TrainingArguments
    model = AutoModelForCausalLM.from_pretrained({LLAMA}, dtype="bfloat16")
    tokenizer = AutoTokenizer.from_pretrained({LLAMA}, model_max_length=512)
    args = TrainingArguments("out", per_device_train_batch_size=1, gradient_checkpointing=True, WAY)
    Trainer(model=model, args=args).train()
"""


@pytest.mark.parametrize("way", ['fsdp="full_shard"', 'deepspeed={"zero_optimization": {"stage": 3}}'])
def test_states_that_gpus_share_are_no_error_while_their_number_is_open(way: str) -> None:
    source = SHARDED.replace("WAY", way)
    report = check(source, Hardware("rtx3090"))
    assert values(report, "world_size") == {1, 8}
    assert "VRAM101" not in {finding.code for finding in report.findings}
    assert values(check(source, Hardware("rtx3090", gpus_per_node=2)), "world_size") == {2}


def test_versions_answer_questions_of_the_script() -> None:
    source = f"""
        import sys, torch
        from transformers import AutoModelForCausalLM, Trainer, TrainingArguments
        model = AutoModelForCausalLM.from_pretrained({LLAMA})
        if torch.__version__ >= "2" and sys.platform != "win32":
            model = torch.compile(model)
        Trainer(model=model, args=TrainingArguments("out")).train()
    """
    assert values(check(source), "torch_compile") == {True}


PARSED = f"""
    from transformers import AutoModelForCausalLM, HfArgumentParser, Trainer, TrainingArguments
    from trl import SFTConfig, SFTTrainer
    (args,) = HfArgumentParser(CLASS).parse_args_into_dataclasses()
    model = AutoModelForCausalLM.from_pretrained({LLAMA}, use_cache=not args.gradient_checkpointing)
    TRAINER(model=model, args=args).train()
"""


@pytest.mark.parametrize(
    ("name", "trainer", "cache"), [("TrainingArguments", "Trainer", True), ("SFTConfig", "SFTTrainer", False)]
)
def test_library_defaults_answer_by_the_class_that_has_them(name: str, trainer: str, cache: bool) -> None:
    source = PARSED.replace("CLASS", name).replace("TRAINER", trainer)
    assert values(check(source), "use_cache") == {cache}


def test_settings_may_come_from_another_file_of_the_project() -> None:
    source = """
        from transformers import AutoModelForCausalLM, HfArgumentParser, Trainer, TrainingArguments
        from shop.settings import LENGTH, ModelArguments
        model_args, args = HfArgumentParser((ModelArguments, TrainingArguments)).parse_args_into_dataclasses()
        model = AutoModelForCausalLM.from_pretrained(model_args.name)
        Trainer(model=model, args=args).train()
    """
    other = """
from dataclasses import dataclass, field

LENGTH = 512
raise SystemExit("only what binds a name that the script uses is of interest")

@dataclass
class ModelArguments:
    name: str = field(default="facebook/opt-125m")
"""
    report = check(source, path="shop/train.py", shop__settings_dot_py=other)
    model = fact(report, "model")
    assert model.value == "facebook/opt-125m"
    assert model.place is not None
    assert (model.place.path, model.place.span.line) == ("shop/settings.py", 9)
    assert report.documents["shop/settings.py"].slice(model.place.span) == '"facebook/opt-125m"'


@pytest.mark.parametrize("other", ["class (", "from shop.settings import ModelArguments", ""])
def test_a_file_that_cannot_be_imported_leaves_the_value_open(other: str) -> None:
    source = """
        from transformers import AutoModelForCausalLM, Trainer, TrainingArguments
        from .settings import ModelArguments
        model = AutoModelForCausalLM.from_pretrained(ModelArguments().name)
        Trainer(model=model, args=TrainingArguments("out")).train()
    """
    report = check(source, path="shop/train.py", shop__settings_dot_py=other)
    assert fact(report, "model").origin is Origin.UNKNOWN


def test_parameters_frozen_by_hand_leave_open_what_is_trained() -> None:
    source = f"""
        from transformers import AutoModelForCausalLM, AutoTokenizer, Trainer, TrainingArguments
        model = AutoModelForCausalLM.from_pretrained({LLAMA}, dtype="bfloat16")
        tokenizer = AutoTokenizer.from_pretrained({LLAMA}, model_max_length=512)
        for parameter in model.base_model.parameters():
            if chosen(parameter):
                parameter.requires_grad = False
        Trainer(model=model, args=TrainingArguments("out", per_device_train_batch_size=1)).train()
    """
    report = check(source, Hardware("rtx3090"))
    assert values(report, "tuning") == {"lora", "full"}
    assert [finding.code for finding in report.findings] == ["VRAM102"]
    assert report.jobs[0].unresolved == ("tuning",)


def test_a_frozen_body_keeps_no_activations() -> None:
    source = f"""
        from transformers import AutoModelForCausalLM, AutoTokenizer, Trainer, TrainingArguments
        model = AutoModelForCausalLM.from_pretrained({LLAMA}, dtype="bfloat16")
        tokenizer = AutoTokenizer.from_pretrained({LLAMA}, model_max_length=512)
        for parameter in model.base_model.parameters():
            parameter.requires_grad = False
        Trainer(model=model, args=TrainingArguments("out", per_device_train_batch_size=1)).train()
    """
    report = check(source, Hardware("rtx3090"))
    (job,) = report.jobs
    assert values(report, "tuning") == {"full"}
    assert not report.findings
    assert not job.unresolved


def test_functions_that_gather_the_linear_layers() -> None:
    source = f"""
        import bitsandbytes as bnb
        from peft import LoraConfig, get_peft_model
        from transformers import AutoModelForCausalLM, Trainer, TrainingArguments

        def gather(model):
            names = set()
            for name, module in model.named_modules():
                if isinstance(module, bnb.nn.Linear4bit):
                    names.add(name.split(".")[-1])
            names.discard("lm_head")
            return list(names)

        model = AutoModelForCausalLM.from_pretrained({LLAMA})
        model = get_peft_model(model, LoraConfig(target_modules=gather(model)))
        Trainer(model=model, args=TrainingArguments("out")).train()
    """
    assert values(check(source), "lora_target_modules") == {"all-linear"}


def test_a_long_context_is_no_length_that_anybody_trains_on() -> None:
    source = """
        from transformers import AutoModelForCausalLM, Trainer, TrainingArguments
        model = AutoModelForCausalLM.from_pretrained("meta-llama/Llama-3.1-8B")
        Trainer(model=model, args=TrainingArguments("out")).train()
    """
    found = fact(check(source), "sequence_length")
    assert {item.value for item in found.candidates} == {64, 8192}
    assert "the model takes up to 131072, 64 to 8192 tokens are assumed" in found.reason


def test_prompt_and_completion_bound_what_is_generated() -> None:
    source = """
        from trl import GRPOConfig, GRPOTrainer
        args = GRPOConfig("out", max_completion_length=1024, max_prompt_length=256)
        GRPOTrainer(model="Qwen/Qwen2.5-0.5B", reward_funcs=score, args=args, train_dataset=data).train()
    """
    assert values(check(source), "sequence_length") == {1280}
    assert values(check(source.replace(", max_prompt_length=256", "")), "sequence_length") == {1024 + 64, 1024 + 2048}


def test_dimensions_of_a_model_that_the_script_makes() -> None:
    source = """
        import argparse, torch
        from shop.model import GPT, GPTConfig
        parser = argparse.ArgumentParser()
        parser.add_argument("--depth", type=int, default=20)
        parser.add_argument("--batch_size", type=int, default=4)
        args = parser.parse_args()
        model = GPT(GPTConfig(n_layer=args.depth, n_head=args.depth // 2, n_embd=args.depth * 64))
        optimizer = torch.optim.AdamW(model.parameters())
        model(x).backward()
        optimizer.step()
    """
    report = check(source)
    assert [fact(report, name).value for name in ("layers", "attention_heads", "hidden_size")] == [20, 10, 1280]
    assert (fact(report, "objective").value, fact(report, "tuning").value) == ("pretrain", "full")


@pytest.mark.parametrize(
    ("model", "family"),
    [
        ("LlamaForCausalLM.from_pretrained(sys.argv[1])", "llama"),
        ('AutoModelForCausalLM.from_pretrained("shop/my-llama-2-7b-chat")', "llama"),
        ('AutoModelForCausalLM.from_pretrained("shop/blip2-opt-x")', "blip-2"),
    ],
)
def test_the_family_by_class_or_name(model: str, family: str) -> None:
    source = f"""
        import sys
        from peft import LoraConfig, get_peft_model
        from transformers import AutoModelForCausalLM, LlamaForCausalLM, Trainer, TrainingArguments
        model = get_peft_model({model}, LoraConfig(r=8))
        Trainer(model=model, args=TrainingArguments("out")).train()
    """
    report = check(source)
    assert values(report, "model_type") == {family}
    assert {"q_proj", "v_proj"} <= set(str(fact(report, "lora_target_modules").value).replace("'", " ").split())


def test_the_family_of_an_unlikely_name_stays_open() -> None:
    source = """
        from transformers import AutoModelForCausalLM, Trainer, TrainingArguments
        model = AutoModelForCausalLM.from_pretrained("shop/adoption")
        Trainer(model=model, args=TrainingArguments("out")).train()
    """
    assert all(item.name != "model_type" for item in check(source).jobs[0].facts)


def test_helpers_of_another_file_run_when_the_script_calls_them() -> None:
    source = """
        from transformers import Trainer, TrainingArguments
        from .helpers import create_model, unrelated
        model = create_model("openai-community/gpt2", r=4)
        Trainer(model=model, args=TrainingArguments("out")).train()
    """
    other = """
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, TrainingArguments

def adapted(model, r):
    return get_peft_model(model, LoraConfig(r=r)) if r > 2 else model

def create_model(name, r):
    return adapted(AutoModelForCausalLM.from_pretrained(name), r)

def unused():
    return TrainingArguments("other", per_device_train_batch_size=64)
"""
    report = check(source, path="shop/train.py", shop__helpers_dot_py=other)
    assert values(report, "tuning") == {"lora"}
    assert values(report, "micro_batch_size") == {8}
    place = fact(report, "lora_r").place
    assert place is not None
    assert (place.path, place.span.line) == ("shop/train.py", 4)


def test_the_launcher_of_a_recipe_may_share_the_model() -> None:
    recipe = b"""\
model_name_or_path: meta-llama/Llama-2-7b-hf
max_length: 512
output_dir: out
per_device_train_batch_size: 1
bf16: true
torch_dtype: bfloat16
"""
    file = SourceFile("recipe.yaml", "yaml", recipe, explicit=True)

    def found(hardware: Hardware) -> Report:
        return lint([file], Settings(), RULES, Surroundings(load=lambda _: None, hardware=hardware))

    report = found(Hardware("rtx3090"))
    assert (values(report, "world_size"), values(report, "parallelism")) == ({1, 8}, {"none", "fsdp"})
    assert "VRAM101" not in {finding.code for finding in report.findings}
    assert "VRAM101" in {finding.code for finding in found(Hardware("rtx3090", gpus_per_node=1)).findings}


def test_a_library_default_that_is_passed_on_is_not_written() -> None:
    source = f"""
        from transformers import AutoModelForCausalLM, Trainer, TrainingArguments
        args = TrainingArguments("out")
        model = AutoModelForCausalLM.from_pretrained({LLAMA}, use_cache=args.bf16)
        Trainer(model=model, args=args).train()
    """
    found = fact(check(source), "use_cache")
    assert (found.value, found.origin) == (False, Origin.DERIVED)
