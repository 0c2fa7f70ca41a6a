from __future__ import annotations

from textwrap import dedent

import pytest

from vramlint.facts import Origin, Sheet
from vramlint.readers.python import read_program
from vramlint.surfaces import program_sheet
from vramlint.text import Document
from vramlint.values import Invocation, Scalar


def sheet(source: str) -> Sheet:
    program, problems = read_program(Document.of("train.py", dedent(source)), {})
    assert not problems
    assert program is not None
    return program_sheet(program)


def says(found: Sheet, name: str) -> object:
    fact = found.get(name)
    assert fact is not None, f"{name} is not said"
    assert fact.known, f"{name}: {fact.candidates} {fact.reason}"
    return fact.value


def line(found: Sheet, name: str) -> int:
    fact = found.get(name)
    assert fact is not None
    assert fact.place is not None
    return fact.place.span.line


def possible(found: Sheet, name: str) -> set[object]:
    fact = found.get(name)
    assert fact is not None
    return {candidate.value for candidate in fact.candidates}


TRAINER = """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, Trainer, TrainingArguments as TA

    BATCH = 4
    model = AutoModelForCausalLM.from_pretrained(
        "meta-llama/Llama-2-7b-hf",
        torch_dtype=torch.bfloat16,
        attn_implementation="flash_attention_2",
        device_map={"": 0},
    )
    model.config.use_cache = False
    args = TA(
        output_dir="out",
        per_device_train_batch_size=BATCH,
        gradient_accumulation_steps=BATCH * 2,
        bf16=True,
        optim="adamw_8bit",
        gradient_checkpointing=True,
        gradient_checkpointing_kwargs={"use_reentrant": False},
        deepspeed="ds_config.json",
    )
    trainer = Trainer(model=model, args=args, train_dataset=load())
    trainer.train()
"""


def test_a_plain_trainer() -> None:
    found = sheet(TRAINER)
    expected = {
        "run_kind": "training",
        "objective": "sft",
        "model": "meta-llama/Llama-2-7b-hf",
        "load_dtype": "bfloat16",
        "attention_implementation": "flash_attention_2",
        "device_map": "single",
        "use_cache": False,
        "micro_batch_size": 4,
        "gradient_accumulation_steps": 8,
        "bf16": True,
        "optimizer": "adamw_8bit",
        "activation_checkpointing": True,
        "checkpointing_reentrant": False,
        "tuning": "full",
        "loop": "trainer",
        "deepspeed_config": "ds_config.json",
    }
    assert {name: says(found, name) for name in expected} == expected
    assert [(link.kind, link.target) for link in found.links] == [("deepspeed", "ds_config.json")]
    assert line(found, "micro_batch_size") == 5
    ((name, table),) = found.tables
    assert name == "training-arguments"
    assert [entry.key for entry in table][:2] == ["output_dir", "per_device_train_batch_size"]


def test_qlora_with_a_trainer_of_trl() -> None:
    found = sheet("""
        import torch
        from peft import LoraConfig
        from transformers import AutoModelForCausalLM, BitsAndBytesConfig
        from trl import SFTConfig, SFTTrainer

        bnb = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.bfloat16)
        model = AutoModelForCausalLM.from_pretrained("mistralai/Mistral-7B-v0.1", quantization_config=bnb)
        lora = LoraConfig(r=16, lora_alpha=32, target_modules=["q_proj", "v_proj"], use_dora=True)
        trainer = SFTTrainer(model=model, args=SFTConfig(max_length=2048, packing=True), peft_config=lora)
        trainer.train()
    """)
    expected = {
        "tuning": "qlora",
        "objective": "sft",
        "quantization_bits": 4,
        "quantization_type": "nf4",
        "quantization_compute_dtype": "bfloat16",
        "lora_r": 16,
        "lora_alpha": 32,
        "lora_target_modules": ("q_proj", "v_proj"),
        "use_dora": True,
        "sequence_length": 2048,
        "packing": True,
        "padding": False,
    }
    assert {name: says(found, name) for name in expected} == expected
    assert [name for name, _ in found.tables] == ["SFTConfig", "BitsAndBytesConfig", "LoraConfig"]


