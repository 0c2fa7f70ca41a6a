from __future__ import annotations

import pytest
import tomli

from tests.readers.located import fault, root, written
from vramlint.readers.toml import read_toml
from vramlint.text import Document, Place
from vramlint.values import Items, Scalar, Table

TEXT = '''# settings
gpu = "a100-80gb" # here
"quoted key" = 'x'
site."a.b".c = 0x10

[tool.vramlint]
exclude = [
  "a", # one
  """b
""",
]
inline = { x = 1, y.z = [true, { w = 1.5 }] }
when = 1979-05-27 07:32:00

[[tool.vramlint.overrides]]
nodes = 2
[[tool.vramlint.overrides]]
nodes = 3
[tool.vramlint.overrides.severity]
VRAM101 = "info"
'''


def test_values_and_places() -> None:
    document = Document.of("pyproject.toml", TEXT)
    tree = read_toml(document).root
    assert isinstance(tree, Table)
    assert written(document, _key(tree, "gpu")) == "gpu"
    assert written(document, _place(tree, "gpu")) == '"a100-80gb"'
    assert written(document, _key(tree, "quoted key")) == '"quoted key"'
    assert written(document, _key(tree, "site", "a.b", "c")) == "c"
    assert written(document, _place(tree, "site", "a.b", "c")) == "0x10"
    assert written(document, _key(tree, "tool", "vramlint", "inline", "y", "z")) == "z"
    exclude = tree.get("tool", "vramlint", "exclude")
    assert isinstance(exclude, Items)
    assert [written(document, getattr(item, "place", None)) for item in exclude.values] == ['"a"', '"""b\n"""']
    overrides = tree.get("tool", "vramlint", "overrides")
    assert isinstance(overrides, Items)
    second = overrides.values[1]
    assert isinstance(second, Table)
    assert written(document, _place(second, "nodes")) == "3"
    assert written(document, _place(second, "severity", "VRAM101")) == '"info"'
    when = tree.get("tool", "vramlint", "when")
    assert isinstance(when, Scalar)
    assert when.value == "1979-05-27T07:32:00"


def _key(tree: Table, *path: str) -> Place | None:
    entry = tree.entry(*path)
    assert entry is not None
    return entry.key_place


def _place(tree: Table, *path: str) -> Place | None:
    value = tree.get(*path)
    assert isinstance(value, Scalar)
    return value.place


def test_same_values_as_tomli() -> None:
    expected = tomli.loads(TEXT)
    expected["tool"]["vramlint"]["when"] = expected["tool"]["vramlint"]["when"].isoformat()
    assert root(read_toml(Document.of("x.toml", TEXT))) == expected


@pytest.mark.parametrize(
    ("text", "place"),
    [("a = \n", (1, 5)), ("a = 1\na = 2", (2, 6)), ("\ufeffa=1\nb=", (2, 3)), ("[a", (1, 3))],
)
def test_syntax_errors(text: str, place: tuple[int, int]) -> None:
    reading = read_toml(Document.of("x.toml", text))
    assert reading.root is None
    assert fault(reading)[:2] == ("syntax-error", place)


def test_deep_nesting_is_a_problem() -> None:
    reading = read_toml(Document.of("x.toml", "a = " + "[" * 300 + "]" * 300))
    assert reading.root is None
    assert fault(reading)[0] == "syntax-error"


def test_empty_file_is_an_empty_table() -> None:
    reading = read_toml(Document.of("x.toml", "# nothing\n"))
    assert root(reading) == {}
    assert fault(reading)[0] == "empty-file"
