"""DeepSpeed configurations, local models, requirements: what other files add to a script."""

from __future__ import annotations

import json

import pytest
from msgspec.structs import replace

from tests.resolve.making import LLAMA, NEWEST, files, place, run, script, written
from vramlint.facts import Link, Origin
from vramlint.readers.json import read_json
from vramlint.resolve import resolve
from vramlint.resolve.versions import find_versions
from vramlint.surfaces.deepspeed import deepspeed_sheet
from vramlint.text import Cell, Document
from vramlint.values import Table

ZERO_3 = {
    "zero_optimization": {
        "stage": 3,
        "offload_optimizer": {"device": "cpu"},
        "reduce_bucket_size": "auto",
        "stage3_prefetch_bucket_size": "auto",
        "stage3_param_persistence_threshold": "auto",
        "sub_group_size": "auto",
    },
    "bf16": {"enabled": "auto"},
    "train_micro_batch_size_per_gpu": "auto",
}
LINK = Link("deepspeed", "ds.json", place(7))
KNOWN = (written("micro_batch_size", 1), written("sequence_length", 512), written("load_dtype", "float32"))


def test_auto_is_filled_as_the_trainer_does() -> None:
    sheet = script(LLAMA, written("bf16", True), *KNOWN, links=(LINK,))
    found = run(sheet, files({"ds.json": json.dumps(ZERO_3)}, versions=NEWEST, world_size=4))
    (job,) = found.jobs
    zero = job.parallelism.zero
    assert zero is not None
    assert (zero.stage, zero.offload_optimizer, zero.offload_parameters) == (3, "cpu", "none")
    assert zero.reduce_bucket_size == 4096 * 4096
    assert zero.prefetch_bucket_size == int(0.9 * 4096 * 4096)
    assert zero.parameter_persistence_threshold == 40960
    assert zero.sub_group_size == 1_000_000_000
    assert (job.precision.weights, job.precision.autocast) == ("bfloat16", None)
    assert found.paths == ("train.py", "ds.json")
    assert found.name == "train.py + ds.json"
    fact = found.get("reduce_bucket_size")
    assert fact is not None
    assert (fact.origin, fact.place is not None) == (Origin.DERIVED, True)
    precision = found.get("precision")
    assert precision is not None
    assert precision.value == "bf16-mixed"


def test_auto_batch_sizes_are_the_loaders_of_accelerate() -> None:
    config = {"zero_optimization": {"stage": 3}, "train_micro_batch_size_per_gpu": "auto", "train_batch_size": "auto"}
    sheet = script(LLAMA, written("loop", "accelerate"), *KNOWN, links=(LINK,))
    found = run(sheet, files({"ds.json": json.dumps(config)}, versions=NEWEST, world_size=4))
    assert {job.batch.micro_batch_size for job in found.jobs} == {1}


def test_the_batch_identity_says_what_a_gpu_takes() -> None:
    config = {"zero_optimization": {"stage": 2}, "train_batch_size": 32, "gradient_accumulation_steps": 2}
    sheet = script(LLAMA, written("loop", "script"), written("parallelism", "deepspeed"), *KNOWN[1:], links=(LINK,))
    found = run(sheet, files({"ds.json": json.dumps(config)}, versions=NEWEST, world_size=4))
    assert {job.batch.micro_batch_size for job in found.jobs} == {4}


def test_offloaded_optimizer_becomes_the_cpu_adam() -> None:
    found = run(script(LLAMA, *KNOWN, links=(LINK,)), files({"ds.json": json.dumps(ZERO_3)}, versions=NEWEST))
    assert {job.optimizer.name for job in found.jobs} == {"deepspeed_cpu_adam"}


def test_optimizer_block_replaces_the_trainers() -> None:
    config = {"zero_optimization": {"stage": 2}, "optimizer": {"type": "AdamW"}}
    found = run(script(LLAMA, *KNOWN, links=(LINK,)), files({"ds.json": json.dumps(config)}, versions=NEWEST))
    assert {job.optimizer.name for job in found.jobs} == {"deepspeed_adamw"}