def test_preparation_for_kbit_training_turns_checkpointing_on() -> None:
    found = sheet("""
        from peft import LoraConfig, get_peft_model, prepare_model_for_int8_training
        from transformers import LlamaForCausalLM, Trainer, TrainingArguments

        model = LlamaForCausalLM.from_pretrained("llama-7b", load_in_8bit=True)
        model = prepare_model_for_int8_training(model)
        model = get_peft_model(model, LoraConfig(r=8))
        Trainer(model=model, args=TrainingArguments("out")).train()
    """)
    assert says(found, "tuning") == "lora"
    assert says(found, "quantization_bits") == 8
    assert says(found, "prepared_for_kbit") is True
    assert says(found, "activation_checkpointing") is True
    assert line(found, "activation_checkpointing") == 6


def test_the_model_may_be_named_to_the_trainer() -> None:
    found = sheet("""
        from trl import DPOConfig, DPOTrainer

        args = DPOConfig(max_length=1024, model_init_kwargs={"dtype": "bfloat16", "attn_implementation": "sdpa"})
        DPOTrainer(model="Qwen/Qwen2-0.5B", args=args).train()
    """)
    assert says(found, "model") == "Qwen/Qwen2-0.5B"
    fact = found.get("model")
    assert fact is not None
    assert fact.key == "model"
    assert says(found, "load_dtype") == "bfloat16"
    assert says(found, "attention_implementation") == "sdpa"
    assert says(found, "objective") == "dpo"
    assert says(found, "sequence_length") == 1024


def test_how_experts_are_computed_and_balanced() -> None:
    found = sheet("""
        from transformers import AutoModelForCausalLM, Trainer

        model = AutoModelForCausalLM.from_pretrained("Qwen/Qwen3-30B-A3B", experts_implementation="eager")
        model.config.output_router_logits = True
        Trainer(model=model).train()
    """)
    assert says(found, "experts_implementation") == "eager"
    assert says(found, "router_logits") is True


@pytest.mark.parametrize(
    ("trainer", "keys"),
    [
        ("transformers.Trainer(model=model, tokenizer=t)", ["tokenizer"]),
        ("transformers.Trainer(model=model, processing_class=t)", []),
        ("trl.SFTTrainer(model=model, packing=True, train_dataset=d)", ["packing"]),
        ("Own(model=model, tokenizer=t)", []),
    ],
)
def test_arguments_that_a_trainer_no_longer_takes(trainer: str, keys: list[str]) -> None:
    found = sheet(f"""
        import transformers, trl

        class Own(transformers.Trainer):
            pass

        model = transformers.AutoModelForCausalLM.from_pretrained("gpt2")
        {trainer}.train()
    """)
    dropped = [table for name, table in found.tables if name in {"Trainer", "SFTTrainer"}]
    assert [entry.key for table in dropped for entry in table] == keys


def test_casts_after_loading_decide_the_dtype() -> None:
    found = sheet("""
        from transformers import AutoModelForCausalLM, Trainer

        model = AutoModelForCausalLM.from_pretrained("gpt2").half().cuda()
        Trainer(model=model).train()
    """)
    assert says(found, "load_dtype") == "float16"
    assert [name for name, _ in found.tables] == ["training-arguments"]


def test_a_model_from_a_config_is_pretrained_from_scratch() -> None:
    found = sheet("""
        from transformers import GPT2Config, GPT2LMHeadModel, Trainer

        model = GPT2LMHeadModel(GPT2Config(n_layer=6, n_embd=384))
        Trainer(model=model).train()
    """)
    assert says(found, "objective") == "pretrain"
    table = dict(found.tables)["model-config"]
    assert {entry.key: getattr(entry.value, "value", None) for entry in table} == {
        "model_type": "gpt2",
        "n_layer": 6,
        "n_embd": 384,
    }


