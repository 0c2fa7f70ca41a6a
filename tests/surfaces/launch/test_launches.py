"""Which program a command line starts, and what its launchers say about the run."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.surfaces.launch.making import PATH, arguments, command_of, launch_of, started, values
from vramlint.facts import Candidate, Fact, Origin
from vramlint.surfaces.launch import Launch, Workload, launches
from vramlint.text import Place, Span
from vramlint.values import Alternatives, Command, Entry, Items, Option, Scalar, Unknown, Value


@pytest.mark.parametrize(
    ("line", "program", "given_arguments"),
    [
        ("python train.py --lr 1", "train.py", ["--lr", "1"]),
        ("/opt/conda/bin/python3.10 -u -W ignore src/train.py", "src/train.py", []),
        ("./train.py x", "./train.py", ["x"]),
        ("env A=b nohup timeout -k 5 3h python train.py", "train.py", []),
        ("sudo -E PYTHONPATH=. python train.py", "train.py", []),
        ("time numactl --cpunodebind=0 -m 0 nice -n 10 stdbuf -oL python train.py", "train.py", []),
        ("conda run -n env --no-capture-output python train.py", "train.py", []),
        ("uv run --with flash-attn --no-sync train.py --a", "train.py", ["--a"]),
        ("poetry run python train.py", "train.py", []),
        ("docker run --rm -it -v /a:/b -w /b image:1 python train.py", "train.py", []),
        ("docker run --gpus all $IMAGE python train.py", "train.py", []),
        ("docker run $OPTIONS image:1 python train.py", "train.py", []),
        ("docker run --rm --entrypoint python3 -v /a:/b image:1 train.py --a", "train.py", ["--a"]),
        ('docker run --entrypoint "" image:1 python train.py', "train.py", []),
        ("apptainer exec --nv -B /a:/b image.sif python train.py", "train.py", []),
        ("ray job submit --address http://head:8265 -- python train.py", "train.py", []),
        ("kubectl exec -it pod -- python train.py", "train.py", []),
        ("nsys profile -o trace -t cuda,nvtx python train.py", "train.py", []),
        ("python -m debugpy --listen 5678 --wait-for-client train.py --a", "train.py", ["--a"]),
        ("python submit.py --gpus 8 -- python train.py --a", "train.py", ["--a"]),
        ("torchrun --nproc-per-node=2 --rdzv-backend c10d train.py --a=b", "train.py", ["--a=b"]),
        (
            "deepspeed --master_port 29501 --bind_cores_to_rank train.py --deepspeed ds.json",
            "train.py",
            ["--deepspeed", "ds.json"],
        ),
        (
            "accelerate launch --main_process_port=0 --debug train.py --num_processes 3",
            "train.py",
            ["--num_processes", "3"],
        ),
        ("srun -l --mpi=pmix --cpu-bind=none python train.py", "train.py", []),
        ("$LAUNCHER train.py --a", "train.py", ["--a"]),
        ("torchrun $ARGS train.py --a", "train.py", ["--a"]),
        ("torchx run -s slurm dist.ddp -j 2x8 --script train.py -- --lr 1", "train.py", ["--lr", "1"]),
        ("fabric run --devices=2 train.py", "train.py", []),
    ],
)
def test_script_is_found_behind_wrappers(line, program, given_arguments):
    launch = launch_of(line)
    assert (launch.kind, launch.program) == ("script", program)
    assert arguments(launch) == given_arguments


@pytest.mark.parametrize(
    ("line", "module"),
    [
        ("python -m pkg.train --a", "pkg.train"),
        ("python -um pkg.train --a", "pkg.train"),
        ("uv run -m pkg.train --a", "pkg.train"),
        ("torchrun --standalone -m pkg.train --a", "pkg.train"),
        ("deepspeed --module pkg.train --a", "pkg.train"),
        ("accelerate launch --num_processes 2 -m pkg.train --a", "pkg.train"),
        ("$PYTHON -m pkg.train --a", "pkg.train"),
        ("docker run --entrypoint python3 $IMAGE -m pkg.train --a", "pkg.train"),
    ],
)
def test_module_is_found(line, module):
    launch = launch_of(line)
    assert (launch.kind, launch.program, arguments(launch)) == ("module", module, ["--a"])


@pytest.mark.parametrize(
    "line",
    [
        "mkdir -p out",
        "pip install torch",
        "python -m pip install torch",
        "python -m http.server",
        "torchrun -m pytest tests",
        "python -c 'import torch'",
        "python -",
        "python",
        "python setup.py install",
        "echo python",
        "lm_eval --model hf",
        "bash run.sh",
        "sbatch job.sh",
        "accelerate config",
        "accelerate test",
        "llamafactory-cli chat model.yaml",
        "swift infer --model x",
        "trl env",
        "docker run image",
        "torchrun",
        "env",
        "$COMMAND",
    ],
)
def test_what_trains_nothing_gives_no_launch(line):
    assert started(line) == ()


@pytest.mark.parametrize(
    ("line", "launcher", "world", "nodes", "each"),
    [
        ("torchrun train.py", "torchrun", 1, 1, 1),
        ("torchrun --nproc_per_node 8 train.py", "torchrun", 8, 1, 8),
        ("torchrun --nproc-per-node=8 --nnodes=2 train.py", "torchrun", 16, 2, 8),
        ("python -m torch.distributed.launch --use_env --nproc_per_node 4 train.py", "torchrun", 4, 1, 4),
        ("deepspeed --num_gpus 4 --num_nodes=2 --hostfile hosts train.py", "deepspeed", 8, 2, 4),
        ("deepspeed --include localhost:0,2,3 train.py", "deepspeed", 3, 1, 3),
        ("deepspeed --include a:0,1@b:0,1 train.py", "deepspeed", 4, None, None),
        ("accelerate launch --num_processes 16 --num_machines 2 train.py", "accelerate", 16, 2, 8),
        ("accelerate launch --multi_gpu --gpu_ids 0,1 train.py", "accelerate", 2, 1, 2),
        ("mpirun -np 16 -npernode 8 -x A=b -mca btl tcp python train.py", "mpirun", 16, 2, 8),
        ("mpirun -n 8 --map-by ppr:4:node:PE=2 python train.py", "mpirun", 8, 2, 4),
        ("mpiexec -n 8 -ppn 4 -env A=1 -genv B 2 python train.py", "mpirun", 8, 2, 4),
        ("srun -N4 --ntasks-per-node=8 python train.py", "srun", 32, 4, 8),
        ("srun -N 2 --gres=gpu:a100:4 python train.py", "srun", 8, 2, 4),
        ("srun -N 4 torchrun --nnodes 4 --nproc_per_node 8 train.py", "torchrun", 32, 4, 8),
        ("srun -N 4 torchrun --nnodes $SLURM_NNODES --nproc_per_node 8 train.py", "torchrun", 32, 4, 8),
        ("composer -n 8 train.py", "composer", 8, 1, 8),
        ("colossalai run --nproc_per_node 4 --host a,b train.py", "colossalai", 8, 2, 4),
        ("horovodrun -np 4 python train.py", "horovodrun", 4, None, None),
        ("tune run --nproc_per_node 4 lora_finetune_distributed --config a.yaml", "tune", 4, 1, 4),
        ("litgpt finetune_lora ckpt --devices 4", "litgpt", 4, 1, 4),
        ("fabric run --devices=2 --num-nodes=2 train.py", "fabric", 4, 2, 2),
        ("torchx run dist.ddp -j 2x8 --script train.py", "torchx", 16, 2, 8),
    ],
)
def test_processes(line, launcher, world, nodes, each):
    said = values(launch_of(line))
    assert said["launcher"] == launcher
    assert [said.get(name) for name in ("world_size", "nodes", "gpus_per_node")] == [world, nodes, each]


def test_number_stands_where_it_is_written():
    fact = next(fact for fact in launch_of("torchrun --nproc_per_node=8 train.py").facts if fact.name == "world_size")
    assert (fact.origin, fact.via, fact.key) == (Origin.WRITTEN, "cli", "--nproc_per_node")
    assert fact.place == Place(PATH, Span(1, 27, 1, 28))


def test_elastic_range_is_both_ends():
    facts = {fact.name: fact for fact in launch_of("torchrun --nproc_per_node 8 --nnodes 1:4 train.py").facts}
    assert [item.value for item in facts["nodes"].candidates] == [1, 4]
    assert [item.value for item in facts["world_size"].candidates] == [8, 32]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("deepspeed train.py", "the deepspeed launcher uses every visible GPU"),
        ("accelerate launch train.py", "accelerate launch uses every visible GPU"),
        ("torchrun --nproc_per_node gpu train.py", "torchrun uses every visible GPU"),
        ("torchrun --nproc_per_node $N train.py", "environment variable N"),
        ("torchrun $ARGS train.py", "environment variable ARGS"),
        ("deepspeed --exclude localhost:0 train.py", "the deepspeed launcher uses every GPU but localhost:0"),
        ("llamafactory-cli train a.yaml", "llamafactory-cli uses every visible GPU"),
    ],
)
def test_unknown_number_says_why(line, reason):
    fact = next(fact for fact in launch_of(line).facts if fact.name == "world_size")
    assert not fact.candidates
    assert fact.reason.startswith(reason)


@pytest.mark.parametrize("line", ["deepspeed train.py", "accelerate launch train.py", "python train.py", "swift sft"])
def test_visible_devices_are_the_count_where_no_number_is_given(line):
    assert values(launch_of(line, {"CUDA_VISIBLE_DEVICES": "0,1"}))["world_size"] == 2


def test_number_wins_over_visible_devices():
    assert values(launch_of("deepspeed --num_gpus 1 train.py", {"CUDA_VISIBLE_DEVICES": "0,1"}))["world_size"] == 1


def test_plain_python_says_nothing_of_gpus():
    assert set(values(launch_of("python train.py"))) == {"entry", "launcher"}


def test_declared_machine_is_what_launchers_find():
    at = Place(PATH, Span(1, 1, 1, 2))
    facts = tuple(
        Fact(name, (Candidate(value, at),), Origin.WRITTEN, "#SBATCH")
        for name, value in (("gpu", "h100"), ("gpus_per_node", 8), ("nodes", 2))
    )
    said = values(launch_of("torchrun --nnodes $SLURM_NNODES --nproc_per_node auto train.py", facts=facts))
    assert (said["world_size"], said["nodes"], said["gpu"]) == (16, 2, "h100")
    assert values(launch_of("srun python train.py", facts=facts))["world_size"] == 16


def test_granted_device():
    fact = next(fact for fact in launch_of("srun --gres=gpu:h100:4 python train.py").facts if fact.name == "gpu")
    assert all(str(item.value).startswith("h100") for item in fact.candidates)
    said = values(launch_of("sky launch -c c --gpus A100-80GB:8 torchrun --nproc_per_node gpu train.py"))
    assert "a100" in str(said["gpu"])
    assert said["world_size"] == 8


def test_containers_hand_on_variables_and_devices():
    variable = "PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True"
    line = f"docker run --gpus '\"device=0,1\"' -e {variable} img accelerate launch train.py"
    launch = launch_of(line)
    assert values(launch)["world_size"] == 2
    assert values(launch)["allocator_settings"] == "expandable_segments:True"
    assert [entry.key for entry in launch.invocation.environment] == ["PYTORCH_CUDA_ALLOC_CONF"]


def test_commands_inside_of_a_text():
    found = started("bash -lc \"cd /w && python prepare.py; torchrun --nproc_per_node 2 train.py --name 'a b'\"")
    assert [launch.program for launch in found] == ["prepare.py", "train.py"]
    assert arguments(found[1]) == ["--name", "a b"]
    assert values(found[1])["world_size"] == 2


def test_folder_that_only_run_time_knows():
    at = Place(PATH, Span(1, 8, 1, 12))
    script = Unknown("value of $ROOT/src/train.py", at, suffix="/src/train.py")
    for head in (["python"], ["torchrun", "--nproc_per_node", "2"], ["accelerate", "launch"], []):
        words = (*map(Scalar, head), script, Scalar("--a"))
        (launch,) = launches(Workload(PATH, "", (Command(words, (at,) * len(words), at),)))
        assert (launch.kind, launch.program, arguments(launch)) == ("script", "src/train.py", ["--a"])


def test_unknown_value_of_an_option():
    at = Place(PATH, Span(1, 8, 1, 12))
    words = (Scalar("torchrun"), Unknown("environment variable N", at, "--nproc_per_node="), Scalar("train.py"))
    (launch,) = launches(Workload(PATH, "", (Command(words, (at,) * 3, at),)))
    fact = next(fact for fact in launch.facts if fact.name == "gpus_per_node")
    assert (fact.reason, fact.key) == ("environment variable N (line 1)", "--nproc_per_node")


def forked(*options: str, tail: str = "train.py --a") -> tuple[Launch, ...]:
    """`torchrun $ARGS train.py`, where a branch decides on the words of ARGS."""
    at = Place(PATH, Span(1, 8, 1, 12))
    choices = tuple(Option(Items(tuple(map(Scalar, text.split()))), f"c{n}") for n, text in enumerate(options))
    words: tuple[Value, ...] = (Alternatives(choices, at), *map(Scalar, tail.split()))
    return launches(Workload(PATH, "", (Command(words, (at,) * len(words), at),)))


def test_branch_between_launchers_is_one_launch():
    (launch,) = forked("torchrun --nproc_per_node 8 --nnodes 2", "torchrun --nproc_per_node 4")
    world = next(fact for fact in launch.facts if fact.name == "world_size")
    assert [(item.value, item.condition) for item in world.candidates] == [(16, "c0"), (4, "c1")]
    assert launch.command.conditions == ()
    (launch,) = forked("torchrun --nproc_per_node 8", "python")
    assert [item.value for item in launch.facts[1].candidates] == ["torchrun", "python"]


def test_branch_that_starts_something_else():
    (launch,) = forked("python", "cat")
    assert launch.command.conditions == ("c0",)
    assert [launch.program for launch in forked("python", "python -m pkg.run")] == ["train.py", "pkg.run"]


def test_script_that_only_run_time_knows():
    launch = launch_of("torchrun --nproc_per_node 2 $SCRIPT --a")
    assert launch.program == ""
    assert next(fact for fact in launch.facts if fact.name == "entry").reason.startswith("environment variable SCRIPT")


def test_undecided_script_gives_one_launch_for_each():
    at = Place(PATH, Span(1, 8, 1, 12))
    script = Alternatives((Option(Scalar("a.py", at), "$1 = a"), Option(Scalar("b.py", at), "not ($1 = a)")), at)
    command = Command((Scalar("python", at), script), (at, at), at)
    found = launches(Workload(PATH, "", (command,)))
    assert [(launch.program, launch.command.conditions) for launch in found] == [
        ("a.py", ("$1 = a",)),
        ("b.py", ("not ($1 = a)",)),
    ]


def test_undecided_number_has_both_values():
    at = Place(PATH, Span(1, 8, 1, 12))
    option = Alternatives(
        (Option(Scalar("--nproc_per_node=2", at), "a"), Option(Scalar("--nproc_per_node=4", at), "b")), at
    )
    command = Command((Scalar("torchrun", at), option, Scalar("train.py", at)), (at, at, at), at)
    (launch,) = launches(Workload(PATH, "", (command,)))
    world = next(fact for fact in launch.facts if fact.name == "world_size")
    assert [(item.value, item.condition) for item in world.candidates] == [(2, "a"), (4, "b")]


@pytest.mark.parametrize(
    ("line", "links"),
    [
        ("accelerate launch --config_file a.yaml train.py", [("accelerate", "a.yaml")]),
        ("accelerate launch --use_deepspeed --deepspeed_config_file ds.json train.py", [("deepspeed", "ds.json")]),
        (
            "accelerate launch --config_file=a.yaml -m axolotl.cli.train x.yml",
            [("accelerate", "a.yaml"), ("axolotl", "x.yml")],
        ),
        ("axolotl train x.yml", [("axolotl", "x.yml")]),
        ("llamafactory-cli train x.yaml lr=1", [("llama-factory", "x.yaml")]),
        ("trl sft --config x.yaml", [("training-args", "x.yaml")]),
        (
            "trl sft --accelerate_config fsdp.yaml --config=x.yaml",
            [("accelerate", "fsdp.yaml"), ("training-args", "x.yaml")],
        ),
        ("tune run full_finetune_single_device --config llama3/8B_full a=b", [("torchtune", "llama3/8B_full")]),
        ("litgpt finetune_lora ckpt --config x.yaml", [("litgpt", "x.yaml")]),
        ("oumi train -c x.yaml", [("oumi", "x.yaml")]),
        ("xtuner train qwen_qlora --deepspeed zero2", [("xtuner", "qwen_qlora")]),
    ],
)
def test_configurations_of_launchers_and_tools(line, links):
    assert [(link.kind, link.target) for link in launch_of(line).links] == links


@pytest.mark.parametrize(
    ("line", "program"),
    [
        ("trl sft --bf16", "trl sft"),
        ("tune run lora_finetune_distributed --config a", "tune run lora_finetune_distributed"),
        ("python -m llamafactory.cli train a.yaml", "llamafactory-cli train"),
        ("torchrun --nproc_per_node 2 -m oumi train -c a.yaml", "oumi train"),
        ("nemo llm pretrain --factory llama3_8b", "nemo llm pretrain"),
        ("megatron sft --model x", "megatron sft"),
    ],
)
def test_tools(line, program):
    launch = launch_of(line)
    assert (launch.kind, launch.program) == ("command", program)


def test_flags_of_accelerate_are_a_configuration():
    line = "accelerate launch --use_fsdp --fsdp_sharding_strategy 2 --mixed_precision bf16 --num_processes 4 train.py"
    ((name, table),) = launch_of(line).tables
    assert name == "accelerate"
    assert table.get("distributed_type") == Scalar("FSDP", table.entry("distributed_type").key_place, "cli")
    assert table.get("fsdp_config", "fsdp_sharding_strategy").value == 2
    assert table.get("mixed_precision").value == "bf16"


def test_a_mesh_waits_for_the_flag_that_hands_it_on():
    line = "accelerate launch --use_fsdp --fsdp_version 2 --parallelism_config_dp_shard_size 4 train.py"
    assert launch_of(line).tables[0][1].get("parallelism_config") is None
    table = launch_of(line.replace("--use_fsdp", "--use_fsdp --use_parallelism_config")).tables[0][1]
    assert table.get("parallelism_config", "parallelism_config_dp_shard_size").value == 4
    sized = "accelerate launch --config_file a.yaml --parallelism_config_tp_size 2 train.py"
    assert launch_of(sized).tables[0][1].get("parallelism_config", "parallelism_config_tp_size").value == 2
    told = {"ACCELERATE_USE_FSDP": "true", "PARALLELISM_CONFIG_DP_REPLICATE_SIZE": "2"}
    ((_, table),) = launch_of("torchrun train.py", told).tables
    assert table.get("parallelism_config", "parallelism_config_dp_replicate_size") is not None


def test_variables_of_accelerate_count_like_flags():
    ((_, table),) = launch_of(
        "torchrun train.py", {"ACCELERATE_USE_FSDP": "true", "FSDP_OFFLOAD_PARAMS": "true"}
    ).tables
    assert table.get("distributed_type").value == "FSDP"
    assert table.get("fsdp_config", "fsdp_offload_params").value == "true"
    assert launch_of("torchrun train.py", {"FSDP_OFFLOAD_PARAMS": "true"}).tables == ()


def test_trl_hands_flags_on_to_accelerate():
    launch = launch_of("trl sft --num_processes 4 --model_name_or_path gpt2 --mixed_precision fp16 --bf16")
    assert arguments(launch) == ["--model_name_or_path", "gpt2", "--bf16"]
    assert values(launch)["world_size"] == 4


def test_preset_of_trl():
    launch = launch_of("trl sft --accelerate_config zero3 --num_processes 2")
    preset, flags = (table for _, table in launch.tables)
    assert preset.get("deepspeed_config", "zero_stage").value == 3
    assert flags.get("num_processes").value == 2


_SPOKEN = (
    "python",
    "-m",
    "torchrun",
    "--nproc_per_node",
    "=",
    "--",
    "train.py",
    "deepspeed",
    "--include",
    "localhost:",
    "@",
    "accelerate",
    "launch",
    "trl",
    "sft",
    "docker",
    "run",
    "bash",
    "-c",
    "'",
    "srun",
    "-N",
    "--gres=gpu:",
    "env",
    "A=",
    "tune",
    "torchx",
    "dist.ddp",
    "-j",
    "x",
    "--accelerate_config",
    "zero3",
    "--gpus",
    "A100:",
    "sky",
    "sbatch",
    "--wrap",
    "axolotl",
    "train",
    "litgpt",
    "finetune",
    "--devices",
    ",",
    "1:",
    "--map-by",
    "ppr:x:node",
    "mpirun",
    "-x",
    "--config",
)
_WORDS = st.one_of(st.text(max_size=12), st.sampled_from(_SPOKEN))
_PLACE = Place(PATH, Span(1, 1, 1, 2))
_SCALARS = st.one_of(_WORDS, st.integers(), st.booleans(), st.none(), st.floats(allow_nan=False)).map(Scalar)
_VALUES = st.one_of(
    _SCALARS,
    st.just(Unknown("environment variable X", None, "--nproc_per_node=", "/train.py")),
    st.lists(st.lists(_SCALARS, max_size=3), min_size=2, max_size=3).map(
        lambda found: Alternatives(tuple(Option(Items(tuple(items)), "c") for items in found))
    ),
    st.just(Unknown("environment variable X")),
    st.lists(_SCALARS, min_size=2, max_size=3).map(
        lambda found: Alternatives(tuple(Option(item, "c") for item in found))
    ),
)


@given(
    st.lists(_VALUES, max_size=12),
    st.lists(st.tuples(st.sampled_from(["CUDA_VISIBLE_DEVICES", "NNODES"]), _VALUES), max_size=2),
)
def test_any_words_are_read(words, environment):
    entries = tuple(Entry(key, _PLACE, value) for key, value in environment)
    command = Command(tuple(words), (_PLACE,) * len(words), _PLACE, entries)
    for launch in launches(Workload(PATH, "", (command,))):
        assert launch.kind in ("script", "module", "command")


def test_places_may_be_missing():
    assert launches(Workload(PATH, "", (Command((Scalar("python"), Scalar("a.py")), (), _PLACE),)))[0].program == "a.py"


def test_no_commands_no_launches():
    assert launches(Workload(PATH, "", ())) == ()
    assert launches(Workload(PATH, "", (command_of(""),))) == ()