def test_missing_configuration_is_remarked_where_it_is_named() -> None:
    found = run(script(LLAMA, *KNOWN, links=(LINK,)))
    (remark,) = found.remarks
    assert (remark.kind, remark.place.span.line) == ("missing-file", 7)
    assert found.unresolved == ("deepspeed_config",)


def test_a_path_with_parts_left_out_is_no_missing_file() -> None:
    found = run(script(LLAMA, *KNOWN, links=(replace(LINK, target=".../ds.json"),)))
    assert not found.remarks
    assert found.unresolved == ("deepspeed_config",)


def test_broken_configuration_is_remarked() -> None:
    found = run(script(LLAMA, *KNOWN, links=(LINK,)), files({"ds.json": '{"zero_optimization": '}, versions=NEWEST))
    assert {(remark.kind, remark.place.path) for remark in found.remarks} == {("syntax-error", "ds.json")}


def test_disagreement_is_remarked_at_the_configuration() -> None:
    config = {"train_micro_batch_size_per_gpu": 4, "train_batch_size": 30, "zero_optimization": {"stage": 1}}
    found = run(script(LLAMA, *KNOWN, links=(LINK,)), files({"ds.json": json.dumps(config)}, versions=NEWEST))
    (remark,) = [remark for remark in found.remarks if remark.kind == "contradicting-values"]
    assert remark.place.path == "ds.json"
    assert "is 4 here but 1" in remark.message


def test_configuration_named_by_a_script_is_no_run_of_its_own() -> None:
    text = json.dumps({**ZERO_3, "zero_optimisation": {}})
    root = read_json(Document.of("ds.json", text)).root
    assert isinstance(root, Table)
    sheets = [deepspeed_sheet("ds.json", root), script(LLAMA, *KNOWN, links=(LINK,))]
    (found,) = resolve(sheets, files({"ds.json": text}, versions=NEWEST))
    assert found.path == "train.py"
    (remark,) = found.remarks
    assert (remark.kind, remark.suggestion) == ("unknown-key", "zero_optimization")
    assert "ignored in silence" in remark.message


def test_configuration_alone_is_data() -> None:
    root = read_json(Document.of("ds.json", json.dumps(ZERO_3))).root
    assert isinstance(root, Table)
    found = run(deepspeed_sheet("ds.json", root))
    assert (found.kind, found.jobs) == ("data", ())
    stage, bucket = found.get("zero_stage"), found.get("reduce_bucket_size")
    assert stage is not None
    assert bucket is not None
    assert (stage.value, bucket.value) == (3, "auto")


def test_local_model_folder() -> None:
    config = {"model_type": "llama", "hidden_size": 64, "num_hidden_layers": 2, "torch_dtype": "bfloat16"}
    sheet = script(written("model", "./tiny"), *KNOWN[:2])
    found = run(sheet, files({"tiny/config.json": json.dumps(config)}, versions=NEWEST))
    (job,) = found.jobs
    assert (job.model.config["hidden_size"], job.precision.weights) == (64, "bfloat16")


def test_model_by_the_last_part_of_a_path() -> None:
    found = run(script(written("model", "/data/models/Llama-2-7b-hf/"), *KNOWN))
    assert {job.model.config["hidden_size"] for job in found.jobs} == {4096}