def test_a_config_that_is_read_from_a_file_is_no_config_with_that_name() -> None:
    found = sheet("""
        from litgpt import GPT, Config
        from transformers import Trainer

        def setup(folder):
            model = GPT(Config.from_file(folder / "model_config.yaml"))
            Trainer(model=model).train()
    """)
    assert "model-config" not in dict(found.tables)


def test_positions_that_only_run_time_knows_leave_the_checkpoint_what_it_is() -> None:
    found = sheet("""
        from transformers import AutoConfig, AutoModelForCausalLM, Trainer

        config = AutoConfig.from_pretrained("openai-community/gpt2")
        config.max_position_embeddings = max(config.max_position_embeddings, read_length())
        model = AutoModelForCausalLM.from_pretrained("openai-community/gpt2", config=config)
        Trainer(model=model).train()
    """)
    assert says(found, "model") == "openai-community/gpt2"


def test_what_is_asked_for_bounds_sequences_also_beside_the_tokenizers_own_bound() -> None:
    found = sheet("""
        from transformers import AutoModelForCausalLM, AutoTokenizer, Trainer

        tokenizer = AutoTokenizer.from_pretrained("openai-community/gpt2")
        block_size = min(512, tokenizer.model_max_length)

        def tokenize(rows):
            return tokenizer(rows["text"], truncation=True, max_length=block_size)

        data = load().map(tokenize)
        Trainer(model=AutoModelForCausalLM.from_pretrained("openai-community/gpt2"), train_dataset=data).train()
    """)
    assert says(found, "sequence_length") == 512


@pytest.mark.parametrize(
    ("loader", "objective"),
    [
        ("AutoModelForSequenceClassification", "seq-cls"),
        ("AutoModelForMaskedLM", "mlm"),
        ("AutoModelForTokenClassification", "token-cls"),
        ("T5ForConditionalGeneration", "seq2seq"),
        ("AutoModelForQuestionAnswering", "qa"),
    ],
)
def test_the_class_of_the_model_says_the_objective(loader: str, objective: str) -> None:
    found = sheet(f"""
        from transformers import {loader}, Trainer

        Trainer(model={loader}.from_pretrained("x/y")).train()
    """)
    assert says(found, "objective") == objective


def test_an_undecided_branch_gives_both_values() -> None:
    found = sheet("""
        import os
        from transformers import AutoModelForCausalLM, Trainer, TrainingArguments

        if os.environ.get("BIG"):
            batch = 1
        else:
            batch = 8
        model = AutoModelForCausalLM.from_pretrained("gpt2")
        Trainer(model=model, args=TrainingArguments("out", per_device_train_batch_size=batch)).train()
    """)
    assert possible(found, "micro_batch_size") == {1, 8}


def test_what_only_run_time_knows_is_unknown() -> None:
    found = sheet("""
        import sys
        from transformers import AutoModelForCausalLM, Trainer, TrainingArguments

        model = AutoModelForCausalLM.from_pretrained(sys.argv[1])
        Trainer(model=model, args=TrainingArguments("out", per_device_train_batch_size=int(sys.argv[2]))).train()
    """)
    for name in ("model", "micro_batch_size"):
        fact = found.get(name)
        assert fact is not None
        assert fact.origin is Origin.UNKNOWN
        assert fact.reason


def test_keywords_through_an_unseen_mapping_are_unknown() -> None:
    found = sheet("""
        import json
        from transformers import AutoModelForCausalLM, Trainer, TrainingArguments

        options = json.load(open("options.json"))
        model = AutoModelForCausalLM.from_pretrained("gpt2")
        Trainer(model=model, args=TrainingArguments("out", bf16=True, **options)).train()
    """)
    assert found.get("micro_batch_size") is not None
    assert found.get("micro_batch_size").origin is Origin.UNKNOWN  # type: ignore[union-attr]  # asserted above


def test_a_wrong_type_is_remarked_where_it_stands() -> None:
    found = sheet("""
        from transformers import AutoModelForCausalLM, Trainer, TrainingArguments

        args = TrainingArguments("out", per_device_train_batch_size="eight")
        Trainer(model=AutoModelForCausalLM.from_pretrained("gpt2"), args=args).train()
    """)
    (remark,) = found.remarks
    assert (remark.kind, remark.subject, remark.place.span.line) == ("wrong-type", "per_device_train_batch_size", 4)


