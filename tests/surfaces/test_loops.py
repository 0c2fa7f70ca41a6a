from __future__ import annotations

from textwrap import dedent

import pytest

from tests.surfaces.reading import facts, line, possible, reason, says, sheet, table
from vramlint.facts import Origin
from vramlint.values import plain

LOOP = """
    import functools
    import torch
    from torch.distributed.fsdp import FullyShardedDataParallel as FSDP, MixedPrecision, ShardingStrategy, CPUOffload
    from torch.distributed.fsdp.wrap import transformer_auto_wrap_policy
    from torch.distributed.algorithms._checkpoint import checkpoint_wrapper as wrapping
    from torch.utils.data import DataLoader
    from transformers import AutoModelForCausalLM
    from transformers.models.opt.modeling_opt import OPTDecoderLayer

    class Training:
        def __init__(self, model, loader, optimizer, every=2):
            self.model, self.loader, self.optimizer = model, loader, optimizer
            self.every = every

        def epoch(self):
            for step, batch in enumerate(self.loader):
                loss = self.model(**batch).loss / self.every
                loss.backward()
                if (step + 1) % self.every == 0:
                    torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
                    self.optimizer.step()

    def worker(rank, world_size):
        model = AutoModelForCausalLM.from_pretrained("facebook/opt-1.3b")
        WRAPPED
        loader = DataLoader(rows, batch_size=4, shuffle=True)
        Training(model, loader, torch.optim.AdamW(model.parameters())).epoch()

    if __name__ == "__main__":
        torch.multiprocessing.spawn(worker, args=(8,), nprocs=8)
"""


def wrapped(statement: str) -> str:
    return LOOP.replace("WRAPPED", statement)


def test_a_loop_in_a_class_that_a_worker_makes() -> None:
    found = sheet(wrapped("model = torch.nn.parallel.DistributedDataParallel(model, gradient_as_bucket_view=True)"))
    assert facts(found, "run_kind", "model", "parallelism", "world_size", "optimizer") == {
        "run_kind": "training",
        "model": "facebook/opt-1.3b",
        "parallelism": "ddp",
        "world_size": 8,
        "optimizer": "adamw_torch",
    }
    assert facts(found, "gradient_accumulation_steps", "max_grad_norm", "micro_batch_size", "bf16") == {
        "gradient_accumulation_steps": 2,
        "max_grad_norm": 1.0,
        "micro_batch_size": 4,
        "bf16": False,
    }
    assert line(found, "gradient_accumulation_steps") == 12


def test_fsdp_with_everything() -> None:
    found = sheet(
        wrapped(
            "policy = functools.partial(transformer_auto_wrap_policy, transformer_layer_cls={OPTDecoderLayer}); "
            "model = FSDP(model, auto_wrap_policy=policy, mixed_precision=MixedPrecision(param_dtype=torch.bfloat16),"
            " sharding_strategy=ShardingStrategy.HYBRID_SHARD, cpu_offload=CPUOffload(offload_params=True)); "
            "wrapping.apply_activation_checkpointing(model, checkpoint_wrapper_fn=functools.partial("
            "wrapping.checkpoint_wrapper, checkpoint_impl=wrapping.CheckpointImpl.NO_REENTRANT))"
        )
    )
    assert facts(found, "parallelism", "fsdp", "fsdp_wrap_class", "bf16", "fp16") == {
        "parallelism": "fsdp",
        "fsdp": "hybrid_shard auto_wrap offload",
        "fsdp_wrap_class": "OPTDecoderLayer",
        "bf16": True,
        "fp16": False,
    }
    assert facts(found, "activation_checkpointing", "checkpointing_reentrant") == {
        "activation_checkpointing": True,
        "checkpointing_reentrant": False,
    }


def test_no_offload_where_the_flag_is_off() -> None:
    found = sheet(wrapped("model = FSDP(model, cpu_offload=CPUOffload(offload_params=False))"))
    assert says(found, "fsdp") == "full_shard"


