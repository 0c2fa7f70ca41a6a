import pytest
from hypothesis import given
from hypothesis import strategies as st

from vramlint.catalog import find_model, find_model_by_last_part, nearest_models


def test_a_row_has_what_memory_needs():
    row = find_model("meta-llama/Llama-2-7b-hf")
    assert row is not None
    assert (row.model_type, row.architecture) == ("llama", "LlamaForCausalLM")
    assert row.config["hidden_size"] == 4096
    assert row.config["head_dim"] == 128
    assert row.parameter_count == 6_738_415_616
    assert (row.head_parameters, row.head_tied) == (131_072_000, False)
    assert (row.dtype, row.dtype_status) == ("float16", "stated")
    assert row.checked == "exact count"


def test_ids_ignore_case_and_short_names_work():
    assert find_model("QWEN/qwen2.5-7b").id == "Qwen/Qwen2.5-7B"
    assert find_model("gpt2").parameter_count == find_model("openai-community/gpt2").parameter_count == 124_439_808


def test_an_alias_differs_where_the_catalog_says_so():
    alias = find_model("mistralai/Mistral-7B-Instruct-v0.1")
    assert alias.same_as == "mistralai/Mistral-7B-v0.1"
    assert alias.config["max_position_embeddings"] == 4096
    assert find_model(alias.same_as).config["max_position_embeddings"] == 32768


def test_dtype_of_a_mirror_is_only_likely():
    assert find_model("Qwen/Qwen2.5-7B-Instruct").dtype_status == "stated"
    assert find_model("NousResearch/Llama-2-7b-hf").dtype_status == "family"
    assert find_model("codellama/CodeLlama-34b-hf").dtype_status == "family"
    assert find_model("openai-community/gpt2").dtype_status == "unknown"


def test_bitsandbytes_mirrors_are_quantized_already():
    mirror = find_model("unsloth/llama-3-8b-bnb-4bit")
    assert mirror.quantization == "nf4"
    assert mirror.same_as == "meta-llama/Meta-Llama-3-8B"
    assert find_model("meta-llama/Meta-Llama-3-8B").quantization == ""


def test_nested_configs_carry_their_resolved_values():
    text = find_model("Qwen/Qwen2-VL-2B-Instruct").config["text_config"]
    assert (text["num_key_value_heads"], text["hidden_act"]) == (2, "silu")


def test_diffusion_rows_have_components():
    row = find_model("stable-diffusion-v1-5/stable-diffusion-v1-5")
    assert row.components["unet"]["params"] == 859_520_964


@pytest.mark.parametrize(
    "path", ["/data/models/Llama-2-7b-hf", "./llama-2-7b-hf/", "C:\\models\\Llama-2-7b-hf", "Llama-2-7b-hf"]
)
def test_a_local_path_finds_the_model_of_that_name(path):
    assert [row.id for row in find_model_by_last_part(path)] == ["meta-llama/Llama-2-7b-hf"]


def test_mirrors_of_one_network_are_one_candidate():
    found = find_model_by_last_part("llama-7b-hf")
    assert len(found) == 1
    assert found[0].same_as == "huggyllama/llama-7b"


@pytest.mark.parametrize("name", ["", "/", "nobody/nothing", "Llama-2", "a\tb", "é/ü", "gpt2/"])
def test_unknown_names_find_nothing(name):
    assert find_model(name) is None


def test_last_part_of_nothing():
    assert find_model_by_last_part("") == ()
    assert find_model_by_last_part("///") == ()


def test_nearest_names():
    assert nearest_models("meta-llama/Llama-2-7b-fh")[0] == "meta-llama/Llama-2-7b-hf"
    assert nearest_models("gpt2-xll") == ("gpt2-xl",)
    assert nearest_models("zzzzzzzzzzzzzzzz") == ()


@given(st.text(max_size=60))
def test_any_text_is_looked_up(name):
    found = find_model(name)

    assert found is None or found.model_type
    assert all(row.model_type for row in find_model_by_last_part(name))
