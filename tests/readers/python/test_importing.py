import dataclasses
import inspect
import subprocess
import sys

import libcst as cst
import pytest

from vramlint.readers.python import importing

NODES = sorted(
    (kind for kind in vars(cst).values() if isinstance(kind, type) and issubclass(kind, cst.CSTNode)),
    key=lambda kind: kind.__name__,
)
SIGNATURES = """
import inspect, libcst
for name, kind in sorted(vars(libcst).items()):
    if isinstance(kind, type) and issubclass(kind, libcst.CSTNode):
        taken = inspect.signature(kind.__init__).parameters.values()
        print(name, [(one.name, str(one.kind), type(one.default).__name__) for one in taken][1:])
"""


def test_constructors_take_what_those_of_libcst_alone_take() -> None:
    alone = subprocess.run([sys.executable, "-c", SIGNATURES], capture_output=True, text=True, check=True)
    lines = []
    for kind in NODES:
        taken = inspect.signature(importing._constructor(kind)).parameters.values()
        lines.append(f"{kind.__name__} {[(one.name, str(one.kind), type(one.default).__name__) for one in taken][1:]}")
    assert len(lines) > 150
    assert alone.stdout.splitlines() == lines


def test_its_classes_wait_for_their_first_call() -> None:
    script = (
        "import vramlint.readers.python, inspect, libcst\n"
        "before = list(inspect.signature(libcst.Yield.__init__).parameters)\n"
        "node = libcst.Yield(libcst.Name('x'))\n"
        "print(before, list(inspect.signature(libcst.Yield.__init__).parameters)[:2], node.value.value)"
    )
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert ran.stdout == "['self', 'values', 'named'] ['self', 'value'] x\n"


def test_a_node_is_checked_and_cannot_be_changed() -> None:
    name = cst.Name("x")
    with pytest.raises(cst.CSTValidationError):
        cst.Name("")
    with pytest.raises(TypeError, match="value"):
        cst.Name()  # type: ignore[call-arg]
    with pytest.raises(dataclasses.FrozenInstanceError):
        name.value = "y"  # type: ignore[misc]
    with pytest.raises(dataclasses.FrozenInstanceError):
        del name.value
    assert name.with_changes(value="y").value == "y"
    assert name.deep_clone().deep_equals(name)


def test_dataclasses_are_left_as_they_were() -> None:
    assert dataclasses.dataclass is importing._complete


def test_classes_of_others_are_complete_even_in_the_meantime() -> None:
    with importing._lighter_nodes():

        @dataclasses.dataclass(frozen=True)
        class Pair:
            one: int
            other: int = 2

    assert Pair(1) == Pair(1, 2)
    assert repr(Pair(1)).endswith("Pair(one=1, other=2)")
    assert inspect.signature(Pair).parameters["other"].default == 2


def test_nodes_that_are_declared_in_another_way_are_left_as_they_come() -> None:
    script = (
        "import sys\n"
        "from vramlint.readers.python import importing\n"
        "for name in [name for name in sys.modules if name.startswith('libcst')]:\n"
        "    del sys.modules[name]\n"
        "importing._is_node = lambda kind: kind.__name__ == 'CSTNode'\n"
        "importing.bring_in()\n"
        "import dataclasses, libcst\n"
        "print(libcst.parse_module('x = f(1)').code, dataclasses.dataclass is importing._complete)\n"
        "libcst.Name('x').value = 'y'"
    )
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert ran.stdout == "x = f(1) True\n"
    assert "FrozenInstanceError: cannot assign" in ran.stderr
