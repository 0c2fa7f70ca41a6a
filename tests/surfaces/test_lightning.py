from __future__ import annotations

import textwrap

import pytest

from tests.api.test_launching import check
from tests.surfaces.reading import facts, line, reason, says, sheet, table
from vramlint.values import Scalar, plain

MODULE = """
    import lightning as L
    import torch
    from lightning.pytorch.strategies import DeepSpeedStrategy, FSDPStrategy, ModelParallelStrategy
    from torch.utils.data import DataLoader
    from transformers import AutoModelForCausalLM
    from transformers.models.llama.modeling_llama import LlamaDecoderLayer

    class Data(L.LightningDataModule):
        def __init__(self, batch_size=4):
            super().__init__()
            self.batch_size = batch_size

        def train_dataloader(self):
            return DataLoader(self.rows, batch_size=self.batch_size, shuffle=True)

        def val_dataloader(self):
            return DataLoader(self.rows, batch_size=16)

    class Module(L.LightningModule):
        def __init__(self, name):
            super().__init__()
            self.save_hyperparameters()
            self.lm = AutoModelForCausalLM.from_pretrained(name)

        def training_step(self, batch, batch_idx):
            return self.lm(**batch).loss

        def configure_optimizers(self):
            return torch.optim.AdamW(self.parameters(), lr=1e-4, weight_decay=0.1)

    trainer = L.Trainer({arguments})
    trainer.fit(Module("meta-llama/Llama-2-7b-hf"), datamodule=Data(batch_size=2))
"""


def fitted(arguments: str) -> str:
    return MODULE.replace("{arguments}", arguments)


def test_a_trainer_fits_a_module_that_loads_its_model() -> None:
    found = sheet(
        fitted("devices=4, num_nodes=2, precision='bf16-mixed', accumulate_grad_batches=8, gradient_clip_val=0.5")
    )
    assert facts(found, "run_kind", "loop", "objective", "model", "tuning") == {
        "run_kind": "training",
        "loop": "lightning",
        "objective": "sft",
        "model": "meta-llama/Llama-2-7b-hf",
        "tuning": "full",
    }
    assert facts(found, "bf16", "fp16", "gradient_accumulation_steps", "max_grad_norm") == {
        "bf16": True,
        "fp16": False,
        "gradient_accumulation_steps": 8,
        "max_grad_norm": 0.5,
    }
    assert facts(found, "world_size", "nodes", "gpus_per_node") == {"world_size": 8, "nodes": 2, "gpus_per_node": 4}
    assert facts(found, "optimizer", "weight_decay") == {"optimizer": "adamw_torch", "weight_decay": 0.1}
    assert facts(found, "micro_batch_size", "eval_micro_batch_size") == {
        "micro_batch_size": 2,
        "eval_micro_batch_size": 16,
    }
    assert line(found, "gradient_accumulation_steps") == 32


@pytest.mark.parametrize(
    ("precision", "bf16", "fp16", "weights"),
    [
        ("32", False, False, None),
        ("16", False, True, None),
        ("'16-mixed'", False, True, None),
        ("'bf16'", True, False, None),
        ("'bf16-true'", False, False, "bfloat16"),
        ("'16-true'", False, False, "float16"),
        ("'64-true'", False, False, "float64"),
    ],
)
def test_words_of_precision(precision: str, bf16: bool, fp16: bool, weights: str | None) -> None:
    found = sheet(fitted(f"precision={precision}"))
    assert facts(found, "bf16", "fp16") == {"bf16": bf16, "fp16": fp16}
    cast = found.get("load_dtype")
    assert (cast.value if cast else None) == weights


def test_what_the_trainer_does_when_it_is_told_nothing() -> None:
    found = sheet(fitted("max_epochs=1"))
    assert facts(found, "bf16", "fp16", "gradient_accumulation_steps", "max_grad_norm") == {
        "bf16": False,
        "fp16": False,
        "gradient_accumulation_steps": 1,
        "max_grad_norm": 0,
    }
    assert "every GPU of the machine" in reason(found, "world_size")


@pytest.mark.parametrize(
    ("devices", "count"), [("2", 2), ("[0, 1, 3]", 3), ("'0,1'", 2), ("'4'", 4), ("-1", None), ("'auto'", None)]
)
def test_devices(devices: str, count: int | None) -> None:
    fact = sheet(fitted(f"devices={devices}")).get("world_size")
    assert fact is not None
    assert fact.value == count