LOOP = """
    import torch
    from torch.utils.data import DataLoader
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    model = AutoModelForSequenceClassification.from_pretrained("bert-base-cased")
    tokenizer = AutoTokenizer.from_pretrained("bert-base-cased")
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-5)
    train = DataLoader(data, shuffle=True, batch_size=16)
    evaluation = DataLoader(data, batch_size=32)

    def encode(batch):
        return tokenizer(batch["text"], truncation=True, padding="max_length", max_length=128)

    for batch in train:
        loss = model(**batch).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
"""


def test_a_hand_written_loop() -> None:
    found = sheet(LOOP)
    expected = {
        "run_kind": "training",
        "loop": "script",
        "objective": "seq-cls",
        "model": "bert-base-cased",
        "optimizer": "adamw_torch",
        "micro_batch_size": 16,
        "eval_micro_batch_size": 32,
        "gradient_accumulation_steps": 1,
        "sequence_length": 128,
        "padding": True,
        "bf16": False,
        "fp16": False,
        "max_grad_norm": 0,
        "activation_checkpointing": False,
        "tuning": "full",
    }
    assert {name: says(found, name) for name in expected} == expected


def test_an_accelerate_loop() -> None:
    found = sheet("""
        import bitsandbytes as bnb
        from accelerate import Accelerator
        from torch.utils.data import DataLoader
        from transformers import AutoModelForCausalLM

        accelerator = Accelerator(mixed_precision="bf16", gradient_accumulation_steps=4)
        model = AutoModelForCausalLM.from_pretrained("gpt2")
        model.gradient_checkpointing_enable()
        optimizer = bnb.optim.PagedAdamW8bit(model.parameters())
        loader = DataLoader(data, shuffle=True, batch_size=2)
        model, optimizer, loader = accelerator.prepare(model, optimizer, loader)
        for batch in loader:
            with accelerator.accumulate(model):
                loss = model(**batch).loss
                accelerator.backward(loss)
                accelerator.clip_grad_norm_(model.parameters(), 0.5)
                optimizer.step()
    """)
    expected = {
        "loop": "accelerate",
        "bf16": True,
        "fp16": False,
        "gradient_accumulation_steps": 4,
        "optimizer": "paged_adamw_8bit",
        "activation_checkpointing": True,
        "max_grad_norm": 0.5,
    }
    assert {name: says(found, name) for name in expected} == expected


def test_autocast_around_the_forward() -> None:
    found = sheet(
        LOOP.replace("loss = model", "with torch.autocast('cuda', dtype=torch.bfloat16):\n            loss = model")
    )
    assert says(found, "loop") == "plain"
    assert says(found, "bf16") is True
    assert says(found, "fp16") is False


def test_settings_of_an_adapter_that_is_off_are_shown_as_inactive() -> None:
    found = sheet("""
        from dataclasses import dataclass
        import transformers
        from peft import LoraConfig, get_peft_model

        @dataclass
        class Arguments(transformers.TrainingArguments):
            use_lora: bool = False
            model_max_length: int = 512

        @dataclass
        class Lora:
            lora_r: int = 64

        parser = transformers.HfArgumentParser((Arguments, Lora))
        args, lora = parser.parse_args_into_dataclasses()
        model = transformers.AutoModelForCausalLM.from_pretrained("gpt2")
        if args.use_lora:
            model = get_peft_model(model, LoraConfig(r=lora.lora_r))
        transformers.Trainer(model=model, args=args).train()
    """)
    assert says(found, "tuning") == "full"
    fact = found.get("lora_r")
    assert fact is not None
    assert (fact.value, fact.via) == (64, "dataclass-default")
    assert fact.reason.startswith("inactive")
    assert says(found, "sequence_length") == 512


