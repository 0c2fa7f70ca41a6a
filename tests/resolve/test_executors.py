from __future__ import annotations

import pytest

from tests.resolve.making import files
from vramlint.readers.python import read_program
from vramlint.resolve.executors import executor_of, is_bare
from vramlint.text import Document
from vramlint.values import Program, Scalar

SETTINGS = "n_layer = 6\nbatch_size = 64\nname = 'small'\n"
HELPER = """
import sys
for word in sys.argv[1:]:
    exec(open(word).read())
"""


def program(text: str) -> Program:
    found, _ = read_program(Document.of("a.py", text), {})
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("text", "bare"),
    [
        (SETTINGS, True),
        ("sizes = [1, 2]\n", True),
        ("", False),
        ("import torch\nbatch_size = 4\n", False),
        ("import time\nname = 'run-' + str(time.time())\nbatch_size = 4\n", True),
        ("import time\nname = str(time.time())\n", False),
        ("size = compute()\n", False),
        ("def f():\n    pass\nsize = 1\n", True),
    ],
)
def test_files_of_bare_settings(text: str, bare: bool) -> None:
    assert is_bare(program(text)) is bare


@pytest.mark.parametrize(
    "script",
    [
        "import sys\nn_layer = 12\nexec(open(sys.argv[1]).read())\n",
        "import torch\nn_layer = 12\nexec(open('configurator.py').read())  # overrides\n",
    ],
)
def test_the_script_above_executes_them(script: str) -> None:
    context = files({"configs/small.py": SETTINGS, "train.py": script, "configurator.py": HELPER, "model.py": ""})
    found = executor_of("configs/small.py", context)
    assert found is not None
    assert found.script.path == "train.py"
    assert found.invocation.arguments == (Scalar("configs/small.py", None, "cli"),)


def test_the_nearest_script_is_taken() -> None:
    script = "import sys\nexec(open(sys.argv[1]).read())\n"
    context = files({"a/small.py": SETTINGS, "a/run.py": script, "train.py": script})
    found = executor_of("a/small.py", context)
    assert found is not None
    assert found.script.path == "a/run.py"
    assert found.invocation.arguments == (Scalar("small.py", None, "cli"),)


def test_a_script_that_executes_nothing_has_no_settings_of_this_kind() -> None:
    context = files({"configs/small.py": SETTINGS, "train.py": "import sys\nprint(sys.argv)\n"})
    assert executor_of("configs/small.py", context) is None


def test_a_helper_that_is_not_there_says_nothing() -> None:
    context = files({"small.py": SETTINGS, "train.py": "exec(open('gone.py').read())\n"})
    assert executor_of("small.py", context) is None
