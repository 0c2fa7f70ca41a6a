"""torchtitan's TOML files, and the command lines that name them."""

from __future__ import annotations

import pytest

from tests.api.test_launching import check
from tests.surfaces.frameworks.samples import SAMPLES
from vramlint.facts import Origin
from vramlint.surfaces.frameworks.reading import read_config
from vramlint.surfaces.frameworks.torchtitan import FRAMEWORK
from vramlint.surfaces.frameworks.torchtitan_models import network, sizes_of
from vramlint.surfaces.frameworks.writing import read_data
from vramlint.text import Document

PATH, SMALL = SAMPLES["torchtitan"]


def read(text, release=None):
    sheet = read_config(FRAMEWORK, PATH, read_data(Document.of(PATH, text)).root, release)
    return {fact.name: fact for fact in sheet.facts}, sheet


def values(facts, *names):
    return tuple(facts[name].value for name in names)


def test_what_is_written_and_where():
    facts, _ = read(SMALL)
    assert values(facts, "model", "micro_batch_size", "sequence_length", "max_grad_norm", "objective") == (
        "llama3/8B",
        2,
        4096,
        1.0,
        "pretrain",
    )
    assert facts["model"].place.span.line == 8


def test_weights_are_float32_and_computed_with_in_bfloat16_unless_the_file_says_otherwise():
    facts, _ = read(SMALL)
    assert values(facts, "load_dtype", "precision") == ("float32", "bf16-mixed")
    assert facts["load_dtype"].origin is facts["precision"].origin is Origin.DEFAULT
    facts, _ = read(SMALL.replace("[training]", '[training]\ndtype = "bfloat16"'))
    assert values(facts, "load_dtype", "precision", "bf16") == ("bfloat16", "bf16-pure", False)
    facts, _ = read(SMALL.replace("[training]", '[training]\nmixed_precision_param = "float32"'))
    assert values(facts, "precision", "bf16") == ("fp32", False)


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ('mode = "none"', {"activation_checkpointing": False, "recompute": "none"}),
        ('mode = "full"', {"activation_checkpointing": True, "recompute": "full"}),
        ('mode = "selective"\nselective_ac_option = "3"', {"checkpointing_every_n_layers": 3}),
        ('mode = "selective"\nselective_ac_option = "op"', {"checkpointing_selective": True}),
        ("", {"activation_checkpointing": True, "checkpointing_every_n_layers": 2}),
    ],
)
def test_activation_checkpoint(said, expected):
    facts, _ = read(SMALL.replace('mode = "selective"\nselective_ac_option = "op"', said))
    assert {name: facts[name].value for name in expected} == expected


def test_float8_takes_its_converter():
    facts, _ = read(SMALL + "\n[quantize.linear.float8]\nenable_fsdp_float8_all_gather = true\n")
    assert facts["fp8"].value is False
    facts, _ = read(SMALL.replace("# converters", "converters"))
    assert facts["fp8"].value is True


@pytest.mark.parametrize(
    ("converter", "eight_bit", "what"),
    [
        ("float8", True, "float8"),
        ("quantize.linear.float8", True, "float8"),
        ("quantize.grouped_mm.mx", True, "mxfp8"),
        ("mx", True, "mxfp8"),
        ("mine.sparse", False, "a format that nothing says"),
    ],
)
def test_what_converters_make_is_refused_with_a_bound(converter, eight_bit, what):
    text = SMALL.replace("# converters", "converters").replace('"float8"', f'"{converter}"')
    assert converter in text
    assert read(text)[0]["fp8"].value is eight_bit
    (job,) = check({PATH: text}, PATH).jobs
    assert job.high.method == "bounded"
    assert job.high.total_parameters > 8_000_000_000
    assert f"matrix products in {what} is not simulated" in job.high.why


def test_converters_of_a_command_line_are_divided_by_commas():
    files = {PATH: SMALL, "run.sh": f"torchrun --nproc_per_node=8 -m torchtitan.train --job.config_file {PATH} "}
    plain, converted = (
        check({**files, "run.sh": files["run.sh"] + more}, "run.sh").jobs[0]
        for more in ("", '--model.converters="quantize.linear.mx,quantize.grouped_mm.float8"')
    )
    assert plain.high.method == "simulated"
    assert "mxfp8 and float8" in converted.high.why