def test_fsdp2() -> None:
    found = sheet(
        wrapped(
            "from torch.distributed.fsdp import fully_shard, MixedPrecisionPolicy; "
            "policy = MixedPrecisionPolicy(param_dtype=torch.bfloat16); "
            "fully_shard(model, mp_policy=policy, reshard_after_forward=False)"
        )
    )
    assert facts(found, "parallelism", "fsdp", "bf16", "fsdp_version") == {
        "parallelism": "fsdp",
        "fsdp": "shard_grad_op",
        "bf16": True,
        "fsdp_version": 2,
    }
    assert found.get("fsdp_layers_alone") is None
    assert found.get("fsdp_reduce_dtype") is None


def test_fsdp2_of_layers_and_the_rest() -> None:
    found = sheet(
        wrapped(
            "from torch.distributed.fsdp import CPUOffloadPolicy, fully_shard, MixedPrecisionPolicy; "
            "policy = MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32); "
            "[fully_shard(layer, mp_policy=policy, offload_policy=CPUOffloadPolicy()) for layer in model.blocks]; "
            "fully_shard(model, mp_policy=policy)"
        )
    )
    assert facts(found, "fsdp", "fsdp_version", "fsdp_layers_alone", "fsdp_reduce_dtype") == {
        "fsdp": "full_shard auto_wrap offload",
        "fsdp_version": 2,
        "fsdp_layers_alone": True,
        "fsdp_reduce_dtype": "float32",
    }


@pytest.mark.parametrize(
    ("call", "reentrant"),
    [("checkpoint(block, x, use_reentrant=False)", False), ("checkpoint(block, x, use_reentrant=True)", True)],
)
def test_checkpointing_by_hand(call: str, reentrant: bool) -> None:
    found = sheet(wrapped(f"torch.utils.checkpoint.{call}"))
    assert facts(found, "activation_checkpointing", "checkpointing_reentrant") == {
        "activation_checkpointing": True,
        "checkpointing_reentrant": reentrant,
    }


AUTOCAST = """
    import argparse
    import torch
    from transformers import AutoModelForCausalLM

    parser = argparse.ArgumentParser()
    parser.add_argument("--amp", type=bool)
    args = parser.parse_args()
    model = AutoModelForCausalLM.from_pretrained("gpt2")
    optimizer = torch.optim.AdamW(model.parameters())
    scaler = torch.cuda.amp.GradScaler()
    for batch in loader:
        with torch.autocast("cuda", ARGUMENTS):
            loss = model(**batch).loss
        scaler.scale(loss).backward()
        scaler.step(optimizer)
"""


def test_autocast_takes_float16_unless_told() -> None:
    found = sheet(AUTOCAST.replace(", ARGUMENTS", ""))
    assert facts(found, "fp16", "bf16", "loop") == {"fp16": True, "bf16": False, "loop": "plain"}


def test_autocast_that_is_switched_off_is_none() -> None:
    found = sheet(AUTOCAST.replace("ARGUMENTS", "enabled=False"))
    assert facts(found, "fp16", "bf16") == {"fp16": False, "bf16": False}


def test_autocast_under_an_unknown_flag() -> None:
    found = sheet(AUTOCAST.replace("ARGUMENTS", "dtype=torch.bfloat16, enabled=flags.amp"))
    assert reason(found, "bf16")


ACCELERATE = """
    import torch
    from accelerate import Accelerator, DataLoaderConfiguration, DeepSpeedPlugin, FullyShardedDataParallelPlugin
    from accelerate.utils import GradientAccumulationPlugin
    from torch.utils.data import DataLoader
    from transformers import AutoModelForCausalLM

    accelerator = Accelerator(ARGUMENTS)
    model = AutoModelForCausalLM.from_pretrained("facebook/opt-1.3b")
    optimizer = torch.optim.AdamW(model.parameters())
    loader = DataLoader(rows, batch_size=8, shuffle=True)
    model, optimizer, loader = accelerator.prepare(model, optimizer, loader)
    for batch in loader:
        with accelerator.accumulate(model):
            accelerator.backward(model(**batch).loss)
            if accelerator.sync_gradients:
                accelerator.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
"""


def accelerated(arguments: str) -> str:
    return ACCELERATE.replace("ARGUMENTS", arguments)