@pytest.mark.parametrize(
    ("strategy", "way"),
    [
        ("'ddp'", "ddp"),
        ("'ddp_find_unused_parameters_true'", "ddp"),
        ("'dp'", "dataparallel"),
        ("'fsdp'", "fsdp"),
        ("'deepspeed_stage_2'", "deepspeed"),
        ("DeepSpeedStrategy(stage=3)", "deepspeed"),
        ("FSDPStrategy()", "fsdp"),
    ],
)
def test_strategies(strategy: str, way: str) -> None:
    assert says(sheet(fitted(f"devices=2, strategy={strategy}")), "parallelism") == way


def test_auto_leaves_the_strategy_to_the_number_of_gpus() -> None:
    assert sheet(fitted("devices=2, strategy='auto'")).get("parallelism") is None


def test_deepspeed_by_name_makes_its_own_configuration() -> None:
    found = sheet(fitted("devices=2, precision='bf16-true', strategy='deepspeed_stage_3_offload'"))
    assert plain(table(found, "deepspeed")) == {
        "zero_optimization": {
            "stage": 3,
            "offload_optimizer": {"device": "cpu"},
            "offload_param": {"device": "cpu"},
            "allgather_bucket_size": 200_000_000,
            "reduce_bucket_size": 200_000_000,
            "sub_group_size": 1_000_000_000_000,
        },
        "bf16": {"enabled": True},
    }
    assert says(found, "bf16") is True  # the engine casts the weights, and keeps float32 masters


def test_a_mesh_divides_the_matrices_among_all_gpus_unless_it_is_told_how_many() -> None:
    found = sheet(fitted("devices=8, strategy=ModelParallelStrategy(data_parallel_size=2, tensor_parallel_size=4)"))
    assert facts(found, "parallelism", "fsdp_version", "data_parallel_shard", "tensor_parallel", "divided_by") == {
        "parallelism": "fsdp",
        "fsdp_version": 2,
        "data_parallel_shard": 2,
        "tensor_parallel": 4,
        "divided_by": "lightning",
    }
    assert says(sheet(fitted("devices=8, strategy=ModelParallelStrategy()")), "divided_by") == "lightning"
    found = sheet(fitted("devices=8, strategy=ModelParallelStrategy(8, 1)"))
    assert (found.get("divided_by"), says(found, "data_parallel_shard")) == (None, 8)


@pytest.mark.parametrize("strategy", ["ModelParallelStrategy()", "ModelParallelStrategy(2, 4)"])
def test_what_a_mesh_divides_is_bounded(strategy: str) -> None:
    text = textwrap.dedent(fitted(f"devices=8, strategy={strategy}"))
    estimate = check({"train.py": text}, "train.py").jobs[0].high
    assert estimate is not None
    assert estimate.method == "bounded"
    assert estimate.total_parameters > 6_000_000_000


def test_a_mesh_of_copies_and_shards() -> None:
    strategy = "FSDPStrategy(sharding_strategy='HYBRID_SHARD', device_mesh=(2, 4))"
    found = sheet(fitted(f"devices=8, strategy={strategy}"))
    assert facts(found, "fsdp", "data_parallel_replicate", "data_parallel_shard") == {
        "fsdp": "hybrid_shard",
        "data_parallel_replicate": 2,
        "data_parallel_shard": 4,
    }
    found = sheet(
        fitted("devices=8, strategy=FSDPStrategy(device_mesh=torch.distributed.init_device_mesh('cuda', (2, 4)))")
    )
    assert says(found, "data_parallel_shard") == 4
    assert sheet(fitted("strategy=FSDPStrategy(device_mesh=(8,))")).get("data_parallel_shard") is None


def test_fsdp_by_a_name_that_offloads() -> None:
    assert says(sheet(fitted("devices=2, strategy='fsdp_cpu_offload'")), "fsdp") == "full_shard offload"


def test_deepspeed_without_its_partitions() -> None:
    found = plain(table(sheet(fitted("strategy=DeepSpeedStrategy(zero_optimization=False, stage=3)")), "deepspeed"))
    assert found["zero_optimization"]["stage"] == 0  # type: ignore[index]