def test_generation_alone_is_inference() -> None:
    found = sheet("""
        from transformers import AutoModelForCausalLM

        model = AutoModelForCausalLM.from_pretrained("gpt2")
        print(model.generate(max_new_tokens=20))
    """)
    assert says(found, "run_kind") == "inference"
    assert says(found, "model") == "gpt2"


def test_code_that_does_neither_is_a_library() -> None:
    assert says(sheet("def add(a, b):\n    return a + b\n"), "run_kind") == "library"


def test_two_trainers_give_the_values_of_both() -> None:
    found = sheet("""
        from transformers import AutoModelForCausalLM, Trainer, TrainingArguments

        model = AutoModelForCausalLM.from_pretrained("gpt2")
        first = Trainer(model=model, args=TrainingArguments("a", per_device_train_batch_size=2))
        first.train()
        second = Trainer(model=model, args=TrainingArguments("b", per_device_train_batch_size=4))
        second.train()
    """)
    assert possible(found, "micro_batch_size") == {2, 4}
    assert says(found, "model") == "gpt2"


def test_an_inline_deepspeed_dict_is_handed_on() -> None:
    found = sheet("""
        from transformers import AutoModelForCausalLM, Trainer, TrainingArguments

        ds = {"zero_optimization": {"stage": 3}}
        args = TrainingArguments("out", deepspeed=ds)
        Trainer(model=AutoModelForCausalLM.from_pretrained("gpt2"), args=args).train()
    """)
    tables = dict(found.tables)
    assert tables["deepspeed"].get("zero_optimization", "stage") is not None


def test_a_deepspeed_file_that_the_script_loads_is_linked() -> None:
    found = sheet("""
        import json
        from transformers import AutoModelForCausalLM, Trainer, TrainingArguments

        with open("zero3.json") as file:
            ds = json.load(file)
        args = TrainingArguments("out", deepspeed=ds)
        Trainer(model=AutoModelForCausalLM.from_pretrained("gpt2"), args=args).train()
    """)
    assert [link.target for link in found.links] == ["zero3.json"]


def test_attributes_assigned_after_training_are_not_the_runs() -> None:
    found = sheet("""
        from transformers import AutoModelForCausalLM, Trainer

        model = AutoModelForCausalLM.from_pretrained("gpt2", use_cache=False)
        trainer = Trainer(model=model)
        trainer.train()
        model.config.use_cache = True
    """)
    assert says(found, "use_cache") is False


def test_checkpointing_that_repeats_the_trainers_flag_says_nothing() -> None:
    found = sheet("""
        from transformers import AutoModelForCausalLM, HfArgumentParser, Trainer, TrainingArguments

        (training_args,) = HfArgumentParser(TrainingArguments).parse_args_into_dataclasses()
        model = AutoModelForCausalLM.from_pretrained("gpt2")
        if training_args.gradient_checkpointing:
            model.gradient_checkpointing_enable()
        Trainer(model=model, args=training_args).train()
    """)
    assert found.get("activation_checkpointing") is None


def test_inputs_and_labels_of_an_encoder_decoder() -> None:
    found = sheet("""
        from transformers import AutoModelForSeq2SeqLM, AutoTokenizer, Seq2SeqTrainer, Seq2SeqTrainingArguments

        tokenizer = AutoTokenizer.from_pretrained("t5-small")

        def encode(row):
            inputs = tokenizer(row["text"], max_length=512, truncation=True)
            inputs["labels"] = tokenizer(text_target=row["summary"], max_length=64, truncation=True)["input_ids"]
            return inputs

        model = AutoModelForSeq2SeqLM.from_pretrained("t5-small")
        Seq2SeqTrainer(model=model, args=Seq2SeqTrainingArguments("out")).train()
    """)
    assert says(found, "objective") == "seq2seq"
    assert says(found, "sequence_length") == 512
    assert says(found, "target_length") == 64