def test_an_accelerator_with_a_deepspeed_plugin() -> None:
    plugin = "DeepSpeedPlugin(zero_stage=3, offload_param_device='cpu', gradient_accumulation_steps=4)"
    found = sheet(accelerated(f"mixed_precision='bf16', deepspeed_plugin={plugin}"))
    assert facts(found, "loop", "bf16", "parallelism", "max_grad_norm", "micro_batch_size") == {
        "loop": "accelerate",
        "bf16": True,
        "parallelism": "deepspeed",
        "max_grad_norm": 1.0,
        "micro_batch_size": 8,
    }
    assert plain(table(found, "deepspeed")) == {
        "zero_optimization": {"stage": 3, "offload_param": {"device": "cpu"}},
        "gradient_accumulation_steps": 4,
    }


def test_an_accelerator_with_an_fsdp_plugin() -> None:
    options = "sharding_strategy='SHARD_GRAD_OP', transformer_cls_names_to_wrap=['OPTDecoderLayer']"
    plugin = f"FullyShardedDataParallelPlugin({options})"
    found = sheet(accelerated(f"mixed_precision='fp8', fsdp_plugin={plugin}"))
    assert facts(found, "parallelism", "fsdp", "fsdp_wrap_class", "fp8", "bf16") == {
        "parallelism": "fsdp",
        "fsdp": "shard_grad_op auto_wrap",
        "fsdp_wrap_class": "OPTDecoderLayer",
        "fp8": True,
        "bf16": False,
    }


def test_accumulation_by_a_plugin_of_its_own() -> None:
    found = sheet(accelerated("gradient_accumulation_plugin=GradientAccumulationPlugin(num_steps=6)"))
    assert says(found, "gradient_accumulation_steps") == 6


def test_a_batch_that_all_processes_share_leaves_the_micro_batch_open() -> None:
    found = sheet(accelerated("dataloader_config=DataLoaderConfiguration(split_batches=True)"))
    assert "share every batch" in reason(found, "micro_batch_size")


def test_an_engine_of_deepspeed_whose_configuration_the_command_line_names() -> None:
    found = sheet(
        """
        import argparse
        import deepspeed
        from transformers import AutoModelForCausalLM

        parser = deepspeed.add_config_arguments(argparse.ArgumentParser())
        args = parser.parse_args()
        model = AutoModelForCausalLM.from_pretrained("gpt2")
        engine, _, _, _ = deepspeed.initialize(args=args, model=model, model_parameters=model.parameters())
        for batch in loader:
            engine.backward(engine(**batch).loss)
            engine.step()
        """
    )
    assert facts(found, "parallelism", "model") == {"parallelism": "deepspeed", "model": "gpt2"}
    assert "--deepspeed_config" in reason(found, "deepspeed_config")


def test_embeddings_that_are_resized() -> None:
    known = sheet(
        accelerated("").replace("optimizer =", "model.resize_token_embeddings(50_300, 64)\n    optimizer =", 1)
    )
    assert says(known, "vocabulary_size") == 50_304
    size = "model.resize_token_embeddings(len(tokenizer))\n    optimizer ="
    assert reason(sheet(accelerated("").replace("optimizer =", size, 1)), "vocabulary_size")


def test_keys_of_the_config_that_the_script_sets() -> None:
    loaded = 'AutoModelForCausalLM.from_pretrained("facebook/opt-1.3b", num_hidden_layers=4)'
    found = sheet(accelerated("").replace('AutoModelForCausalLM.from_pretrained("facebook/opt-1.3b")', loaded))
    assert plain(table(found, "config-overrides")) == {"num_hidden_layers": 4}
    open_one = loaded.replace("=4", "=depth()")
    unknown = sheet(accelerated("").replace('AutoModelForCausalLM.from_pretrained("facebook/opt-1.3b")', open_one))
    assert "num_hidden_layers" in reason(unknown, "model")


def test_keys_that_the_config_gets_where_it_has_them() -> None:
    made = """config = AutoConfig.from_pretrained("facebook/opt-1.3b")
for key in ("dropout", "num_hidden_layers"):
    if hasattr(config, key):
        setattr(config, key, 2)
config.attention_dropout = measured()
model = AutoModelForCausalLM.from_pretrained("facebook/opt-1.3b", config=config)"""
    head = "from transformers import AutoConfig\n"
    plainly = 'model = AutoModelForCausalLM.from_pretrained("facebook/opt-1.3b")'
    source = dedent(accelerated(""))
    assert plainly in source
    found = sheet(head + source.replace(plainly, made))
    assert plain(table(found, "config-overrides")) == {"dropout": 2, "num_hidden_layers": 2}
    assert says(found, "model") == "facebook/opt-1.3b"


