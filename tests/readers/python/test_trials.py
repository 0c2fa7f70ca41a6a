"""Loops that are tried turn by turn: given up early, and without a trace of what was undone."""

from __future__ import annotations

from tests.readers.python.reading import program, shown, value


def test_loops_inside_one_another_are_not_read_twice_each() -> None:
    depth = 16  # two readings of each would be more than one program is given
    loops = [f"{'    ' * number}for n{number} in [1, 2]:" for number in range(depth)]
    body = [f"{'    ' * depth}torch.cuda.synchronize()"]
    end = ["def rate():", "    return 3e-4", "x = rate()"]
    assert shown(value("\n".join(["import torch", *loops, *body, *end]))) == 3e-4


def test_what_an_abandoned_turn_called_and_changed_is_gone() -> None:
    text = """
        import torch
        seen = []
        for name in ["gpt2", "gpt2-medium"]:
            seen.append(name)
            for step in range(3):
                torch.cuda.synchronize()
                seen.append(step)
        x = 1
    """
    found = program(text)
    assert [call.callee for call in found.calls].count("torch.cuda.synchronize") == 1
    seen = next(entry.value for entry in found.constants if entry.key == "seen")
    assert shown(seen) == "? changes in a loop"


def test_calls_that_a_raising_branch_takes_back_do_not_end_the_turns() -> None:
    text = """
        import torch
        x = 0
        for size in [1, 2, 4]:
            if size > 8:
                x = size
            elif size < 8:
                torch.cuda.synchronize()
                raise ValueError(size)
            x += size
    """
    assert shown(value(text)) == 7


def test_calls_of_a_statement_that_fails_do_not_end_the_turns() -> None:
    text = """
        import torch
        x = 0
        for key in ["a", "b"]:
            try:
                x += len(str(torch.load({}[key])))
            except KeyError:
                x += 1
    """
    assert shown(value(text)) == 2
