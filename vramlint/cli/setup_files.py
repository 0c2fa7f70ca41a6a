"""The files that `vramlint init` writes: a settings section, the hook, the workflow. Text in, text out."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import NamedTuple

from vramlint.readers.yaml import read_yaml
from vramlint.text import Document
from vramlint.values import Items, Table

REPOSITORY = "https://github.com/vramlint/vramlint"
SECTION = "[tool.vramlint]"
HOOKS = ".pre-commit-config.yaml"
WORKFLOW = ".github/workflows/vramlint.yml"


class Choice(NamedTuple):
    """What goes into the settings."""

    gpu: str = ""
    """The GPU that the user named, as `--gpu` takes it; empty leaves a line to fill in, where it is needed."""
    gpus_per_node: int | None = None
    nodes: int | None = None
    ram: str = ""
    nvme: str = ""
    undeclared: tuple[str, ...] = ()
    """Jobs of which no file says on which GPU they run."""


def section(choice: Choice, *, table: bool) -> str:
    """The settings, as a table of pyproject.toml or as the content of a vramlint.toml."""
    lines = [SECTION] if table else []
    if choice.gpu:
        lines.append(f"gpu = {json.dumps(choice.gpu)}")
    elif choice.undeclared:
        shown = ", ".join(choice.undeclared[:3]) + (", …" if len(choice.undeclared) > 3 else "")
        lines.append(f"# No file says on which GPU these run: {shown}")
        lines.append('# gpu = "a100-80gb"   # `vramlint gpus` lists the names; overrides can tell folders apart')
    else:
        lines.append("# Every job's own files say on which GPU it runs.")
    lines += [f"gpus-per-node = {choice.gpus_per_node}"] if choice.gpus_per_node else []
    lines += [f"nodes = {choice.nodes}"] if choice.nodes else []
    lines += [f"ram = {json.dumps(choice.ram)}"] if choice.ram else []
    lines += [f"nvme = {json.dumps(choice.nvme)}"] if choice.nvme else []
    return "\n".join(lines) + "\n"


def appended(content: str, text: str) -> str:
    """A file's content with a paragraph below, in its own line ends."""
    end = "\r\n" if "\r\n" in content else "\n"
    body = content if not content or content.endswith("\n") else content + end
    gap = end if body.strip() else ""
    return f"{body}{gap}{text.replace(chr(10), end)}"


def hook(version: str, indent: str = "  ") -> str:
    """The entry of a pre-commit configuration."""
    rows = (f"- repo: {REPOSITORY}", f"  rev: v{version}", "  hooks:", "    - id: vramlint")
    return "".join(f"{indent}{row}\n" for row in rows)


def with_hook(content: str, version: str) -> str | None:
    """A pre-commit configuration with the hook at the end of its list; None where that cannot be done surely."""
    if not content.strip():
        return f"repos:\n{hook(version)}"
    document = Document.of(HOOKS, content)
    root = read_yaml(document).root
    repos = root.entry("repos") if isinstance(root, Table) else None
    if (
        repos is None
        or not isinstance(repos.value, Items)
        or not isinstance(root, Table)
        or root.entries[-1] is not repos
    ):
        return None
    last = repos.value.values[-1] if repos.value.values else None
    if not isinstance(last, Table) or last.place is None:
        return None
    line = document.line(last.place.span.line)
    dash = line.find("- ")
    if line[:dash].strip() or dash < 0:
        return None
    end = "\r\n" if "\r\n" in content else "\n"
    body = content if content.endswith("\n") else content + end
    return body + hook(version, " " * dash).replace("\n", end)


def workflow() -> str:
    """A GitHub workflow that checks pull requests and shows findings at their lines."""
    return f"""\
name: vramlint
on: [push, pull_request]
permissions:
  contents: read
jobs:
  vramlint:
    runs-on: ubuntu-latest
    steps:
      - uses: actions/checkout@v5
      - uses: actions/setup-python@v6
        with: {{python-version: "3.13"}}
      - run: pip install git+{REPOSITORY}
      - run: vramlint --format github
"""


def names(undeclared: Sequence[str]) -> str:
    """Some names for a line of output."""
    return ", ".join(undeclared[:5]) + (f" and {len(undeclared) - 5} more" if len(undeclared) > 5 else "")