def test_a_decoder_gets_the_sum_of_source_and_target() -> None:
    found = sheet("""
        from dataclasses import dataclass
        from transformers import AutoModelForCausalLM, HfArgumentParser, Trainer, TrainingArguments

        @dataclass
        class Data:
            source_max_len: int = 1024
            target_max_len: int = 256

        data, args = HfArgumentParser((Data, TrainingArguments)).parse_args_into_dataclasses()
        Trainer(model=AutoModelForCausalLM.from_pretrained("gpt2"), args=args).train()
    """)
    assert says(found, "sequence_length") == 1280
    assert line(found, "sequence_length") == 7


def test_quantization_in_one_branch_only() -> None:
    found = sheet("""
        import os
        from peft import LoraConfig, get_peft_model
        from transformers import AutoModelForCausalLM, BitsAndBytesConfig, Trainer

        config = BitsAndBytesConfig(load_in_4bit=True) if os.environ.get("SMALL") else None
        model = AutoModelForCausalLM.from_pretrained("gpt2", quantization_config=config)
        model = get_peft_model(model, LoraConfig(r=4))
        Trainer(model=model).train()
    """)
    assert possible(found, "quantization_bits") == {4, 16}
    assert possible(found, "tuning") == {"qlora", "lora"}


def test_a_load_made_elsewhere_is_unknown_and_so_is_what_is_trained() -> None:
    found = sheet("""
        from helpers import build_model
        from transformers import Trainer

        Trainer(model=build_model()).train()
    """)
    for name in ("model", "tuning"):
        fact = found.get(name)
        assert fact is not None
        assert fact.origin is Origin.UNKNOWN


def test_parameters_frozen_by_an_unknown_test_leave_the_tuning_open() -> None:
    found = sheet("""
        from transformers import AutoModelForCausalLM, Trainer

        model = AutoModelForCausalLM.from_pretrained("gpt2")
        for layer in model.transformer.h[:6]:
            layer.requires_grad_(False)
        Trainer(model=model).train()
    """)
    fact = found.get("tuning")
    assert fact is not None
    assert fact.origin is Origin.UNKNOWN


def test_keys_of_arguments_that_no_trainer_takes_are_still_handed_on() -> None:
    found = sheet("""
        from transformers import TrainingArguments

        def arguments():
            return TrainingArguments("out", fp16="yes", gradient_acumulation_steps=2)
    """)
    assert says(found, "run_kind") == "library"
    ((name, table),) = found.tables
    assert name == "training-arguments"
    assert table.entry("gradient_acumulation_steps") is not None
    assert [remark.kind for remark in found.remarks] == ["wrong-type"]


def test_optimizers_given_to_the_trainer() -> None:
    found = sheet("""
        import torch
        from transformers import AutoModelForCausalLM, Trainer

        model = AutoModelForCausalLM.from_pretrained("gpt2")
        optimizer = torch.optim.AdamW(model.parameters(), fused=True)
        Trainer(model=model, optimizers=(optimizer, None)).train()
    """)
    assert says(found, "optimizer") == "adamw_torch_fused"


def test_what_an_optimizer_made_by_hand_is_given() -> None:
    found = sheet("""
        import torch
        from transformers import AutoModelForCausalLM

        model = AutoModelForCausalLM.from_pretrained("gpt2")
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=0.01, foreach=False)
        for batch in loader:
            model(**batch).loss.backward()
            optimizer.step()
    """)
    assert says(found, "optimizer") == "sgd"
    assert says(found, "optimizer_arguments") == "momentum=0.9,foreach=False"
    assert says(found, "weight_decay") == 0.01


@pytest.mark.parametrize(
    ("made", "name"),
    [
        ("bnb.optim.Adam(model.parameters())", "adamw_bnb_32bit"),
        ("bnb.optim.Adam(model.parameters(), optim_bits=8)", "adamw_bnb_8bit"),
        ("bnb.optim.AdEMAMix(model.parameters(), optim_bits=8)", "ademamix_8bit"),
        ("bnb.optim.PagedLion8bit(model.parameters())", "paged_lion_8bit"),
        ("lion_pytorch.Lion(model.parameters())", "lion_pytorch"),
        ("torchao.optim.AdamW4bit(model.parameters())", "torchao_adamw_4bit"),
        ("torch.optim.Adam(model.parameters())", "adamw_torch"),
    ],
)
def test_optimizers_of_other_packages(made: str, name: str) -> None:
    found = sheet(f"""
        import bitsandbytes as bnb
        import lion_pytorch
        import torch
        import torchao.optim
        from transformers import AutoModelForCausalLM

        model = AutoModelForCausalLM.from_pretrained("gpt2")
        optimizer = {made}
        for batch in loader:
            model(**batch).loss.backward()
            optimizer.step()
    """)
    assert says(found, "optimizer") == name


