"""Patterns that are compiled late."""

import gc
import importlib
import pkgutil
import re

import pytest

import vramlint
from vramlint import patterns
from vramlint.patterns import lazy


def test_methods_are_those_of_the_compiled_pattern() -> None:
    pattern, compiled = lazy(r"(\d)(x)?", re.IGNORECASE), re.compile(r"(\d)(x)?", re.IGNORECASE)
    text = "1X 2 3x"
    assert pattern.findall(text) == compiled.findall(text)
    assert pattern.sub("<\\1>", text) == compiled.sub("<\\1>", text)
    assert [found.span() for found in pattern.finditer(text, 1)] == [(3, 4), (5, 7)]
    assert pattern.search("none") is None
    assert pattern.pattern == compiled.pattern
    assert lazy(rb"\d").fullmatch(b"7")


def test_an_expression_is_compiled_when_it_is_first_used() -> None:
    broken = lazy("(")
    with pytest.raises(re.error):
        broken.match("")


def test_all_patterns_of_the_package_compile() -> None:
    for module in pkgutil.walk_packages(vramlint.__path__, "vramlint."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    gc.unfreeze()  # a command line that ran in this process freezes what was there
    found = [item for item in gc.get_objects() if type(item) is patterns._Lazy and vars(item)["_source"] != "("]
    assert len(found) > 300
    for pattern in found:
        assert pattern.pattern