def test_a_step_under_no_test_follows_every_backward() -> None:
    assert says(sheet(AUTOCAST.replace(", ARGUMENTS", "")), "gradient_accumulation_steps") == 1
    assert possible(sheet(AUTOCAST.replace(", ARGUMENTS", "")), "max_grad_norm") == {0}


@pytest.mark.parametrize(
    ("plugin", "way"),
    [
        ("deepspeed_plugin=DeepSpeedPlugin(zero_stage=2)", "deepspeed"),
        ("fsdp_plugin=FullyShardedDataParallelPlugin()", "fsdp"),
    ],
)
def test_a_plugin_that_only_some_runs_have(plugin: str, way: str) -> None:
    found = sheet(accelerated(f"{plugin} if flags.large else None"))
    assert possible(found, "parallelism") == {way, None}


def test_compilation_by_a_plugin() -> None:
    plugin = "accelerate.utils.TorchDynamoPlugin(backend='inductor')"
    source = accelerated(f"dynamo_plugin={plugin}").replace("import torch\n", "import torch, accelerate\n", 1)
    assert says(sheet(source), "torch_compile") is True


def test_a_parameter_of_a_function_that_nothing_calls_is_the_setting_of_its_name() -> None:
    found = sheet(
        """
        import argparse
        import torch
        from torch.utils.data import DataLoader
        from transformers import AutoModelForCausalLM

        def real_data(rows, batch_size, seq_length):
            rows = tokenizer(rows, truncation=True, max_length=seq_length)
            return DataLoader(rows, batch_size=batch_size)

        parser = argparse.ArgumentParser()
        parser.add_argument("--batch_size", type=int, default=4)
        parser.add_argument("--seq_length", type=int, default=512)
        parser.add_argument("--real", action="store_true")
        args = parser.parse_args()
        model = AutoModelForCausalLM.from_pretrained("gpt2")
        optimizer = torch.optim.AdamW(model.parameters())
        rows = real_data(source, args.batch_size, args.seq_length) if args.real else torch.zeros(4, 512)
        model(rows).loss.backward()
        optimizer.step()
        """
    )
    assert facts(found, "micro_batch_size", "sequence_length") == {"micro_batch_size": 4, "sequence_length": 512}


def test_a_step_under_a_flag_that_counts_batches() -> None:
    found = sheet(
        """
        import torch
        from transformers import AutoModelForCausalLM

        model = AutoModelForCausalLM.from_pretrained("gpt2")
        optimizer = torch.optim.AdamW(model.parameters())
        done = 0
        for batch in loader:
            done += 1
            accumulating = done % 6 != 0
            model(batch).loss.backward()
            if not accumulating:
                optimizer.step()
        """
    )
    assert says(found, "gradient_accumulation_steps") == 6


def test_a_condition_on_the_whole_step_is_no_other_case_of_clipping() -> None:
    found = sheet("""
        import torch
        from transformers import AutoModelForCausalLM

        model = AutoModelForCausalLM.from_pretrained("openai-community/gpt2")
        optimizer = torch.optim.AdamW(model.parameters())
        for batch in read_batches():
            loss, used = collect(model, batch)
            if used > 0:
                loss.backward()
                torch.nn.utils.clip_grad_norm_(model.parameters(), 0.5)
                optimizer.step()
    """)
    assert says(found, "max_grad_norm") == 0.5


ENGINE = """
    import deepspeed
    from torch.utils.data import DataLoader
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained("facebook/opt-1.3b")
    loader = DataLoader(rows, batch_size=1, shuffle=True)
    engine, _, loader, _ = deepspeed.initialize(model=model, training_data=rows, config=CONFIG)
    for batch in loader:
        loss = engine(**batch).loss
        engine.backward(loss)
        engine.step()
"""


