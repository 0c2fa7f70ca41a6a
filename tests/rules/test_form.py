import json
from copy import deepcopy
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import tomli

from tools import docs
from vramlint.engine import load_rule, load_rules
from vramlint.engine.loader import builtin_directory
from vramlint.engine.rule_form import from_table
from vramlint.engine.rule_reader import RuleError

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


def edited(path: tuple[str, ...], value: object) -> dict[str, Any]:
    """A rule's table with one value replaced, or taken away where it is None."""
    table = deepcopy(TABLE)
    owner: dict[str, Any] = table
    for key in path[:-1]:
        found = owner[key]
        owner = found[0] if isinstance(found, list) else found
    owner.pop(path[-1], None)
    if value is not None:
        owner[path[-1]] = value
    return table


TABLE: dict[str, Any] = {
    "code": "TEAM001",
    "name": "a-name",
    "severity": "warning",
    "summary": "a summary",
    "when": "gpu.bf16",
    "message": "a message",
    "explanation": {"checks": "what", "why": "why"},
    "fixes": [{"description": "a fix", "set": {"fp8": True}, "safe": True}],
    "examples": {"fail": [{"files": {"a.py": "x"}}], "pass": [{"files": {"a.py": "y"}, "settings": {"nodes": 2}}]},
}
TOP = ("aliases", "runs", "on", "vocabularies", "point", "labels", "notes", "help", "supersedes", "plan", "references")
PLACES = [
    *((key,) for key in (*TABLE, *TOP, "unknown")),
    *(("explanation", key) for key in ("checks", "why", "remedy", "options", "unknown")),
    *(("fixes", key) for key in ("description", "set", "safe", "cost", "unknown")),
    *(("examples", key) for key in ("fail", "pass", "unknown")),
    *(("examples", "pass", key) for key in ("title", "files", "gpu", "settings", "instead", "unknown")),
]
VALUES: tuple[Any, ...] = (
    None,
    3,
    2.5,
    True,
    "",
    "a word",
    "A. sentence.",
    "two\nlines",
    [],
    [3],
    [""],
    ["a-word"],
    {},
    {"a": 3},
    {"fp8": True},
)


@pytest.mark.parametrize("path", PLACES, ids=".".join)
def test_a_rule_is_refused_where_the_published_form_refuses_it(path: tuple[str, ...]) -> None:
    schema = jsonschema.Draft202012Validator(SCHEMA)
    for value in VALUES:
        table = edited(path, value)
        try:
            from_table(table, "rule.toml")
        except RuleError:
            refused = True
        else:
            refused = False
        if not schema.is_valid(table):
            assert refused, (path, value)
        elif refused:
            assert path[-1] in STRICTER, (path, value)


STRICTER = frozenset({"when", "point", "labels", "set", "runs", "code", "severity", "on"})
"""Keys whose words have to exist, which no schema knows."""


def test_superseded_rules_exist() -> None:
    rules = load_rules()
    for rule in rules.rules:
        assert all(rules.find(code) for code in rule.supersedes), rule.code


def test_the_pages_are_up_to_date() -> None:
    assert docs.main(["--check"]) == 0
