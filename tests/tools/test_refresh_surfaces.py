"""tools/refresh_surfaces.py: what it reads out of a framework's code, and what it makes of a table."""

from __future__ import annotations

import json

import pytest

from tools import refresh_surfaces
from tools.refresh_surfaces import main
from tools.surfaces.declared import Part, declared_keys, reader
from tools.surfaces.drift import refreshed
from tools.surfaces.registry import SOURCES
from tools.surfaces.source import Key, Source
from tools.surfaces.trees import Folder
from vramlint.catalog.frameworks import FRAMEWORKS

CLASSES = """
from dataclasses import dataclass, field
from pydantic import BaseModel, Field

@dataclass
class Base:
    rank: int = 8
    alpha: int = field(default=16, metadata={"help": "scale"})
    names: list[str] = field(default_factory=list)
    kind: ClassVar[str] = "no key"
    _hidden: int = 1

class Arguments(Base, Mixin):
    rank: int = 32
    length: int | None = Field(None, description="tokens")
    share: float = 0.5
    on: bool = True
    computed: int = 2 * 4
"""
PARSER = """
def parse():
    p = argparse.ArgumentParser()
    p.add_argument("positional")
    p.add_argument("-n", "--num-layers", type=int, default=None)
    p.add_argument("--lr", type=float, default=1e-4)
    group.add_argument("--no-cache", action="store_true")
    p.add_argument("--keep", action="store_false")
raise RuntimeError("never run")
"""


@pytest.fixture
def root(tmp_path):
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "arguments.py").write_text(CLASSES)
    (tmp_path / "package" / "parser.py").write_text(PARSER)
    return tmp_path


def test_fields_of_a_class_with_those_that_it_inherits(root):
    found = declared_keys(Folder(root), [Part("package/*.py", ("Arguments",), "model.")])

    assert found == {
        "model.rank": Key("int", "32"),
        "model.alpha": Key("int", "16"),
        "model.names": Key("list[str]", ""),
        "model.length": Key("int | None", ""),
        "model.share": Key("float", "0.5"),
        "model.on": Key("bool", "true"),
        "model.computed": Key("int", ""),
    }


def test_parameters_of_functions_whose_defaults_differ(root):
    (root / "package" / "full.py").write_text(
        "def setup(rank: int = 8, size: int = 1, *, seed: int | None = None): ...\n"
    )
    (root / "package" / "lora.py").write_text(
        "def setup(rank: int = 8, size: int = 4): ...\nclass A:\n  def run(self, x: str): ...\n"
    )

    found = declared_keys(
        Folder(root), [Part("package/*.py", functions=("setup",)), Part("package/*.py", (), "a.", ("A.run",))]
    )

    assert {key: (row.type, row.default) for key, row in found.items()} == {
        "rank": ("int", "8"),
        "size": ("int", ""),
        "seed": ("int | None", ""),
        "a.x": ("str", ""),
    }


def test_options_of_a_parser_without_running_it(root):
    assert declared_keys(Folder(root), [Part("package/parser.py")]) == {
        "num_layers": Key("int", ""),
        "lr": Key("float", "0.0001"),
        "no_cache": Key("bool", "false"),
        "keep": Key("bool", "true"),
    }


ROWS = (
    ("# key", "since", "until", "renamed_to", "type", "default", "note"),
    ("gone", "", "", "", "int", "1", ""),
    ("old", "", "1.0", "new", "int", "4", ""),
    ("same", "", "", "", "int", "2", "a note"),
    ("size", "0.5", "", "", "int", "512", ""),
    ("user.*", "", "", "", "", "", "anything"),
)
TABLE = "".join("\t".join(row) + "\n" for row in ROWS)


def test_drift_closes_rows_and_opens_new_ones():
    declared = {"same": Key("int", "2"), "size": Key("int", "1024"), "new": Key("bool", "false")}

    after, lines = refreshed(TABLE, declared, "2.0")

    assert lines == ["- gone", "~ size: 512 -> 1024", "+ new bool false"]
    assert [tuple(line.split("\t")) for line in after.splitlines()] == [
        ("# key", "since", "until", "renamed_to", "type", "default", "note"),
        ("gone", "", "2.0", "", "int", "1", ""),
        ("new", "2.0", "", "", "bool", "false", ""),
        ("old", "", "1.0", "new", "int", "4", ""),
        ("same", "", "", "", "int", "2", "a note"),
        ("size", "0.5", "2.0", "", "int", "512", ""),
        ("size", "2.0", "", "", "int", "1024", ""),
        ("user.*", "", "", "", "", "", "anything"),
    ]
    assert refreshed(after, declared, "2.0") == (after, [])


def test_the_command_writes_only_when_told(root, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(refresh_surfaces, "DATA", tmp_path)
    (tmp_path / "frameworks").mkdir()
    mine = Source(read=reader("mine", (Part("package/parser.py"),)))
    monkeypatch.setattr(refresh_surfaces, "SOURCES", {"mine": mine})
    command = ["--repo", f"mine={root}", "--release", "1.0"]

    assert main(command) == 1
    assert not (tmp_path / "frameworks" / "mine.tsv").exists()
    assert main([*command, "--write"]) == 0
    assert "frameworks/mine.tsv, 1.0, 4 keys: 4 drifted" in capsys.readouterr().out
    assert main(command) == 0
    assert json.loads((tmp_path / "frameworks" / "mine.tsv").read_text().split("lr\t")[1].split("\t")[4]) == 1e-4


def test_every_source_is_of_a_framework_that_is_read():
    assert SOURCES.keys() <= {*FRAMEWORKS, "unsloth"}
