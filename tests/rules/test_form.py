import json
import time
from pathlib import Path

import jsonschema
import pytest
import tomli

from tools import docs
from vramlint.engine import load_rule, load_rules
from vramlint.engine.loader import builtin_directory

FILES = sorted(builtin_directory().rglob("*.toml"))
SCHEMA = json.loads((builtin_directory() / "schema.json").read_text(encoding="utf-8"))


def identifiers(path: Path) -> str:
    return path.stem


@pytest.mark.parametrize("path", FILES, ids=identifiers)
def test_the_file_is_of_the_published_form(path: Path) -> None:
    jsonschema.Draft202012Validator(SCHEMA).validate(tomli.loads(path.read_text(encoding="utf-8")))


@pytest.mark.parametrize("path", FILES, ids=identifiers)
def test_the_file_is_where_its_rule_belongs(path: Path) -> None:
    rule = load_rule(path)
    assert path.stem == rule.name
    assert path.parent.name.startswith(f"{rule.code.removeprefix('VRAM')[0]}xx-")


def test_superseded_rules_exist() -> None:
    rules = load_rules()
    for rule in rules.rules:
        assert all(rules.find(code) for code in rule.supersedes), rule.code


def test_loading_all_rules_is_quick() -> None:
    load_rules()
    best = min(_timed() for _ in range(5))
    assert best < 0.05  # 15 ms where it was written; room for slow machines


def _timed() -> float:
    start = time.process_time()
    load_rules()
    return time.process_time() - start


def test_the_pages_are_up_to_date() -> None:
    assert docs.main(["--check"]) == 0
