"""Nodes that are made without LibCST's constructors."""

from __future__ import annotations

import libcst as cst
import pytest

from vramlint.readers.python import nodes


def test_a_node_is_that_of_the_constructor() -> None:
    name, value = nodes.name("a"), nodes.integer("1")
    made = nodes.argument(value, name, "")
    assert type(made) is cst.Arg
    assert made.deep_equals(cst.Arg(cst.Integer("1"), cst.Name("a")))
    assert nodes.block((nodes.line((nodes.expr(made.value),)),)).deep_equals(
        cst.IndentedBlock([cst.SimpleStatementLine([cst.Expr(cst.Integer("1"))])])
    )


def test_all_fields_are_set_and_every_maker_makes_its_class() -> None:
    found = {name: item for name, item in vars(nodes).items() if getattr(item, "__name__", "") == "make"}
    assert len(found) > 70
    node = nodes.generator(nodes.name("a"), None)
    assert [len(node.lpar), len(node.rpar)] == [1, 1]


def test_the_number_of_values_is_that_of_the_fields() -> None:
    for make, values in ((nodes.name, ()), (nodes.attribute, (1,)), (nodes.attribute, (1, 2, 3))):
        with pytest.raises(TypeError):
            make(*values)
    with pytest.raises(ValueError, match="shorter"):
        nodes.argument(nodes.name("a"))