def test_deepspeed_as_an_object() -> None:
    zero = "DeepSpeedStrategy(stage=1, offload_optimizer=True, reduce_bucket_size=5)"
    found = table(sheet(fitted(f"strategy={zero}")), "deepspeed")
    assert isinstance(found.get("zero_optimization", "reduce_bucket_size"), Scalar)
    assert plain(found)["zero_optimization"]["offload_optimizer"] == {"device": "cpu"}  # type: ignore[index]
    assert plain(found)["zero_optimization"]["stage"] == 1  # type: ignore[index]


def test_fsdp_as_an_object() -> None:
    fsdp = (
        "FSDPStrategy(auto_wrap_policy={LlamaDecoderLayer}, activation_checkpointing_policy={LlamaDecoderLayer},"
        " sharding_strategy='SHARD_GRAD_OP', cpu_offload=True)"
    )
    found = sheet(fitted(f"devices=2, strategy={fsdp}"))
    assert facts(found, "fsdp", "fsdp_wrap_class", "activation_checkpointing") == {
        "fsdp": "shard_grad_op auto_wrap offload",
        "fsdp_wrap_class": "LlamaDecoderLayer",
        "activation_checkpointing": True,
    }


def test_a_quantizing_plugin() -> None:
    source = fitted("plugins=BitsandbytesPrecision('nf4-dq', torch.bfloat16)").replace(
        "import torch\n", "import torch\n    from lightning.pytorch.plugins import BitsandbytesPrecision\n", 1
    )
    assert facts(sheet(source), "quantization_bits", "quantization_type", "double_quantization", "load_dtype") == {
        "quantization_bits": 4,
        "quantization_type": "nf4",
        "double_quantization": True,
        "load_dtype": "bfloat16",
    }


def test_a_trainer_that_only_tests_does_not_train() -> None:
    source = fitted("devices=1").replace("trainer.fit(", "trainer.test(")
    assert says(sheet(source), "run_kind") != "training"


def test_clipping_by_value_holds_no_norms() -> None:
    found = sheet(fitted("gradient_clip_val=1.0, gradient_clip_algorithm='value'"))
    assert says(found, "max_grad_norm") == 0


FABRIC = """
    import lightning as L
    import torch
    from torch.utils.data import DataLoader
    from transformers import AutoModelForCausalLM

    def main():
        fabric = L.Fabric(devices=8, strategy="ddp", precision="16-mixed")
        fabric.launch()
        with fabric.init_module():
            model = AutoModelForCausalLM.from_pretrained("gpt2-large")
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
        model, optimizer = fabric.setup(model, optimizer)
        loader = fabric.setup_dataloaders(DataLoader(rows, batch_size=16))
        for i, batch in enumerate(loader):
            fabric.backward(model(**batch).loss / 4)
            if (i + 1) % 4 == 0:
                fabric.clip_gradients(model, optimizer, max_norm=0.5)
                optimizer.step()
                optimizer.zero_grad()

    main()
"""


def test_a_fabric_loop() -> None:
    found = sheet(FABRIC)
    assert facts(found, "loop", "model", "fp16", "bf16", "parallelism", "world_size", "micro_batch_size") == {
        "loop": "fabric",
        "model": "gpt2-large",
        "fp16": True,
        "bf16": False,
        "parallelism": "ddp",
        "world_size": 8,
        "micro_batch_size": 16,
    }
    assert facts(found, "gradient_accumulation_steps", "max_grad_norm", "optimizer") == {
        "gradient_accumulation_steps": 4,
        "max_grad_norm": 0.5,
        "optimizer": "sgd",
    }


def test_a_model_of_litgpt_with_its_own_lora() -> None:
    found = sheet(
        """
        import lightning as L
        import torch
        from litgpt.data import Alpaca2k
        from litgpt.lora import GPT

        class Module(L.LightningModule):
            def __init__(self):
                super().__init__()
                self.model = GPT.from_name("Llama-3.1-8B", lora_r=32, lora_query=True, lora_value=True)

            def configure_optimizers(self):
                return torch.optim.AdamW(self.model.parameters())

        data = Alpaca2k()
        data.connect(tokenizer, batch_size=3, max_seq_length=512)
        trainer = L.Trainer(devices=1, precision="bf16-true")
        trainer.fit(Module(), data)
        """
    )
    assert facts(found, "model", "tuning", "lora_r", "lora_target_modules", "adapter_cast") == {
        "model": "Llama-3.1-8B",
        "tuning": "lora",
        "lora_r": 32,
        "lora_target_modules": ("query", "value"),
        "adapter_cast": False,
    }
    assert facts(found, "adapter_library", "objective") == {"adapter_library": "litgpt", "objective": "sft"}
    network = plain(dict(found.tables)["model-config"])
    assert isinstance(network, dict)
    assert [network[key] for key in ("model_type", "n_layer", "lm_head_chunk_size")] == ["litgpt", 32, 0]
    assert facts(found, "micro_batch_size", "sequence_length") == {"micro_batch_size": 3, "sequence_length": 512}