def test_an_engine_makes_the_loader_and_counts_steps() -> None:
    found = sheet(ENGINE.replace("CONFIG", '"ds.json"'))
    assert found.get("micro_batch_size") is None
    assert found.get("gradient_accumulation_steps") is None
    own = sheet(ENGINE.replace("training_data=rows, ", "").replace("CONFIG", '"ds.json"'))
    assert says(own, "micro_batch_size") == 1


def test_a_cast_in_the_branch_that_makes_the_model() -> None:
    found = sheet("""
    import os, torch
    from transformers import AutoConfig, AutoModelForCausalLM
    if int(os.environ["RANK"]) == 0:
        model = AutoModelForCausalLM.from_pretrained("facebook/opt-1.3b")
        model.to(dtype=torch.bfloat16, device="cpu")
    else:
        model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained("facebook/opt-1.3b"))
        model.to(torch.bfloat16)
    optimizer = torch.optim.AdamW(model.parameters())
    for batch in loader:
        model(**batch).loss.backward()
        optimizer.step()
    """)
    assert says(found, "load_dtype") == "bfloat16"


def test_a_search_for_a_batch_size_and_a_downloaded_repository() -> None:
    found = sheet("""
    import torch
    from accelerate import Accelerator
    from accelerate.utils import find_executable_batch_size
    from huggingface_hub import snapshot_download
    from torch.utils.data import DataLoader
    from transformers import AutoModelForSequenceClassification

    def train(name, batch_size=16):
        folder = snapshot_download(repo_id=name, cache_dir="cache")

        @find_executable_batch_size(starting_batch_size=batch_size)
        def inner(batch_size):
            accelerator = Accelerator()
            model = AutoModelForSequenceClassification.from_pretrained(folder)
            optimizer = torch.optim.AdamW(model.parameters())
            for batch in DataLoader(data, shuffle=True, batch_size=batch_size):
                accelerator.backward(model(**batch).loss)
                optimizer.step()

        inner()

    train("google-bert/bert-base-cased")
    """)
    assert says(found, "model") == "google-bert/bert-base-cased"
    assert reason(found, "micro_batch_size").startswith("accelerate looks for a batch size that fits")


def test_a_model_that_another_library_makes() -> None:
    found = sheet("""
    import timm, torch
    model = timm.create_model("resnet50d", pretrained=True)
    optimizer = torch.optim.AdamW(params=model.parameters())
    for batch in loader:
        model(batch).sum().backward()
        optimizer.step()
    """)
    assert "made by timm.create_model" in reason(found, "model")


SWITCHED = """
    from accelerate import Accelerator
    import torch
    from transformers import AutoModelForCausalLM

    accelerator = Accelerator(mixed_precision="fp16")
    model = AutoModelForCausalLM.from_pretrained("org/chat-16b", trust_remote_code=True)
    model.transformer.gradient_checkpointing = True
    optimizer = torch.optim.AdamW(model.parameters())
    model, optimizer, loader = accelerator.prepare(model, optimizer, loader)
    for batch in loader:
        accelerator.backward(model(**batch).loss)
        optimizer.step()
"""


def test_the_switch_of_a_module_and_what_accelerate_may_still_say() -> None:
    found = sheet(SWITCHED)
    assert says(found, "activation_checkpointing") is True
    steps = found.get("gradient_accumulation_steps")
    assert steps is not None
    assert (steps.value, steps.origin) == (1, Origin.ASSUMED)


def test_optimizers_of_packages_that_nobody_knows() -> None:
    found = sheet("""
    import colossalai
    from colossalai.nn.optimizer import HybridAdam
    from transformers import OPTForCausalLM
    parser = colossalai.get_default_parser()
    parser.add_argument("--model_name_or_path", default="facebook/opt-1.3b")
    args = parser.parse_args()
    model = OPTForCausalLM.from_pretrained(args.model_name_or_path)
    optimizer = HybridAdam(model.parameters(), lr=1e-5)
    for batch in loader:
        optimizer.backward(model(**batch).loss)
        optimizer.step()
    """)
    assert facts(found, "run_kind", "model") == {"run_kind": "training", "model": "facebook/opt-1.3b"}