@pytest.mark.parametrize(
    ("said", "name"),
    [("", "(fused=True)"), ('implementation = "foreach"', ""), ('implementation = "for-loop"', "(foreach=False)")],
)
def test_the_implementation_of_the_optimizer(said, name):
    facts, _ = read(SMALL.replace("lr = 3e-4", said))
    assert facts["optimizer"].value == f"torch.optim.AdamW{name}"


def test_ranks_that_no_degree_takes_shard_the_model():
    facts, _ = read(SMALL)
    names = ("parallelism", "fsdp_version", "fsdp_reduce_dtype", "data_parallel_shard", "pipeline_parallel")
    assert values(facts, *names) == ("fsdp", 2, "float32", -1, 1)
    facts, _ = read(SMALL.replace("shard_degree = -1", "shard_degree = 1"))
    assert "parallelism" not in facts


def test_plans_of_tensor_parallelism_divide_the_model_and_the_loss():
    facts, _ = read(SMALL)
    assert values(facts, "divided_by", "loss_parallel", "sync_each_batch") == ("dtensor", True, True)
    facts, _ = read(SMALL.replace("[parallelism]", "[parallelism]\ndisable_loss_parallel = true"))
    assert facts["loss_parallel"].value is False


def test_older_keys_say_the_same_and_are_told():
    older = SMALL.partition("[compile]")[0].replace("local_batch_size", "batch_size")
    old = older.replace("[parallelism]", "compile = true\n\n[parallelism]")
    facts, sheet = read(old, (0, 0, 2))
    assert values(facts, "micro_batch_size", "torch_compile") == (2, True)
    _, sheet = read(old, (0, 2, 2))
    assert {remark.suggestion for remark in sheet.remarks} == {"training.local_batch_size", "compile.enable"}


def test_a_model_that_is_not_among_the_components_is_not_compiled():
    kept, _, _ = SMALL.partition("[compile]")
    facts, _ = read(f'{kept}\n[compile]\nenable = true\ncomponents = ["loss"]\n')
    assert values(facts, "torch_compile", "loss_type") == (False, "compiled")
    facts, _ = read(f"{kept}\n[compile]\nenable = true\n")
    assert facts["torch_compile"].value is True


def test_layers_are_recomputed_to_their_end_unless_the_file_says_otherwise():
    full = SMALL + '\n[activation_checkpoint]\nmode = "full"\n' if "[activation_checkpoint]" not in SMALL else SMALL
    facts, _ = read(full, (0, 2, 2))
    assert facts["checkpointing_early_stop"].value is False
    facts, _ = read(full.replace("[activation_checkpoint]", "[activation_checkpoint]\nearly_stop = true"), (0, 2, 2))
    assert facts["checkpointing_early_stop"].value is True
    facts, _ = read(full, (0, 1, 0))
    assert "checkpointing_early_stop" not in facts


def test_validation_has_a_batch_of_its_own():
    facts, _ = read(SMALL)
    assert "eval_micro_batch_size" not in facts
    facts, _ = read(SMALL + "\n[validation]\nenable = true\n")
    assert facts["eval_micro_batch_size"].value == 8


@pytest.mark.parametrize(
    ("name", "flavor", "inner"),
    [("llama3", "8B", 14336), ("llama3", "70B", 28672), ("llama3", "405B", 53248), ("qwen3", "0.6B", 3072)],
)
def test_flavors_have_the_published_widths(name, flavor, inner):
    config = network(name, sizes_of(name, flavor))
    assert config.get("intermediate_size").value == inner


def test_a_model_of_the_hub_goes_by_its_id():
    text = SMALL.replace('"llama3"', '"transformers_modeling_backend"')
    facts, _ = read(text + '\n[hf_transformers]\nmodel = "Qwen/Qwen3-4B"\n')
    assert facts["model"].value == "Qwen/Qwen3-4B"


def test_torchrun_names_the_file_and_overrides_it():
    command = (
        "NGPU=4\n"
        'torchrun --nproc_per_node=${NGPU} -m torchtitan.train --job.config_file small.toml "$@" '
        "--training.local_batch_size 1 --parallelism.tensor_parallel_degree=2\n"
    )
    (job,) = check({"run.sh": command, "small.toml": SMALL}, "run.sh").jobs
    facts = {fact.name: fact for fact in job.facts}
    assert values(facts, "model", "world_size", "micro_batch_size", "tensor_parallel") == ("llama3/8B", 4, 1, 2)
    assert facts["sequence_length"].through


