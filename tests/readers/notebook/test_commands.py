"""What notebooks give to shells, with Python's values put in."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.readers.notebook.making import code, opened
from vramlint.readers.notebook import Notebook, read_notebook
from vramlint.readers.shell import read_shell
from vramlint.text import Document
from vramlint.values import Command, Scalar, Unknown, Value


def read(*cells: str) -> Notebook:
    return read_notebook(opened(*map(code, cells)), read_shell)


def shown(value: Value | None) -> object:
    return value.value if isinstance(value, Scalar) else f"?{value.reason}" if isinstance(value, Unknown) else value


def commands(*cells: str) -> list[list[object]]:
    return [[shown(word) for word in command.words] for shell in read(*cells).shell for command in shell.commands]


def only(*cells: str) -> tuple[Document, Command]:
    """The document and the last command of a notebook."""
    document = opened(*map(code, cells))
    return document, read_notebook(document, read_shell).shell[-1].commands[-1]


def environment(command: Command) -> dict[str, object]:
    return {entry.key: shown(entry.value) for entry in command.environment}


def test_command_over_several_lines() -> None:
    cell = "!torchrun --nproc_per_node 2 \\\n    finetune.py \\\n    --bf16 True\nprint(1)"
    assert commands(cell) == [["torchrun", "--nproc_per_node", "2", "finetune.py", "--bf16", "True"]]


@pytest.mark.parametrize(
    "cell",
    [
        "!python train.py --bs 4",
        "!!python train.py --bs 4",
        "%sx python train.py --bs 4",
        "out = !python train.py --bs 4",
        "%%bash\npython train.py --bs 4",
        "%%sh\npython train.py --bs 4",
        "%%script bash --no-raise-error\npython train.py --bs 4",
        "%%bash -s 4 x\npython train.py --bs $1",
        "%sh\npython train.py --bs 4",
        "%run train.py --bs 4",
        "%%time\n!python train.py --bs 4",
        "get_ipython().system('python train.py --bs 4')",
        "get_ipython().run_cell_magic('bash', '', 'set -e\\npython train.py --bs 4\\n')",
        "with x:\n    !python train.py --bs 4",
        "cmd = 'python train.py --bs 4'\n!{cmd}",
        "cmd = f'''python train.py \\\\\n  --bs {2 + 2}'''\n!$cmd".replace("{2 + 2}", "4"),
    ],
)
def test_ways_to_run_a_command(cell: str) -> None:
    assert commands(cell) == [["python", "train.py", "--bs", "4"]]


@pytest.mark.parametrize(
    "cell",
    [
        "%%html\n!ls",
        "%%writefile a.sh\npython x.py",
        "# !ls",
        "x = '''\n!ls\n'''",
        "subprocess.run(cmd)",
        "%pip install x",
    ],
)
def test_what_is_no_command(cell: str) -> None:
    assert commands(cell) == []


def test_values_of_python_are_put_in() -> None:
    cell = 'model = "gpt2"\nlr = 1e-4\nname = f"{model}-ft"\npath = os.path.join("runs", name)'
    command = "!python a.py {model} $lr --name={name} '{path}' $HOME"
    assert commands(cell, command) == [
        ["python", "a.py", "gpt2", "0.0001", "--name=gpt2-ft", "runs/gpt2-ft", "?environment variable HOME"]
    ]


def test_value_is_written_where_python_assigns_it() -> None:
    document, command = only('model = "gpt2"\nbs = 4', "!python a.py {model} --bs $bs")
    places = [word.place and document.slice(word.place.span) for word in command.words]
    assert places == ["python", "a.py", "gpt2", "--bs", "4"]
    assert [document.slice(place.span) for place in command.word_places] == ["python", "a.py", "{model}", "--bs", "$bs"]


def test_text_of_several_words_is_several_words() -> None:
    cell = 'args = "--bf16 True"\n!python a.py {args} "{args}"'
    assert commands(cell) == [["python", "a.py", "--bf16", "True", "--bf16 True"]]


def test_value_that_python_computes_is_unknown() -> None:
    document, command = only("bs = len(x)", "!python a.py {bs} {undefined}")
    reasons = [word.reason for word in command.words if isinstance(word, Unknown)]
    assert reasons == ["`len(x)` in Python", "name undefined, which nothing defines"]
    assert document.slice(command.word_places[2].span) == "{bs}"


def test_value_that_a_branch_sets_is_unknown() -> None:
    (words,) = commands("bs = 4\nif big:\n    bs = 8\n!python a.py {bs}")
    assert words[2] == "?name bs, assigned in a branch or loop"


@pytest.mark.parametrize("word", ["'{print $1}'", "'{\"a\": 1}'", "${HOME}", "{}", "'{a,b}'", "'$bs'"])
def test_braces_and_dollars_of_the_shell_stay(word: str) -> None:
    document, command = only("bs = 4", f"!python a.py {word}")
    assert document.slice(command.word_places[2].span) == word
    assert not isinstance(command.words[2], Unknown) or word == "${HOME}"


def test_environment_goes_to_the_commands_behind() -> None:
    cells = (
        "%env A=1",
        'import os\nos.environ["B"] = "2"\nos.environ.update({"C": str(3)})\nos.environ.setdefault("A", "9")',
        "!D=4 python a.py",
        "%set_env B 5\n%env A",
        "!export E=6; python b.py",
    )
    notebook = read(*cells)
    first, second = (command for shell in notebook.shell for command in shell.commands)
    assert environment(first) == {"A": "1", "B": "2", "C": "3", "D": "4"}
    assert environment(second) == {"A": "1", "B": "5", "C": "3", "E": "6"}
    assert [(entry.key, shown(entry.value)) for entry in notebook.environment] == [("A", "1"), ("B", "5"), ("C", "3")]


def test_environment_and_folder_of_an_exported_notebook() -> None:
    text = (
        "# In[1]:\nget_ipython().run_line_magic('env', 'A=1')\nget_ipython().run_line_magic('cd', 'x')\n"
        "get_ipython().system('python a.py')\n"
    )
    (shell,) = read_notebook(Document.of("nb.py", text), read_shell).shell
    assert environment(shell.commands[0]) == {"A": "1"}
    assert shown(shell.commands[0].folder) == "x"


def test_folder_of_the_notebook() -> None:
    _, command = only("%cd LLaMA-Factory\n!cd data", 'os.chdir("src")', "!cd ../x && python a.py")
    assert shown(command.folder) == "LLaMA-Factory/x"


def test_command_in_a_branch_has_its_conditions() -> None:
    _, command = only("if big:\n    for i in range(3):\n        x = 1\n        !python a.py")
    assert command.conditions == ("big", "for i in range(3):")


def test_written_file_keeps_its_place() -> None:
    document = opened(code("x = 1"), code('%%writefile "conf/ds.json"', '{"bf16": 1}'))
    (file,) = read_notebook(document, read_shell).files
    assert shown(file.name) == "conf/ds.json"
    assert file.document is not None
    assert file.document.text.split() == ['{"bf16":', "1}"]
    assert file.document.line(4) == '{"bf16": 1}'


def test_files_of_shells_count_too() -> None:
    notebook = read('%%bash\ncat > ds.json <<EOF\n{"bf16": 1}\nEOF', '%%writefile b.json\n{"a": 1}')
    assert [shown(file.name) for file in notebook.files] == ["ds.json", "b.json"]
    document = notebook.files[0].document
    assert document is not None
    assert document.line(3) == '{"bf16": 1}'


def script(text: str) -> list[list[object]]:
    shells = read_notebook(Document.of("nb.py", text), read_shell).shell
    return [[shown(word) for word in command.words] for shell in shells for command in shell.commands]


HEADS = ["", "# Databricks notebook source\n", "# %%\n", "# ---\n# jupyter:\n#   jupytext:\n# ---\n"]
JUPYTEXT = "# ---\n# jupyter:\n#   jupytext:\n#     text_representation:\n#       format_name: percent\n# ---\n\n"


def test_jupytext_writes_magics_as_comments() -> None:
    text = (
        'bs = 4\n# %% [markdown]\n# Now !train\n\n# %%\n# !torchrun a.py \\\n#   --bs {bs}\n\n# %% language="bash"\n'
        "# cd x\n# python b.py\n\n# %%\n# %%bash\n# python c.py\n\n# %%\nx = 1 # !ls\n"
    )
    found = [words for words in script(JUPYTEXT + text) if words[0] != "cd"]
    assert found == [["torchrun", "a.py", "--bs", "4"], ["python", "b.py"], ["python", "c.py"]]


def test_commands_in_comments_of_other_scripts_are_put_away() -> None:
    assert script("# %%\n# !torchrun a.py\nx = 1\n") == []


def test_databricks_marks_its_magics() -> None:
    text = (
        "# Databricks notebook source\nbs = 4\n\n# COMMAND ----------\n\n# MAGIC %sh\n# MAGIC python a.py \\\n"
        "# MAGIC   --x 1\n\n# COMMAND ----------\n\n# MAGIC %sh python b.py\n\n# MAGIC %md\n# MAGIC python c.py\n"
    )
    assert script(text) == [["python", "a.py", "--x", "1"], ["python", "b.py"]]


def test_magics_of_a_script_with_cells_need_no_comments() -> None:
    document = Document.of("nb.py", "# %%\nx = 4\n!python a.py {x}\n# %%\ny = 1\n")
    notebook = read_notebook(document, read_shell)
    assert [shown(word) for word in notebook.shell[0].commands[0].words] == ["python", "a.py", "4"]
    assert "!" not in notebook.program.text
    assert notebook.program.line(5) == "y = 1"


CELLS = """
x = 'a'
x = f'{x} {y}'
!a {x} $x
!{x}
%env A={x}
%cd $x
%%bash -s {x}
%%writefile {x}
if x: !b
os.system(x)
x, y = 1, 2
(x, y) = f()
os.environ[x] = 1
é = '日本'
!a {é}
!$$x ${x}
x = rf'{y}'
x += 1
%run {x}
subprocess.run([x], shell=True)
# %%
"""
LINES = st.sampled_from(CELLS.split("\n")) | st.text(alphabet="x={}$!%'\"\\\n ab(", max_size=20)


@settings(deadline=None)
@given(st.lists(st.lists(LINES, max_size=8).map("\n".join), max_size=3), st.sampled_from(HEADS))
def test_never_raises(texts: list[str], head: str) -> None:
    document = opened(*({**code(), "source": text} for text in texts))
    notebook = read_notebook(document, read_shell)
    for shell in notebook.shell:
        for command in shell.commands:
            assert len(command.words) == len(command.word_places)
            assert all(place.path == "nb.ipynb" for place in command.word_places)
            document.slice(command.place.span)
    commented = "\n".join(f"# {line}" for text in texts for line in text.split("\n"))
    read_notebook(Document.of("nb.py", head + commented), read_shell)
    read_notebook(Document.of("nb.py", head + "\n".join(texts)), read_shell)


@pytest.mark.parametrize(
    "cell",
    [
        "x = " + " + ".join(["'a'"] * 3000) + "\n!a {x}",
        "x = f'" + "{a}" * 3000 + "'\n!{x}",
        "!a " + "{x}" * 3000,
        "x = 'ab'\n" + "x = f'{x}{x}'\n" * 60 + "!a {x}",
        "x = 'ab'\n" + "x = x + x\n" * 60 + "!a {x}",
        "if x:\n" + "    !a b\n" * 3000,
    ],
)
def test_hostile_cells_take_no_time(cell: str) -> None:
    assert len(read(cell).shell) <= 500
