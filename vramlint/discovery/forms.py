"""Written forms: what a file is read as, by its name."""

from __future__ import annotations

from types import MappingProxyType

from vramlint.patterns import lazy

FORMS = MappingProxyType(
    {
        ".py": "python",
        ".ipynb": "notebook",
        ".json": "json",
        ".jsonc": "json",
        ".hjson": "json",
        ".yaml": "yaml",
        ".toml": "toml",
        ".yml": "yaml",
        ".sh": "shell",
        ".bash": "shell",
        ".zsh": "shell",
        ".ksh": "shell",
        ".slurm": "shell",
        ".sbatch": "shell",
        ".pbs": "shell",
        ".lsf": "shell",
        ".sub": "shell",
        ".mk": "make",
        ".dockerfile": "docker",
    }
)
"""By suffix, in lower case."""

_NAMED = lazy(r"(?P<make>(?:GNU)?[Mm]akefile)|(?P<docker>(?:Dockerfile|Containerfile)(?:[.-][\w.-]+)?)")
"""By the whole name."""


def form_of(path: str) -> str:
    """The form of a file by its name: a value of `FORMS`, empty when the name says nothing."""
    name = path.replace("\\", "/").rpartition("/")[2]
    dot = name.rfind(".")
    found = FORMS.get(name[dot:].lower(), "") if dot >= 0 else ""
    if not found and name[:1] in "GMmDC":
        match = _NAMED.fullmatch(name)
        found = (match.lastgroup or "") if match else ""
    return found


_NO_RUNS = lazy(r"(?:test_.*\.py|.*_test\.py|conftest\.py|setup\.py)\Z")


def is_no_run(name: str) -> bool:
    """Whether a file of that name is a test or an installer: tests build trainers by the dozen, and none is a run."""
    return _NO_RUNS.match(name) is not None