def test_ranks_that_share_experts_are_simulated():
    text = SMALL.replace('"llama3"', '"qwen3"').replace('"8B"', '"30B-A3B"')
    text = text.replace("data_parallel_shard_degree = -1", "data_parallel_shard_degree = 8\nexpert_parallel_degree = 4")
    (job,) = check({PATH: text}, PATH).jobs
    assert job.high is not None
    assert (job.high.method, job.unresolved) == ("simulated", ())
    assert any("every expert is taken" in note for note in job.high.notes)


def test_a_wrapper_script_takes_the_file_from_the_environment():
    wrapper = """\
NGPU=${NGPU:-"8"}
CONFIG_FILE=${CONFIG_FILE:-"./debug.toml"}
torchrun --nproc_per_node=${NGPU} -m torchtitan.train --job.config_file ${CONFIG_FILE} "$@"
"""
    start = 'NGPU=2 CONFIG_FILE="./small.toml" ./run_train.sh --training.seq_len 1024\n'
    files = {"go.sh": start, "run_train.sh": wrapper, "small.toml": SMALL}
    (job,) = check(files, "go.sh").jobs
    facts = {fact.name: fact for fact in job.facts}
    assert values(facts, "model", "world_size", "sequence_length") == ("llama3/8B", 2, 1024)


REGISTRY = """\
from torchtitan.components.loss import ChunkedLossWrapper, CrossEntropyLoss
from torchtitan.components.lora import LoRAConverter
from torchtitan.components.optimizer import default_adamw
from torchtitan.components.quantization import Float8LinearConverter
from torchtitan.config import CompileConfig, ParallelismConfig, TrainingConfig
from torchtitan.distributed.activation_checkpoint import FullAC, SelectiveAC
from torchtitan.trainer import Trainer

from . import model_registry


def llama3_8b() -> Trainer.Config:
    model_spec = model_registry("8B")
    return Trainer.Config(
        loss=ChunkedLossWrapper.Config(loss_fn=CrossEntropyLoss.Config()),
        model_spec=model_spec,
        optimizer=default_adamw(lr=3e-4),
        training=TrainingConfig(
            num_tokens_per_microbatch_per_dp_rank=2 * 8192,
            max_context_length=8192,
        ),
        activation_checkpoint=SelectiveAC.Config(),
    )


def llama3_8b_float8_lora() -> Trainer.Config:
    config = llama3_8b()
    config.model_spec = model_registry(
        "8B",
        converters=[
            Float8LinearConverter.Config(),
            LoRAConverter.Config(rank=16, target_modules=["wq", "wkv"]),
        ],
    )
    config.activation_checkpoint = FullAC.Config()
    config.compile = CompileConfig(enable=True)
    return config
"""
PACKAGE = "torchtitan/models/llama3/config_registry.py"


def launched(config, flags="", module="llama3", files=None):
    command = f"torchrun --nproc_per_node=8 -m torchtitan.train --module {module} --config {config} {flags}\n"
    (job,) = check({"run.sh": command, **({PACKAGE: REGISTRY} if files is None else files)}, "run.sh").jobs
    return {fact.name: fact for fact in job.facts}


def test_a_function_of_the_registry_is_the_configuration():
    facts = launched("llama3_8b")
    assert values(facts, "model", "micro_batch_size", "sequence_length", "checkpointing_selective", "fp8") == (
        "llama3/8B",
        2,
        8192,
        True,
        False,
    )
    assert (facts["model"].place.path, facts["model"].place.span.line) == (PACKAGE, 13)
    assert facts["full_logits"].value is False


def test_what_a_function_changes_afterwards_and_what_the_command_line_says_over_it():
    facts = launched("llama3_8b_float8_lora", "--training.max_context_length 4096 --compile.enable False")
    assert values(facts, "tuning", "lora_r", "fp8", "recompute", "torch_compile") == ("lora", 16, True, "full", False)
    assert values(facts, "micro_batch_size", "sequence_length") == (4, 4096)


def test_registries_of_torchtitan_are_known_where_the_project_has_no_copy():
    facts = launched("llama3_8b", "--training.num_tokens_per_microbatch_per_dp_rank 16384", files={})
    assert values(facts, "model", "micro_batch_size", "sequence_length", "checkpointing_selective") == (
        "llama3/8B",
        2,
        8192,
        True,
    )
    assert facts["sequence_length"].origin is Origin.DEFAULT
    assert (
        launched("llama3_8b", "--training.seq_len 4096 --training.local_batch_size 3", files={})[
            "micro_batch_size"
        ].value
        == 3
    )


