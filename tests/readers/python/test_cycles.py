"""Objects that hold themselves, by an attribute that a program sets on them."""

from __future__ import annotations

from tests.readers.python.reading import call, program
from vramlint.values import Call, Unknown

ADAPTERS = """
    import lib

    model = lib.wrap(lib.load("gpt2"))
    if resumes():
        model = lib.restore(model, lib.weights())
    saves = model.state_dict
    model.state_dict = (lambda self: lib.chosen(self, saves())).__get__(model, type(model))
    lib.train(model=model)
"""


def test_what_goes_through_a_call_inside_of_itself_is_whole_elsewhere() -> None:
    restored = call(program(ADAPTERS), "lib.restore")
    wrapped = restored.argument("", 0)

    assert isinstance(wrapped, Call)
    assert wrapped.callee == "lib.wrap"


def test_the_circle_itself_ends() -> None:
    wrapped = call(program("import lib\nx = lib.wrap()\nx.inner = lib.use(x)\n"), "lib.wrap")
    inner = wrapped.argument("inner")

    assert isinstance(inner, Call)
    assert isinstance(inner.args[0], Unknown)


def test_calls_that_hold_one_another_are_each_frozen_once() -> None:
    steps = "".join(f"if lib.test({n}):\n    x = lib.step(x, {n})\n" for n in range(12))
    found = program(f"import lib\nroot = x = lib.wrap()\n{steps}root.last = x\nlib.train(x)\n")

    assert len([item for item in found.calls if item.callee == "lib.step"]) == 12