def test_optim_args_and_target_modules_of_training_arguments() -> None:
    found = sheet("""
        from transformers import AutoModelForCausalLM, Trainer, TrainingArguments

        model = AutoModelForCausalLM.from_pretrained("gpt2")
        args = TrainingArguments(
            output_dir="out",
            optim="galore_adamw",
            optim_args="rank=64, update_proj_gap=100",
            optim_target_modules=["attn", "mlp"],
            weight_decay=0.1,
        )
        Trainer(model=model, args=args).train()
    """)
    assert says(found, "optimizer_arguments") == "rank=64, update_proj_gap=100"
    assert says(found, "optimizer_target_modules") == ("attn", "mlp")
    assert says(found, "weight_decay") == 0.1


def test_bare_assignments_are_settings_for_another_script() -> None:
    found = sheet("batch_size = 64\nblock_size = 256\ngradient_accumulation_steps = 1\n")
    assert says(found, "run_kind") == "library"
    assert says(found, "micro_batch_size") == 64
    assert says(found, "sequence_length") == 256


def test_helpers_of_trl_with_their_flags_off_attach_and_quantize_nothing() -> None:
    found = sheet("""
        from trl import ModelConfig, SFTConfig, SFTTrainer, TrlParser, get_peft_config, get_quantization_config

        args, model_args = TrlParser((SFTConfig, ModelConfig)).parse_args_and_config()
        trainer = SFTTrainer(
            model="Qwen/Qwen2-0.5B",
            args=args,
            peft_config=get_peft_config(model_args),
            quantization_config=get_quantization_config(model_args),
        )
        trainer.train()
    """)
    assert says(found, "tuning") == "full"
    assert found.get("quantization_bits") is None


def test_many_trainers_in_one_file_are_no_run() -> None:
    trainer = 'Trainer(model="gpt2", args=TrainingArguments("out")).train()\n'
    source = "from transformers import Trainer, TrainingArguments\n" + "".join([trainer] * 13)
    assert says(sheet(source), "run_kind") == "library"


def test_a_loop_over_a_model_made_elsewhere_says_no_precision() -> None:
    found = sheet("""
        import torch
        from model import GPT

        batch_size = 12
        block_size = 1024
        model = GPT()
        optimizer = model.configure_optimizers()
        for step in range(10):
            loss = model()
            loss.backward()
            optimizer.step()
    """)
    assert says(found, "run_kind") == "training"
    assert says(found, "micro_batch_size") == 12
    assert says(found, "sequence_length") == 1024
    assert found.get("bf16") is None


def test_ligers_kernels_and_their_options() -> None:
    found = sheet("""
        from liger_kernel.transformers import apply_liger_kernel_to_llama
        from transformers import AutoModelForCausalLM, Trainer

        apply_liger_kernel_to_llama(rope=False, cross_entropy=True, fused_linear_cross_entropy=False)
        model = AutoModelForCausalLM.from_pretrained("gpt2")
        Trainer(model=model).train()
    """)
    assert says(found, "liger") is True
    assert says(found, "fused_loss") is False
    assert says(found, "liger_rope") is False
    assert says(found, "liger_cross_entropy") is True
    assert says(found, "liger_fused_head") is False


def test_the_trainers_config_of_liger() -> None:
    found = sheet("""
        from transformers import AutoModelForCausalLM, Trainer, TrainingArguments

        model = AutoModelForCausalLM.from_pretrained("gpt2")
        config = {"rms_norm": False, "fused_linear_cross_entropy": False}
        args = TrainingArguments(output_dir="out", use_liger_kernel=True, liger_kernel_config=config)
        Trainer(model=model, args=args).train()
    """)
    assert says(found, "fused_loss") is True
    assert says(found, "liger_rms_norm") is False
    assert says(found, "liger_fused_head") is False


