"""The data files themselves: order, form, and that every line can be read."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tools import catalog as tool
from vramlint.catalog import all_gpus, all_models, all_optimizers, find_gpu, find_model, find_optimizer, model_names
from vramlint.catalog.frameworks import FRAMEWORKS, framework_keys
from vramlint.catalog.lines import DATA, Lines, lines
from vramlint.job import Gpu


def test_every_data_file_is_sorted_complete_and_of_the_right_form():
    assert tool.all_problems() == []
    assert {path.name for path in DATA.iterdir() if path.is_file()} == set(tool.FORMS)


@pytest.mark.parametrize("name", FRAMEWORKS)
def test_every_row_of_a_frameworks_keys_can_be_read(name):
    for rows in framework_keys(name).values():
        for row in rows:
            assert row.key.strip() == row.key != "", row
            json.loads(row.default or "0")


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("b\t{}\na\t{}\n", "not sorted"),
        ('a\t{"same":"b"}\n', "points to an absent row"),
        ("a\n", "1 columns where 2 belong"),
        ('a\t{"source":"x","verified":"source"}\nA\t{"source":"x","verified":"source"}\n', "twice: A"),
    ],
)
def test_the_check_finds_faults(content, expected):
    assert any(expected in problem for problem in tool.problems("optimizers.tsv", content))


def test_sorting_orders_releases_as_numbers_and_keeps_the_comments():
    form = tool.Form(1, 2, versioned=1)
    assert tool.sorted_content("# head\nb\t4.9\nB\t4.10\na\t5.0\n", form) == "# head\na\t5.0\nb\t4.9\nB\t4.10\n"


def test_a_line_made_from_a_config_json():
    config = {
        "model_type": "llama",
        "architectures": ["LlamaForCausalLM"],
        "torch_dtype": "bfloat16",
        "hidden_size": 64,
        "bos_token_id": 1,
    }
    line = tool.model_line("me/tiny", config, 1000, "me/tiny@1")
    assert line == (
        'tiny\tme\t{"type":"llama","architecture":"LlamaForCausalLM","config":{"hidden_size":64},"dtype":"bfloat16",'
        '"dtype_status":"stated","parameters":{"total":1000},"checked":"unverified","sources":["me/tiny@1"]}'
    )


def test_adding_a_line_keeps_the_file_sorted(monkeypatch, tmp_path: Path):
    for name in tool.FORMS:
        (tmp_path / name).write_bytes((DATA / name).read_bytes())
    monkeypatch.setattr(tool, "DATA", tmp_path)
    assert tool.main(["add", "someone/gpt2-mirror", "--same", "openai-community/gpt2"]) == 0
    assert "gpt2-mirror\tsomeone\t" in (tmp_path / "models.tsv").read_text(encoding="utf-8")
    assert tool.main(["add", "someone/broken", "--same", "no/such"]) == 1


def test_every_name_resolves():
    for name in model_names():
        row = find_model(name)
        assert row is not None
        assert row.id == name
        assert row.model_type
        assert row.config or row.components


def test_every_optimizer_name_resolves():
    assert len(all_optimizers()) == 79
    for name, *_ in lines("optimizers.tsv"):
        assert find_optimizer(name) is not None


def test_every_gpu_is_found_by_its_id():
    for row in all_gpus():
        gpu = find_gpu(row.id)
        assert isinstance(gpu, Gpu), row.id
        assert gpu.id == row.id
        assert 0 < gpu.usable_bytes <= gpu.memory_bytes


def test_a_look_up_reads_few_lines():
    lines.cache_clear()
    assert find_model("Qwen/Qwen2.5-7B-Instruct") is not None
    read = lines("models.tsv").read_count
    assert read < 40
    assert sum(1 for _ in model_names()) > 1400


def test_nothing_is_found_in_an_empty_file_or_beyond_the_ends():
    assert list(Lines(b"").starting_with("a")) == []
    assert list(Lines(b"# only a comment").starting_with("a")) == []
    table = Lines(b"# c\nB\t1\nc\t2\nc\t3\nd\t4")
    assert list(table.starting_with("a")) == []
    assert list(table.starting_with("z")) == []
    assert list(table.starting_with("b")) == [("B", "1")]
    assert list(table.starting_with("C")) == [("c", "2"), ("c", "3")]
    assert list(table.starting_with("d")) == [("d", "4")]


def test_iterating_models_gives_each_network_once():
    ids = [row.id for row in all_models()]
    assert len(ids) == len(set(ids)) >= 625


def test_looking_up_loads_nothing_heavy():
    program = (
        "import sys; from vramlint.catalog import find_model, parse_gpu, find_optimizer, default, keys; "
        "find_model('gpt2'); parse_gpu('8xh100'); find_optimizer('adamw'); default('trl', 'SFTConfig.bf16', (1, 16)); "
        "keys('TrainingArguments', (5,)); "
        "print(sorted({'argparse', 'difflib', 'tomli', 'yaml', 'libcst', 'torch'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
