"""Magics, shell lines and broken cells leave the Python around them readable, in its place."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.readers.notebook.making import code, opened
from vramlint.readers.notebook import read_script
from vramlint.readers.notebook.escapes import escapes
from vramlint.readers.python import read_program
from vramlint.values import Scalar


def values(*cells: str) -> dict[str, object]:
    """Module-level names with what they hold."""
    program, problems = read_program(read_script(opened(*map(code, cells))).program, {})
    assert program is not None, problems
    return {
        entry.key: entry.value.value if isinstance(entry.value, Scalar) else type(entry.value).__name__
        for entry in program.constants
    }


@pytest.mark.parametrize(
    "escape",
    [
        "!pip install -q peft",
        "! pip install 'a[b]'",
        "!!ls",
        "%matplotlib inline",
        "%env CUDA_VISIBLE_DEVICES=0",
        "%load_ext autoreload",
        "?Trainer",
        "Trainer?",
        "trainer.train??",
        "!torchrun --nproc_per_node 2 \\\n    train.py \\\n    --bf16 True",
        "!echo it's (",
        "if x:\n    !ls\nelse:\n    %cd y",
        "files = !ls",
        "%time trainer.train()",
        "%timeit -n 3 f(x)",
        "await f()",
        "get_ipython().system('ls')",
        "%%notamagic in the middle",
    ],
)
def test_escape_does_not_disturb_the_lines_around_it(escape: str) -> None:
    found = values(f"a = 1\n{escape}\nb = 2", "c = 3")
    assert (found["a"], found["b"], found["c"]) == (1, 2, 3)


@pytest.mark.parametrize("magic", ["%%capture", "%%time", "%%capture out\n%%time", "#@title x\n%%capture", "%%wandb"])
def test_body_of_a_python_magic_is_read(magic: str) -> None:
    assert values(f"{magic}\n!ls\na = 1", "b = a + 1") == {"a": 1, "b": 2}


@pytest.mark.parametrize(
    "cell",
    [
        "%%bash\nset -e\ntorchrun train.py",
        "%%writefile train.py\na = 2",
        "%%html\n<b>a</b>",
        "%%unheard_of\nSELECT a FROM b",
        "%%script bash\nls | a",
        "curl https://example.org | bash\nexec zsh -l",
        "pip install peft \\\n  trl\n# or\npip install -U peft",
    ],
)
def test_cell_of_another_language_is_left_out_without_a_word(cell: str) -> None:
    script = read_script(opened(code("a = 1"), code(cell)))
    assert not script.problems
    assert values("a = 1", cell) == {"a": 1}


def test_percent_and_exclamation_are_operators_inside_brackets_and_strings() -> None:
    cell = 'a = ("%s"\n%\n"x")\nb = """\n!ls\n%cd x\n"""\nc = 7 \\\n% 4'
    assert values(cell) == {"a": "x", "b": "\n!ls\n%cd x\n", "c": 3}


def test_places_are_those_of_the_notebook() -> None:
    document = opened(code("%%capture", "!pip install x"), code("if a:", "  !ls", "  b = 5"), code("x = !ls", "y = 7"))
    program, _ = read_program(read_script(document).program, {})
    assert program is not None
    (found,) = (entry.value for entry in program.constants if entry.key == "y")
    assert isinstance(found, Scalar)
    assert found.place is not None
    assert document.slice(found.place.span) == "7"


def test_broken_cell_is_a_problem_and_the_others_are_read() -> None:
    script = read_script(opened(code("a = 1"), code("b = (2", "f(:"), code("c = 3")))
    (problem,) = script.problems
    assert problem.kind == "syntax-error"
    cell = script.program.cell(problem.place.span.line)
    assert cell is not None
    assert cell.number == 2
    assert values("a = 1", "b = (2", "c = 3") == {"a": 1, "c": 3}


@pytest.mark.parametrize("cell", ['print "a"', "pip install peft\nx = 1", "x = 1 1", "import a b"])
def test_python_that_is_broken_is_no_command(cell: str) -> None:
    assert len(read_script(opened(code(cell))).problems) == 1


def test_cell_may_be_indented_as_a_whole() -> None:
    assert values("a = 1", "\n    b = a + 1\n    c = 3", "d = 4") == {"a": 1, "b": 2, "c": 3, "d": 4}


def test_output_of_a_command_is_unknown() -> None:
    assert values("a = 1", "a = !nvidia-smi") == {"a": "Unknown"}


cells = st.text(alphabet="ab=()[]'\"\\\n\r\t %!?#0:,") | st.lists(
    st.sampled_from(["%%bash", "%time ", "x = !ls", "if a:", "  ", '"""', "\\", "\n", "!a {b}", "?", "%cd", "(", "é"])
).map("".join)


@given(st.lists(cells, max_size=4))
def test_lines_keep_their_length_whatever_the_cells(texts: list[str]) -> None:
    document = opened(*({**code(), "source": text} for text in texts))
    program = read_script(document).program
    pairs = zip(program.text.split("\n"), document.text.split("\n"), strict=True)
    assert all(len(one) == len(other) or one == "if 1:" for one, other in pairs)
    result, problems = read_program(program, {})
    assert result is not None, problems


@given(cells)
def test_escapes_stand_apart_and_in_order(text: str) -> None:
    at = 0
    for escape in escapes(text, 0, len(text)):
        assert at <= escape.start < escape.end <= len(text)
        at = escape.end