def test_what_is_loaded_after_training_is_not_what_trains() -> None:
    found = sheet("""
    import torch
    from transformers import AutoModelForSequenceClassification
    model = AutoModelForSequenceClassification.from_pretrained("FacebookAI/roberta-large")
    optimizer = torch.optim.AdamW([{"params": [p for n, p in model.named_parameters() if "head" in n]}])
    for batch in loader:
        model(**batch).loss.backward()
        optimizer.step()
    again = AutoModelForSequenceClassification.from_pretrained("google-bert/bert-base-cased")
    """)
    assert says(found, "model") == "FacebookAI/roberta-large"


def test_the_shape_of_a_batch_from_a_loader_of_ones_own() -> None:
    text = """
    import torch

    class Lines:
        def __init__(self, B, T):
            self.B, self.T = B, T

        def next_batch(self):
            return rows[: self.B * self.T].view(self.B, self.T)

    B = 16  # micro batch size
    T = 512
    loader = Lines(B=B, T=T)
    model = torch.nn.Linear(8, 8)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    for step in range(10):
        loss = model(loader.next_batch()).sum()
        loss.backward()
        optimizer.step()
    """
    found = sheet(text)
    assert (says(found, "micro_batch_size"), says(found, "sequence_length")) == (16, 512)
    assert sheet(text.replace("T = 512", "T = length()")).get("micro_batch_size") is None


@pytest.mark.parametrize("package", ["colossalai.utils", "colossalai.legacy.utils"])
def test_a_loader_that_colossalai_makes(package: str) -> None:
    text = f"""
    import torch
    from torch.utils.data import DataLoader
    from {package} import get_dataloader
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained("facebook/opt-125m")
    train = get_dataloader(rows, True, add_sampler=True, batch_size=6)
    held_out = DataLoader(others, batch_size=9)
    optimizer = torch.optim.AdamW(model.parameters())
    for batch in train:
        model(**batch).loss.backward()
        optimizer.step()
    """
    found = sheet(text)
    assert facts(found, "micro_batch_size", "eval_micro_batch_size") == {
        "micro_batch_size": 6,
        "eval_micro_batch_size": 9,
    }
    assert says(sheet(text.replace(f"from {package} import", "from elsewhere import")), "micro_batch_size") == 9


def test_when_backward_gathers_and_where_gradients_lie() -> None:
    wrapped = (
        "FSDP(model, sharding_strategy=ShardingStrategy.FULL_SHARD, backward_prefetch=BackwardPrefetch.BACKWARD_POST)"
    )
    text = LOOP.replace("WRAPPED", f"model = {wrapped}").replace(
        "import functools", "from torch.distributed.fsdp import BackwardPrefetch"
    )
    assert says(sheet(text), "fsdp_backward_prefetch") == "backward_post"
    ddp = "torch.nn.parallel.DistributedDataParallel(model, gradient_as_bucket_view=True)"
    assert says(sheet(LOOP.replace("WRAPPED", f"model = {ddp}")), "gradient_as_bucket_view") is True


def test_options_that_an_accelerator_hands_on_to_ddp() -> None:
    text = """
        import torch
        from accelerate import Accelerator, DistributedDataParallelKwargs

        accelerator = Accelerator(kwargs_handlers=[DistributedDataParallelKwargs(gradient_as_bucket_view=True)])
        model, optimizer = accelerator.prepare(model, torch.optim.AdamW(model.parameters()))
        for batch in loader:
            accelerator.backward(model(**batch).loss)
            optimizer.step()
    """
    assert says(sheet(text), "gradient_as_bucket_view") is True


def test_a_mesh_that_an_accelerator_is_given() -> None:
    text = """
        import torch
        from accelerate import Accelerator, ParallelismConfig

        accelerator = Accelerator(parallelism_config=ParallelismConfig(tp_size=2, dp_shard_size=4))
        model, optimizer = accelerator.prepare(model, torch.optim.AdamW(model.parameters()))
        for batch in loader:
            accelerator.backward(model(**batch).loss)
            optimizer.step()
    """
    found = sheet(text)
    assert [says(found, name) for name in ("tensor_parallel", "data_parallel_shard", "divided_by")] == [
        2,
        4,
        "accelerate",
    ]
