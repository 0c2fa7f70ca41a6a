"""The command line of a tool as a table."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tests.surfaces.launch.making import PATH, launch_of
from vramlint.surfaces.launch.flags import arguments_table
from vramlint.text import Place, Span
from vramlint.values import Invocation, Items, Scalar, Table, Unknown, plain


def table_of(line: str) -> Table:
    return arguments_table(launch_of(f"trl sft {line}").invocation)


def test_values_are_what_they_spell():
    table = table_of("--lora_r 16 --learning_rate=2e-5 --bf16 True --optim adamw_torch --max_grad_norm 0.5 --seed -1")
    assert plain(table) == {
        "lora_r": 16,
        "learning_rate": 2e-5,
        "bf16": True,
        "optim": "adamw_torch",
        "max_grad_norm": 0.5,
        "seed": -1,
    }


def test_option_alone_is_a_switch():
    assert plain(table_of("--bf16 --use_peft --packing false --no_gradient_checkpointing --no_cuda")) == {
        "bf16": True,
        "use_peft": True,
        "packing": False,
        "gradient_checkpointing": False,
        "no_cuda": True,
    }


def test_words_of_booleans_where_a_boolean_is_wanted():
    assert plain(table_of("--bf16 yes --packing 0 --eval_strategy no")) == {
        "bf16": True,
        "packing": False,
        "eval_strategy": "no",
    }


def test_several_values_are_a_list():
    table = table_of("--lora_target_modules q_proj v_proj --lora_r 8")
    assert plain(table) == {"lora_target_modules": ["q_proj", "v_proj"], "lora_r": 8}
    assert isinstance(table.get("lora_target_modules"), Items)


def test_words_of_run_time_behind_a_value_are_more_options():
    table = table_of('--lora_target_modules q_proj $MODULES --optim adamw_torch $MORE --lora_r 8 "$@"')
    assert (table.get("lora_r").value, table.get("optim").value) == (8, "adamw_torch")
    assert isinstance(table.get("lora_target_modules"), Items)


def test_dashes_and_underscores_are_one():
    assert plain(table_of("--per-device-train-batch-size 4")) == {"per_device_train_batch_size": 4}


def test_later_wins():
    assert table_of("--lora_r 8 --lora_r 16").get("lora_r").value == 16


def test_places_are_those_of_the_words():
    table = table_of("--lora_r=16 --bf16")
    assert table.entry("lora_r").key_place == Place(PATH, Span(1, 9, 1, 20))
    assert table.get("lora_r").place == Place(PATH, Span(1, 18, 1, 20))
    assert table.get("bf16").place == Place(PATH, Span(1, 21, 1, 27))
    assert table.get("bf16").via == "cli"


def test_mapping_is_read_with_places():
    table = table_of("--gradient_checkpointing_kwargs '{\"use_reentrant\":false}' --bf16")
    value = table.get("gradient_checkpointing_kwargs", "use_reentrant")
    assert value.value is False
    assert value.place.span == Span(1, 59, 1, 64)


def test_broken_mapping_is_unknown():
    assert isinstance(table_of("--model_init_kwargs '{a:::'").get("model_init_kwargs"), Unknown)


def test_unknown_word_is_the_options_value():
    place = Place(PATH, Span(1, 1, 1, 9))
    words = (
        Unknown("environment variable R", place, "--lora_r="),
        Scalar("--optim", place),
        Unknown("argument 1", place),
    )
    table = arguments_table(Invocation(words))
    assert (table.get("lora_r").reason, table.get("optim").reason) == ("environment variable R", "argument 1")


_WORDS = st.one_of(
    st.text(max_size=10),
    st.sampled_from(
        ["--bf16", "--lora_r=", "--", "---", "{", '{"a": 1}', "--no_", "-1", "--x={", '{"a":[{"b":null}]}', "nan"]
    ),
)


@given(st.lists(_WORDS, max_size=10), st.booleans())
def test_any_words_are_read(words, placed):
    place = Place(PATH, Span(1, 1, 1, 9)) if placed else None
    arguments_table(Invocation(tuple(Scalar(word) for word in words), place=place))
