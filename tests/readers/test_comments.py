from __future__ import annotations

import pytest

from vramlint.readers.comments import Directive, directives
from vramlint.text import Document
from vramlint.values import Scalar


def found(text: str, form: str) -> tuple[Directive, ...]:
    result, problems = directives(Document.of("f", text), form)
    assert problems == ()
    return result


def ignored(text: str, form: str) -> list[tuple[list[object], int | None]]:
    return [([name.value for name in item.names], item.line) for item in found(text, form)]


def test_own_line_and_trailing_in_python() -> None:
    text = (
        "# vramlint: ignore[VRAM101, exceeds-gpu-memory] a cluster of its own\n"
        "\n"
        "# another comment\n"
        "x = 1\r\n"
        "y = 2  # noqa: X # vramlint:ignore[VRAM102]\r\n"
        's = "# vramlint: ignore[no]"\n'
        's = """\n# vramlint: ignore[no]\n"""\n'
        "# see vramlint: a linter\n"
    )
    first, second = found(text, "python")
    assert [name.value for name in first.names] == ["VRAM101", "exceeds-gpu-memory"]
    assert (first.kind, first.line, first.reason) == ("ignore", 4, "a cluster of its own")
    document = Document.of("f", text)
    assert [document.slice(name.place.span) for name in first.names if name.place] == ["VRAM101", "exceeds-gpu-memory"]
    assert (second.line, document.slice(second.place.span)) == (5, "# vramlint:ignore[VRAM102]")


def test_declarations() -> None:
    text = '# vramlint: gpu=a100-80gb, nodes=2 model="my model" sequence-length=2_048\nx = 1\n'
    (directive,) = found(text, "python")
    assert directive.kind == "declare"
    assert directive.line is None
    assert [(entry.key, entry.value.value) for entry in directive.values if isinstance(entry.value, Scalar)] == [
        ("gpu", "a100-80gb"),
        ("nodes", 2),
        ("model", "my model"),
        ("sequence-length", 2048),
    ]
    document = Document.of("f", text)
    gpu = directive.values[0]
    assert gpu.key_place is not None
    assert document.slice(gpu.key_place.span) == "gpu"
    assert isinstance(gpu.value, Scalar)
    assert gpu.value.place is not None
    assert document.slice(gpu.value.place.span) == "a100-80gb"


def test_ignore_file_with_and_without_rules() -> None:
    every, one = found("# vramlint: ignore-file\n# vramlint: ignore-file[VRAM101] why\n", "yaml")
    assert (every.kind, every.names, every.line) == ("ignore-file", (), None)
    assert ([name.value for name in one.names], one.reason, one.line) == (["VRAM101"], "why", None)


def test_json_comments_of_all_kinds() -> None:
    text = (
        "// vramlint: ignore[A]\n"
        "{\n"
        " /* vramlint: ignore[B]\n    for now */\n"
        ' "a": 1, // vramlint: ignore[C]\n'
        ' "b": "// vramlint: ignore[no]", # vramlint: ignore[D]\n'
        " c: text # vramlint: ignore[no]\n"
        "}\n"
    )
    assert ignored(text, "json") == [(["A"], 2), (["B"], 5), (["C"], 5), (["D"], 6)]


def test_yaml_comments_respect_quotes_and_blocks() -> None:
    text = (
        "# vramlint: ignore[A]\n"
        "a: '# vramlint: ignore[no]'\n"
        "b: | # vramlint: ignore[B]\n"
        "  # vramlint: ignore[no]\n"
        "c: x#vramlint # vramlint: ignore[C]\n"
        "d: [1, # vramlint: ignore[D]\n"
        '  "# vramlint: ignore[no]"]\n'
        "# vramlint: ignore[E]"
    )
    assert ignored(text, "yaml") == [(["A"], 2), (["B"], 3), (["C"], 5), (["D"], 6), (["E"], 8)]


def test_toml_comments() -> None:
    text = (
        "# vramlint: ignore[A]\n"
        'a = "# vramlint: ignore[no]" # vramlint: ignore[B]\n'
        'b = """\n# vramlint: ignore[no]"""\n'
    )
    assert ignored(text, "toml") == [(["A"], 2), (["B"], 2)]


@pytest.mark.parametrize(
    ("text", "form"),
    [
        ("x = 1 # vramlint: ignore[A]\ndef f(:\n  (", "python"),
        ("# vramlint: ignore[A]\na: [1\nb: c: d", "yaml"),
        ("# vramlint: ignore[A]\n{", "json"),
        ("\ufeff# vramlint: ignore[A]\nx = 1\n", "python"),
    ],
)
def test_broken_files_keep_what_comes_before(text: str, form: str) -> None:
    result, _ = directives(Document.of("f", text), form)
    assert [[name.value for name in item.names] for item in result] == [["A"]]


@pytest.mark.parametrize(
    ("comment", "said"),
    [
        ("ignroe[A]", "`ignroe[A]` is no directive; did you mean `ignore`?"),
        ("ignore", "it names no rule; write `ignore[exceeds-gpu-memory] reason`"),
        ("ignore[A", "the bracket is not closed"),
        ("ignore[]", "it names no rule"),
        ("ignore[a b, *]", "`*` is no rule code or name"),
        ("gpuu=h100", "`gpuu` cannot be declared; did you mean `gpu`?"),
        ("micro_batch_size=4", "did you mean `micro-batch-size`?"),
        ("nodes=two", "`nodes` takes a positive whole number"),
        ("ram=64", "`ram` takes a size such as 512GiB"),
        ("", "it says nothing"),
    ],
)
def test_directives_that_are_not_understood(comment: str, said: str) -> None:
    result, problems = directives(Document.of("f", f"x = 1  # vramlint: {comment}\n"), "python")
    assert result == ()
    (problem,) = problems
    assert problem.kind == "bad-directive"
    assert said in problem.message
    assert (problem.place.span.line, problem.place.span.column) == (1, 8)


def test_shell_comments() -> None:
    text = "echo '# vramlint: gpu=rtx3090'\nX=\"# vramlint: gpu=x\" # vramlint: gpu=rtx4090\necho a#b # don't\n"
    (directive,), problems = directives(Document.of("run.sh", text), "shell")
    (entry,) = directive.values
    assert isinstance(entry.value, Scalar)
    assert (entry.value.value, problems) == ("rtx4090", ())


def test_makefile_comments() -> None:
    text = "# vramlint: gpu=rtx4090\ntrain:\n\tpython train.py\n"
    (directive,), _ = directives(Document.of("Makefile", text), "make")
    assert directive.place.span.line == 1