def test_the_loss_of_the_sft_trainer() -> None:
    found = sheet("""
        from trl import SFTConfig, SFTTrainer

        args = SFTConfig("out", loss_type="chunked_nll", packing_strategy="wrapped", activation_offloading=True)
        SFTTrainer("gpt2", args=args).train()
    """)
    assert says(found, "loss_type") == "chunked_nll"
    assert says(found, "packing_strategy") == "wrapped"
    assert says(found, "activation_offloading") is True


def test_adapters_and_quantization_that_the_command_line_turns_on() -> None:
    text = dedent("""
        from trl import ModelConfig, SFTConfig, SFTTrainer, TrlParser, get_peft_config, get_quantization_config
        from transformers import AutoModelForCausalLM

        parser = TrlParser((SFTConfig, ModelConfig))
        args, model_args = parser.parse_args_and_config()
        model = AutoModelForCausalLM.from_pretrained(
            model_args.model_name_or_path, quantization_config=get_quantization_config(model_args)
        )
        SFTTrainer(model=model, args=args, peft_config=get_peft_config(model_args)).train()
    """)
    line = "--model_name_or_path gpt2 --use_peft --lora_r 4 --lora_target_modules all-linear --load_in_4bit true"
    words = tuple(Scalar(word) for word in line.split())
    program, _ = read_program(Document.of("train.py", text), {}, invocation=Invocation(words))
    assert program is not None
    found = program_sheet(program)
    expected = {
        "model": "gpt2",
        "tuning": "qlora",
        "lora_r": 4,
        "lora_alpha": 32,
        "lora_target_modules": "all-linear",
        "quantization_bits": 4,
        "quantization_type": "nf4",
        "double_quantization": False,
    }
    assert {name: says(found, name) for name in expected} == expected


def test_a_deepspeed_file_that_the_script_loads_stays_a_link() -> None:
    text = dedent("""
        import json
        from transformers import Trainer, TrainingArguments
        config = json.load(open("ds.json"))
        {change}
        Trainer(model=None, args=TrainingArguments("out", deepspeed=config)).train()
    """)
    file = Document.of("ds.json", '{"zero_optimization": {"stage": 2}}')

    def links(change: str) -> tuple[list[str], list[str]]:
        script = Document.of("train.py", text.format(change=change))
        program, _ = read_program(script, {}, files=lambda path: file if path == "ds.json" else None)
        assert program is not None
        found = program_sheet(program)
        return [link.target for link in found.links], [name for name, _ in found.tables if name == "deepspeed"]

    assert links("") == (["ds.json"], [])
    assert links('config["train_batch_size"] = 4') == ([], ["deepspeed"])


def test_keys_are_those_of_the_library_that_the_class_is_of() -> None:
    script = """\
    from {package} import DPOConfig, DPOTrainer
    args = DPOConfig(output_dir="out", pref_loss="sigmoid")
    DPOTrainer(model="openai-community/gpt2", args=args).train()
    """
    for package, checked in (("trl", True), ("trainer_of_others.dpo", False)):
        entries = dict(sheet(script.format(package=package)).tables)["DPOConfig"].entries
        assert all((entry.key_place is not None) is checked for entry in entries)


def test_a_trainer_that_only_evaluates_trains_nothing() -> None:
    script = """
    from transformers import AutoModelForCausalLM, Trainer, TrainingArguments
    model = AutoModelForCausalLM.from_pretrained("openai-community/gpt2")
    trainer = Trainer(model=model, args=TrainingArguments(output_dir="out"), eval_dataset=data)
    if {trains}:
        trainer.train()
    trainer.evaluate()
    """
    assert says(sheet(script.format(trains=False)), "run_kind") == "inference"
    assert says(sheet(script.format(trains=True)), "run_kind") == "training"
