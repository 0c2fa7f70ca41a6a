"""Reading is total: whatever the text, no exception, and every place lies inside of the script."""

from __future__ import annotations

from collections.abc import Iterator

from hypothesis import given, settings
from hypothesis import strategies as st

from vramlint.readers.shell import read_shell
from vramlint.text import Document, Place
from vramlint.values import Alternatives, Items, Scalar, Shell, Unknown, Value

FRAGMENTS = st.sampled_from([
    "if ", "then ", "else ", "elif ", "fi", "for x in ", "for ((i=0;i<3;i++)); ", "do ", "done", "while ",
    "until ", "case $x in ", "a) ", ";; ", "esac", "{ ", "}", "( ", ")", "[ ", " ]", "[[ ", " ]]", "(( ", "))",
    "f() ", "function ", "\n", "\n", "\n", " ", " ", ";", "&", "&&", "||", "|", "!", "\\\n", "\\", "#", "\r\n",
    "\t", "'", '"', "`", "$", "$(", "${", "$((", "$[", "X", "X=", "X+=", "A=(", "A[1]=", "$X", "${X}", "${X:-",
    "${X##*/", "${X/a/b", "${#X", "${!X", "${A[@]}", '"${A[*]}"', "$1", "$@", "$#", "$'", '$"', "{1..3}", "{a,b}",
    "~", "*", "?", "[a-z]", "=~", "==", "-z ", "-eq ", "<<EOF\n", "<<-'E'\n", "EOF\n", "<<<", "<(", ">", ">>f ",
    "2>&1", "<x>", "echo ", "eval ", "source ", "read ", "local ", "declare -A ", "export ", "set -- ", "shift",
    "return", "exit", "break", "bash -c ", "cat ", "printf '%s' ", "python a.py ", "--lr=", "1e-4", "é", "模",
    "\x00", "1", "0", "-", "+", "=", ",", "..", "@", "%", "^", ":",
])  # fmt: skip


def places(shell: Shell) -> Iterator[Place]:
    for command in shell.commands:
        yield command.place
        yield from command.word_places
        for value in (*command.words, *(entry.value for entry in command.environment), command.folder):
            yield from inside(value)
    for file in shell.files:
        yield file.place
        yield from inside(file.name)
    for header in shell.headers:
        yield from inside(header.value)


def inside(value: Value | None) -> Iterator[Place]:
    match value:
        case Scalar(_, place) | Unknown(_, place) if place is not None:
            yield place
        case Alternatives(options):
            assert len(options) > 1
            for option in options:
                assert not isinstance(option.value, Alternatives)
                yield from inside(option.value)
        case Items(values):
            for item in values:
                assert not isinstance(item, Alternatives)
                yield from inside(item)
        case _:
            pass


@settings(max_examples=300, deadline=None)
@given(st.lists(FRAGMENTS, max_size=40).map("".join) | st.text(max_size=60))
def test_any_text(text: str):
    document = Document.of("run.sh", text)
    shell, problems = read_shell(document)
    lines = text.split("\n")
    for place in (*places(shell), *(problem.place for problem in problems)):
        line, column, end_line, end_column = place.span
        assert place.path == "run.sh"
        assert (1, 1) <= (line, column) <= (end_line, end_column)
        assert end_line <= len(lines)
        assert column - 1 <= len(lines[line - 1]) and end_column - 1 <= len(lines[end_line - 1])
    for command in shell.commands:
        assert len(command.words) == len(command.word_places)


def test_deep_nesting():
    for opening in ("$(", "((", "{ ", "if true; then ", "`", '"$(', "${X:-", "( ", "[[ ( ", "$((", "eval ", "{a,"):
        read_shell(Document.of("run.sh", "echo " + opening * 3000))
        read_shell(Document.of("run.sh", opening * 3000))


def test_growth_is_bounded():
    script = "X=aaaaaaaaaa\nfor i in {1..60}; do X=$X$X; done\npython $X\n"
    ((_, word),) = [command.words for command in read_shell(Document.of("run.sh", script))[0].commands]
    assert isinstance(word, Unknown)
    assert word.reason.startswith("value of $X")
    assert word.reason.endswith("…: a text that grows too long")