@pytest.mark.parametrize(
    ("name", "text", "version", "source"),
    [
        ("requirements.txt", "torch\ntransformers==4.36.2\n", (4, 36, 2), "requirements.txt:2"),
        (
            "requirements.txt",
            "transformers[torch]>=4.40,<5\n",
            (4, 57, 6),
            "newest known allowed by requirements.txt:1",
        ),
        ("requirements.txt", "transformers~=4.46.1  # why\n", (4, 46, 3), "newest known allowed by requirements.txt:1"),
        (
            "requirements-gpu.txt",
            "transformers == 4.46.*\n",
            (4, 46, 3),
            "newest known allowed by requirements-gpu.txt:1",
        ),
        ("pyproject.toml", '[project]\ndependencies = ["transformers>=4.40,<4.50"]\n', (4, 49, 0), "pyproject.toml:2"),
        ("pyproject.toml", '[tool.poetry.dependencies]\ntransformers = "^4.38"\n', (4, 57, 6), "pyproject.toml:2"),
        ("uv.lock", '[[package]]\nname = "transformers"\nversion = "4.51.3"\n', (4, 51, 3), "uv.lock:2"),
        ("environment.yml", "dependencies:\n  - pip:\n    - transformers==4.44.2\n", (4, 44, 2), "environment.yml:3"),
        ("environment.yml", "dependencies:\n  - transformers=4.44\n", (4, 44, 0), "environment.yml:2"),
        ("setup.py", 'setup(install_requires=["transformers>=4.30,<4.47"])\n', (4, 46, 3), "setup.py:1"),
        ("requirements.txt", "git+https://github.com/huggingface/transformers\n", (5, 23, 0), "newest known"),
    ],
)
def test_versions(name: str, text: str, version: tuple[int, ...], source: str) -> None:
    found = {item.library: item for item in find_versions("src/a/train.py", files({name: text}), {})}
    assert found["transformers"].version == version
    assert found["transformers"].source.endswith(source)
    assert found["torch"].source.startswith("newest known")


def test_a_library_whose_name_has_a_hyphen() -> None:
    context = files({"requirements.txt": "liger-kernel==0.5.10\ntrl\n"})
    found = {version.library: version for version in find_versions("train.py", context, {})}

    assert found["liger_kernel"].version == (0, 5, 10)
    assert found["liger_kernel"].source == "requirements.txt:1"


CELLS = """\
%%capture
!pip install -q "transformers==4.36.2" trl 'peft>=0.10,<0.12' \\
    accelerate==0.30.1 git+https://github.com/deepspeedai/deepspeed

if old:
    !uv pip install transformers==4.46.3
# !pip install trl==0.9.6
"""


def test_what_a_notebook_installs_comes_before_what_files_require() -> None:
    document = Document.of("a/nb.ipynb", CELLS, (Cell(2, 1), Cell(4, 5)))
    around = files({"requirements.txt": "transformers==4.30.0\ntrl==0.7.1\ndeepspeed==0.15.4\n"})
    context = replace(around, load=lambda path: document if path == "a/nb.ipynb" else around.load(path))
    found = {version.library: version for version in find_versions("a/nb.ipynb", context, {})}

    assert (found["transformers"].version, found["transformers"].source) == ((4, 46, 3), "a/nb.ipynb:cell 4:2")
    assert (found["accelerate"].version, found["accelerate"].source) == ((0, 30, 1), "a/nb.ipynb:cell 2:3")
    assert (found["peft"].version, found["peft"].source) == ((0, 11, 1), "newest known allowed by a/nb.ipynb:cell 2:2")
    assert found["trl"].source == "newest known, a/nb.ipynb:cell 2:2 does not say"
    assert found["deepspeed"].source == "requirements.txt:3"


def test_nearest_requirements_win() -> None:
    context = files({"requirements.txt": "transformers==4.36.2\n", "a/requirements.txt": "transformers==4.46.3\n"})
    assert find_versions("a/train.py", context, {})[1].version == (4, 46, 3)


def test_unknown_keyword_is_remarked_with_its_nearest_spelling() -> None:
    from vramlint.values import Entry, Scalar

    table = Table((Entry("per_device_train_batchsize", place(3), Scalar(4, place(3))),))
    found = run(script(LLAMA, *KNOWN, tables=(("training-arguments", table),)))
    (remark,) = found.remarks
    assert (remark.kind, remark.suggestion) == ("unknown-key", "per_device_train_batch_size")


def test_precision_that_a_configuration_leaves_to_the_trainer():
    text = '{"zero_optimization": {"stage": 2},\n"fp16": {"enabled": "auto"},\n"bf16": {"enabled": "auto"}}'
    root = read_json(Document.of("ds.json", text)).root
    (found,) = resolve([deepspeed_sheet("ds.json", root)], files({}, versions=NEWEST))
    precision = found.get("precision")
    assert (precision.value, precision.place.span.line) == ("auto", 3)
    assert [said.span.line for said in precision.also] == [2]
