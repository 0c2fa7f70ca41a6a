"""What single expressions stand for."""

from __future__ import annotations

import pytest

from tests.readers.python.reading import at, call, program, shown, value
from vramlint.values import Items, Scalar, Unknown

KNOWN = [
    ("x = 4", 4),
    ("x = -2e-5", -2e-5),
    ("x = 1_000", 1000),
    ("x = 'a' \"b\"", "ab"),
    (r"x = 'a\n\d'", "a\n\\d"),
    ("x = None", None),
    ("x = 128 // 4", 32),
    ("x = 2 ** 10 + 1", 1025),
    ("x = 1 / 0", "? arithmetic that fails"),
    ("x = 2 ** 10000000", "? arithmetic"),
    ("n = 7\nx = f'model-{n}b'", "model-7b"),
    ("x = 'model-%db' % 7", "model-7b"),
    ("x = '{}-{}'.format('a', 1)", "a-1"),
    ("x = 'Meta/Llama'.split('/')[-1].lower()", "llama"),
    ("import os\nx = os.path.join('a', 'b/', 'c')", "a/b/c"),
    ("from pathlib import Path\nx = Path('a') / 'b'", "a/b"),
    ("from pathlib import Path\nx = str(Path('a').resolve())", "a"),
    ("x = int('8') + len([1, 2]) + max(1, 3) + round(2.4)", 15),
    ("x = bool('False')", True),
    ("x = [1, *[2, 3]]", [1, 2, 3]),
    ("x = [1]\nx.append(2)\nx += [3]\nx.extend([4])", [1, 2, 3, 4]),
    ("x = [i * 2 for i in (1, 2, 3) if i != 2]", [2, 6]),
    ("x = {k: 1 for k in ('a', 'b')}", {"a": 1, "b": 1}),
    ("x = {'a': 1, **{'b': 2}}\nx['c'] = 3\nx.update(d=4)\nx.update({'a': 0})", {"a": 0, "b": 2, "c": 3, "d": 4}),
    ("x = dict(a=1, **{'b': 2})", {"a": 1, "b": 2}),
    ("x = {'a': {'b': 2}}['a']['b']", 2),
    ("x = {'a': 1}.get('b', 7)", 7),
    ("a, (b, *c) = 1, (2, 3, 4)\nx = [a, b, c]", [1, 2, [3, 4]]),
    ("x = 1 if 3 > 2 else 0", 1),
    ("x = None or 'b'", "b"),
    ("x = 0 and 1", 0),
    ("x = 'llama' in 'meta-llama'", True),
    ("x = 1 < 2 < 3", True),
    ("x = (y := 5) + y", 10),
    ("x = not []", True),
    ("x = 'abc'[1:]", "bc"),
    ("import torch as t\nx = t.bfloat16", "torch.bfloat16"),
    ("import torch\nx = getattr(torch, 'float16')", "torch.float16"),
    ("import torch\nx = torch.float16 == torch.float32", False),
    ("import torch\nx = {'bf16': torch.bfloat16}['bf16']", "torch.bfloat16"),
    ("import sys\nx = len(sys.argv) > 1", "? length: command line arguments"),
    ("x = undefined", "? name undefined, which nothing defines"),
    ("import os\nx = int(os.environ.get('WORLD_SIZE', 1))", "? environment variable WORLD_SIZE"),
    ("import os\nx = os.environ['HOME']", "? environment variable HOME"),
    ("x = (lambda n, m=2: n * m)(4)", 8),
    ("x = list(dict(a=1).items())", [["a", 1]]),
    ("x = any(k in 'gpt2' for k in ('opt', 'gpt'))", True),
    ("from functools import partial\nx = partial(max, 3)(2)", 3),
]


@pytest.mark.parametrize(("text", "expected"), KNOWN)
def test_worked_out(text: str, expected: object) -> None:
    found = shown(value(text))
    assert found == expected
    assert type(found) is type(expected)


def test_literal_keeps_its_place_through_variables() -> None:
    text = """
        MODEL = "gpt2"
        size = 4

        def build(batch=size):
            return batch

        from transformers import TrainingArguments as TA
        TA(MODEL, per_device_train_batch_size=build(), bf16=(True))
    """
    found = call(program(text), "transformers.TrainingArguments")
    model, batch, bf16 = found.args[0], found.argument("per_device_train_batch_size"), found.argument("bf16")
    assert isinstance(model, Scalar) and isinstance(batch, Scalar) and isinstance(bf16, Scalar)
    assert (at(text, model.place), model.via) == ('"gpt2"', "module-constant")
    assert (at(text, batch.place), batch.via) == ("4", "function-default")
    assert (at(text, bf16.place), bf16.via) == ("True", "literal")
    assert at(text, found.place) == "TA(MODEL, per_device_train_batch_size=build(), bf16=(True))"
    assert [at(text, keyword.name_place) for keyword in found.keywords] == ["per_device_train_batch_size", "bf16"]


def test_computed_value_stands_where_it_is_computed() -> None:
    text = "a = 128\nb = 4\nx = a // b"
    found = value(text)
    assert isinstance(found, Scalar)
    assert (at(text, found.place), found.via, found.value) == ("a // b", "computed", 32)


def test_comparison_with_one_written_operand_stands_at_that_operand() -> None:
    text = "bits = 4\n\nx = bits == 4"
    found = value(text)
    assert isinstance(found, Scalar) and found.place is not None
    assert (found.place.span.line, found.via, found.value) == (1, "computed", True)


def test_columns_count_code_points_after_a_byte_order_mark_and_with_crlf() -> None:
    text = "\ufeff# é𝄞\r\nname = '𝄞é'; x = 12\r\n"
    found = value(text)
    assert isinstance(found, Scalar) and found.place is not None
    assert (found.place.span.line, found.place.span.column, found.place.span.end_column) == (2, 18, 20)


def test_several_lines_in_one_literal() -> None:
    text = 'x = """a\nb"""'
    found = value(text)
    assert isinstance(found, Scalar) and found.place is not None
    assert (found.place.span.end_line, found.place.span.end_column) == (2, 5)


def test_unknown_element_makes_the_rest_of_the_list_no_less_known() -> None:
    found = value("x = [1, undefined]")
    assert isinstance(found, Items)
    assert [type(item) for item in found.values] == [Scalar, Unknown]


def test_loop_counters_and_appended_lists_are_unknown_after_the_loop() -> None:
    assert shown(value("x = 0\nfor row in open('f'):\n    x += 1")) == "? changes in a loop"
    assert shown(value("x = []\nfor row in open('f'):\n    x.append(1)")) == "? changes in a loop"


def test_a_short_literal_loop_gives_every_element() -> None:
    text = """
        from transformers import TrainingArguments
        for rate, size in [(1e-4, 8), (1e-5, 16)]:
            TrainingArguments(learning_rate=rate, per_device_train_batch_size=size)
    """
    found = call(program(text), "transformers.TrainingArguments")
    assert shown(found.argument("learning_rate")) == {"rate, size = element 0": 1e-4, "rate, size = element 1": 1e-5}