@pytest.mark.parametrize(("module", "config"), [("mine", "llama3_8b"), ("llama3", "llama3_9b")])
def test_a_registry_that_nobody_can_read_says_nothing(module, config):
    facts = launched(config, "--training.seq_len 1024", module, {})
    assert not facts["model"].candidates and facts["sequence_length"].value == 1024
    assert "not there" in facts["model"].reason


OWN = """\
from torchtitan.models.llama3.config_registry import llama3_8b
from torchtitan.trainer import Trainer


def long() -> Trainer.Config:
    config = llama3_8b()
    config.training.max_context_length = 4096
    config.training.num_tokens_per_microbatch_per_dp_rank = 8192
    return config


def other() -> Trainer.Config:
    return changed(llama3_8b())
"""


def test_a_registry_may_build_on_torchtitans():
    facts = launched("long", module="mine.long", files={"mine/long/config_registry.py": OWN})
    assert values(facts, "model", "micro_batch_size", "sequence_length") == ("llama3/8B", 2, 4096)
    assert not launched("other", module="mine.long", files={"mine/long/config_registry.py": OWN})["model"].candidates


def test_a_registry_by_itself_is_no_run():
    (job,) = check({PACKAGE: REGISTRY}, PACKAGE).jobs
    facts = {fact.name: fact for fact in job.facts}
    assert job.kind == "library"
    assert facts["sequence_length"].value == 8192
    assert {candidate.value for candidate in facts["fp8"].candidates} == {False, True}


def test_degrees_that_leave_no_rank_over_are_the_world():
    degrees = "[parallelism]\ndata_parallel_replicate_degree = 4\ndata_parallel_shard_degree = 2\n"
    facts, _ = read('[model]\nname = "llama3"\nflavor = "8B"\n' + degrees)
    assert values(facts, "world_size") == (8,)
    assert "world_size" not in read(SMALL)[0]


def test_flame_names_a_configuration_of_the_hub_and_accumulates_by_its_own_key():
    text = '[model]\nconfig = "fla-hub/gla-1.3B-100B"\n[training]\nbatch_size = 4\ngradient_accumulation_steps = 8\n'
    assert values(read(text)[0], "model", "gradient_accumulation_steps") == ("fla-hub/gla-1.3B-100B", 8)


_PIPELINE = """
[model]
name = "llama3"
flavor = "debugmodel"
[training]
local_batch_size = 8
[parallelism]
pipeline_parallel_degree = 2
"""


def test_pipelines_are_read_in_torchs_words():
    text = _PIPELINE + 'pipeline_parallel_schedule = "Interleaved1F1B"\npipeline_parallel_microbatch_size = 2\n'
    facts, _ = read(text)
    assert values(facts, "pipeline_schedule", "pipeline_micro_batch_size", "pipeline_embedding_layers", "fsdp") == (
        "Interleaved1F1B",
        2,
        1,
        "shard_grad_op",
    )
    assert read(text + 'fsdp_reshard_after_forward = "always"\n')[0]["fsdp"].value == "full_shard"


def test_modules_of_stages_are_a_layout():
    parts = 'module_fqns_per_model_part = [["tok_embeddings", "layers.0"], ["layers.1", "norm", "output"]]\n'
    found = read(_PIPELINE + parts)[0]["pipeline_layout"]
    assert found.value == "tok_embeddings layers.0|layers.1 norm output"


def test_split_points_of_older_releases_are_a_layout():
    older = _PIPELINE.replace("[parallelism]", "[experimental]") + 'pipeline_parallel_split_points = ["layers.4"]\n'
    found = read(older, (0, 0, 2))[0]["pipeline_layout"].value.split("|")
    assert [part.split()[0] for part in found] == ["tok_embeddings", "layers.4"]
    assert found[1].endswith("layers.5 norm output")


def test_a_schedule_of_a_file_is_named_by_it():
    text = _PIPELINE + 'pipeline_parallel_schedule_csv = "order.csv"\n'
    assert read(text)[0]["pipeline_schedule"].value == "of order.csv"


def test_what_a_memory_budget_keeps_is_unknown():
    found = read('[model]\nname = "llama3"\nflavor = "8B"\n[activation_checkpoint]\nmode = "memory_budget"\n')[0]
    found = found["activation_checkpointing"]
    assert found.origin is Origin.UNKNOWN
    assert "budget" in found.reason
