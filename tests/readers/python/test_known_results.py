"""What matching, formatting and functions of the standard library give for known values."""

from __future__ import annotations

from textwrap import dedent

import pytest

from tests.readers.python.reading import shown, value

MATCH = """
from dataclasses import dataclass
@dataclass
class Lora:
    rank: int = 8
def f(item):
    match item:
        case {"kind": "lora", "rank": rank, **rest}:
            return [rank, rest]
        case Lora(rank=rank):
            return rank
        case [first]:
            return first
        case [first, *others]:
            return others
        case str() as text:
            return text
        case int(number) if number > 5:
            return number
        case None:
            return "none"
        case _:
            return "else"
"""


@pytest.mark.parametrize(
    ("item", "wanted"),
    [
        ("{'kind': 'lora', 'rank': 4, 'more': 1}", [4, {"more": 1}]),
        ("{'kind': 'full'}", "else"),
        ("Lora(16)", 16),
        ("[1]", 1),
        ("(1, 2, 3)", [2, 3]),
        ("'a'", "a"),
        ("9", 9),
        ("2", "else"),
        ("None", "none"),
    ],
)
def test_patterns(item: str, wanted: object) -> None:
    assert shown(value(f"{MATCH}\nx = f({item})")) == wanted


@pytest.mark.parametrize(
    ("expression", "wanted"),
    [
        ("f'{7:03d} {3.14159:.2f} {\"a\":>3} {7!r} {1e-5:g}'", "007 3.14   a 7 1e-05"),
        ("'{}-{b}'.format('a', b=7)", "a-7"),
        ("'%s-%d' % ('q', 7)", "q-7"),
        ("sorted(['b', 'a'])", ["a", "b"]),
        ("sorted([1, 3, 2], key=lambda n: -n)", [3, 2, 1]),
        ("list(reversed([1, 2]))", [2, 1]),
        ("list(map(int, ['1', '2']))", [1, 2]),
        ("list(filter(None, [0, 1]))", [1]),
        ("next((n for n in [1, 2, 3] if n > 1), None)", 2),
        ("[pow(2, 3), divmod(7, 2)[0], len({'a': 1}), len('ab')]", [8, 3, 1, 2]),
        ("len(set([1, 1, 2]))", 2),
        ("sorted({'a', 'b', 'c'} - {'a'})", ["b", "c"]),
        ("[letter for letter in 'ab']", ["a", "b"]),
        ("dict(zip('ab', [1, 2]))", {"a": 1, "b": 2}),
        ("list(enumerate(['a'], 1))", [[1, "a"]]),
        ("dict.fromkeys(['a', 'b'], 0)", {"a": 0, "b": 0}),
        ("[math.log2(8), math.sqrt(16)]", [3.0, 4.0]),
        ("functools.reduce(lambda a, b: a * b, [2, 3, 4])", 24),
        ("list(itertools.product([1, 2], ['a']))", [[1, "a"], [2, "a"]]),
        ("list(itertools.chain([1], [2]))", [1, 2]),
        ("re.sub('-', '_', 'a-b')", "a_b"),
        ("json.dumps({'a': [1, True]})", '{"a": [1, true]}'),
        ("[importlib.import_module('torch.optim').AdamW]", ["torch.optim.AdamW"]),
        ("[isinstance(1, int), isinstance('a', (int, str)), type(1).__name__]", [True, True, "int"]),
    ],
)
def test_functions(expression: str, wanted: object) -> None:
    modules = "import functools, importlib, itertools, json, math, re"
    assert shown(value(f"{modules}\nx = {expression}")) == wanted


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        (
            """
            from collections import namedtuple
            Run = namedtuple("Run", "size rate", defaults=[0.5])
            x = [Run(4).size, Run(4).rate, Run(size=1, rate=2)[1]]
            """,
            [4, 0.5, 2],
        ),
        (
            """
            import os
            os.environ["MODEL"] = "gpt2"
            os.environ.update({"SIZE": "4"})
            x = [os.environ["MODEL"], os.getenv("MODEL"), int(os.environ.get("SIZE", 1))]
            """,
            ["gpt2", "gpt2", 4],
        ),
        (
            """
            import os
            x = int(os.environ.get("BATCH", 4))
            """,
            4,
        ),
        (
            """
            def settings(rate=0.5):
                size = 4
                return locals()
            x = settings()
            """,
            {"rate": 0.5, "size": 4},
        ),
        (
            """
            import asyncio
            async def main():
                return 4
            x = asyncio.run(main())
            """,
            4,
        ),
    ],
)
def test_programs(text: str, wanted: object) -> None:
    assert shown(value(dedent(text))) == wanted


@pytest.mark.parametrize("name", ["WORLD_SIZE", "LOCAL_RANK", "NUM_GPUS", "SLURM_NTASKS", "CUDA_VISIBLE_DEVICES"])
def test_what_a_launcher_sets_has_no_default(name: str) -> None:
    assert shown(value(f"import os\nx = int(os.environ.get('{name}', 1))")) == f"? environment variable {name}"


@pytest.mark.parametrize("expression", ["f'{1:9999999}'", "re.sub('(a+)+b', '', 'a' * 30)", "pow(9, 9 ** 9)"])
def test_nothing_takes_long(expression: str) -> None:
    assert str(shown(value(f"import re\nx = {expression}"))).startswith("?")


def test_functions_may_call_themselves() -> None:
    text = """
        from types import SimpleNamespace
        def build(item):
            if isinstance(item, dict):
                return SimpleNamespace(**{key: build(inner) for key, inner in item.items()})
            return item
        x = build({"a": {"b": {"c": 4}}}).a.b.c
    """
    assert shown(value(text)) == 4
    assert shown(value("def f(n):\n    return f(n - 1) if n else 0\nx = f(3)")) == 0
    endless = "def f(n):\n    return f(n - 1) if run(n) else 0\nx = f(3)"
    assert list(shown(value(endless)).values())[-1] == 0  # type: ignore[attr-defined]  # a dict