def test_a_model_of_litgpt_from_a_folder() -> None:
    found = sheet(
        """
        import torch
        from litgpt.model import GPT, Config

        NAME = "EleutherAI/pythia-160m"
        model = GPT(Config.from_file(f"checkpoints/{NAME}/model_config.yaml"))
        optimizer = torch.optim.AdamW(model.parameters())
        model(x).sum().backward()
        optimizer.step()
        """
    )
    assert says(found, "model") == "EleutherAI/pythia-160m"


HYPERPARAMETERS = """
    import argparse
    import pytorch_lightning as pl
    import torch
    from torch.utils.data import DataLoader
    from transformers import AutoModelForTokenClassification

    class Module(pl.LightningModule):
        def __init__(self, SIGNATURE):
            super().__init__()
            self.save_hyperparameters(SAVED)
            self.net = AutoModelForTokenClassification.from_pretrained(self.hparams.model_name)

        def configure_optimizers(self):
            return {"optimizer": torch.optim.AdamW(self.parameters(), lr=self.hparams.lr)}

        def train_dataloader(self):
            return DataLoader(rows, batch_size=self.hparams["batch_size"])

    parser = argparse.ArgumentParser()
    parser.add_argument("--model_name", default="bert-base-cased")
    parser.add_argument("--batch_size", type=int, default=16)
    parser.add_argument("--lr", type=float, default=1e-5)
    args = parser.parse_args()
    TRAINER
    trainer.fit(Module(GIVEN))
"""


@pytest.mark.parametrize(
    ("signature", "saved", "given"),
    [
        ("model_name='bert-base-cased', lr=1e-5, batch_size=32", "", "batch_size=16"),
        ("model_name='bert-base-cased', lr=1e-5, batch_size=32", "'model_name', 'batch_size'", "batch_size=16"),
        ("settings", "settings", "args"),
        ("settings", "settings", "{'model_name': 'bert-base-cased', 'batch_size': 16}"),
    ],
)
def test_hyperparameters_that_a_module_saves(signature: str, saved: str, given: str) -> None:
    source = HYPERPARAMETERS.replace("SIGNATURE", signature).replace("SAVED", saved).replace("GIVEN", given)
    found = sheet(source.replace("TRAINER", "trainer = pl.Trainer(gpus=2)"))
    assert facts(found, "model", "micro_batch_size", "world_size", "objective") == {
        "model": "bert-base-cased",
        "micro_batch_size": 16,
        "world_size": 2,
        "objective": "token-cls",
    }


def test_a_trainer_made_from_parsed_arguments() -> None:
    source = HYPERPARAMETERS.replace("SIGNATURE", "settings").replace("SAVED", "settings").replace("GIVEN", "args")
    made = "trainer = pl.Trainer.from_argparse_args(args, precision=16, strategy='ddp')"
    found = sheet(source.replace("TRAINER", made))
    assert facts(found, "loop", "fp16", "parallelism") == {"loop": "lightning", "fp16": True, "parallelism": "ddp"}
    assert found.get("gradient_accumulation_steps") is None


def test_a_command_line_interface_trains_with_what_it_is_given() -> None:
    found = sheet(
        """
        import lightning as L
        import torch
        from lightning.pytorch.cli import LightningCLI
        from transformers import AutoModelForCausalLM

        class Module(L.LightningModule):
            def __init__(self, name: str = "gpt2"):
                super().__init__()
                self.lm = AutoModelForCausalLM.from_pretrained(name)

            def configure_optimizers(self):
                return torch.optim.AdamW(self.parameters())

        LightningCLI(Module, trainer_defaults={"precision": "bf16-mixed", "devices": 2})
        """
    )
    assert facts(found, "run_kind", "loop", "bf16", "world_size", "optimizer", "model") == {
        "run_kind": "training",
        "loop": "lightning",
        "bf16": True,
        "world_size": 2,
        "optimizer": "adamw_torch",
        "model": "gpt2",
    }
