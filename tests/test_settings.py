from __future__ import annotations

from pathlib import Path

import pytest

from vramlint.findings import Severity
from vramlint.settings import Settings, find, for_path, load
from vramlint.values import Problem

PYPROJECT = """
[project]
name = "x"

[tool.vramlint]
gpu = "a100-80gb"
gpus-per-node = 8
ignore = ["VRAM201"]
severity = { exceeds-gpu-memory = "warning" }
exclude = ["old/"]
rules = ["policies/"]
fail-on = "error"
headroom = 0.9

[tool.vramlint.versions]
transformers = "4.57.6"

[[tool.vramlint.overrides]]
files = ["small/**", "*.ipynb.py"]
gpu = "rtx3090"
gpus-per-node = 1
ignore = ["VRAM301"]
severity = { VRAM102 = "info" }
model = "gpt2"
sequence-length = 512
"""


def settings_of(path: Path, text: str) -> Settings:
    path.write_text(text, encoding="utf-8")
    result = load(path)
    assert isinstance(result, Settings), result
    return result


def problems_of(path: Path, text: str) -> list[tuple[str, int]]:
    path.write_text(text, encoding="utf-8")
    result = load(path)
    assert isinstance(result, tuple), result
    assert all(problem.place.path == str(path) for problem in result)
    return [(problem.message, problem.place.span.line) for problem in result]


def test_all_keys(tmp_path: Path) -> None:
    settings = settings_of(tmp_path / "pyproject.toml", PYPROJECT)
    assert (settings.gpu, settings.gpus_per_node, settings.nodes) == ("a100-80gb", 8, None)
    assert settings.root == str(tmp_path)
    assert settings.severity == {"exceeds-gpu-memory": Severity.WARNING}
    assert (settings.ignore, settings.exclude, settings.rules) == (("VRAM201",), ("old/",), ("policies/",))
    assert (settings.fail_on, settings.headroom) == (Severity.ERROR, 0.9)
    assert settings.versions == {"transformers": "4.57.6"}
    assert settings.places["gpu"].span.line == 6


def test_overrides_hold_for_matching_paths_only(tmp_path: Path) -> None:
    settings = settings_of(tmp_path / "pyproject.toml", PYPROJECT)
    small = for_path(settings, str(tmp_path / "small" / "a" / "train.py"))
    assert (small.gpu, small.gpus_per_node, small.model, small.sequence_length) == ("rtx3090", 1, "gpt2", 512)
    assert small.ignore == ("VRAM201", "VRAM301")
    assert small.severity == {"exceeds-gpu-memory": Severity.WARNING, "VRAM102": Severity.INFO}
    assert small.places["gpu"].span.line == 20
    assert for_path(settings, "./small/train.py").gpu == "rtx3090", "relative paths start at the settings file"
    assert for_path(settings, "../small/train.py") == settings
    assert for_path(settings, str(tmp_path / "big" / "train.py")) == settings
    assert for_path(settings, str(tmp_path.parent / "small" / "train.py")) == settings


def test_later_overrides_win(tmp_path: Path) -> None:
    text = 'gpu = "t4"\n[[overrides]]\nfiles = ["a/"]\ngpu = "l4"\n[[overrides]]\nfiles = ["a/b/"]\ngpu = "h100"\n'
    settings = settings_of(tmp_path / "vramlint.toml", text)
    paths = ("c.py", "a/c.py", "a/b/c.py")
    assert [for_path(settings, str(tmp_path / path)).gpu for path in paths] == ["t4", "l4", "h100"]


def test_command_line_values_win() -> None:
    settings = Settings(gpu="t4", nodes=2).merged(gpu="h100", nodes=None, select=("VRAM101",))
    assert (settings.gpu, settings.nodes, settings.select) == ("h100", 2, ("VRAM101",))
    with pytest.raises(TypeError):
        settings.merged(gpuu="x")


@pytest.mark.parametrize(
    ("text", "message", "line"),
    [
        ('\ngpuu = "t4"', "no setting `gpuu`; did you mean `gpu`?", 2),
        ("gpus_per_node = 8", "no setting `gpus_per_node`; did you mean `gpus-per-node`?", 1),
        ("gpu = 3", "`gpu` takes a string that is not empty", 1),
        ("nodes = 0", "`nodes` takes a positive whole number", 1),
        ("ram = 512", "`ram` takes a string that is not empty", 1),
        ('nvme = "much"', "`nvme` takes a size such as `512GiB`", 1),
        ("nodes = true", "`nodes` takes a positive whole number", 1),
        ('ignore = "VRAM101"', "`ignore` takes a list of strings", 1),
        ("ignore = [\n 'a',\n 3]", "`ignore` takes a string that is not empty", 3),
        ('[severity]\nVRAM101 = "eror"', "`severity` does not take `eror`; did you mean `error`?", 2),
        ('severity = "error"', "`severity` takes a table of rules with their severities", 1),
        ("headroom = 1.5", "`headroom` takes a number above 0 and at most 1", 1),
        ('[versions]\ntransfomers = "4.0"', "`versions` has no library `transfomers`; did you mean `transformers`?", 2),
        ('[versions]\ntorch = "latest"', "`versions` takes versions such as `4.57.6`, not `latest`", 2),
        ('[[overrides]]\ngpu = "t4"', "an override needs `files`", 2),
        ('[[overrides]]\nfiles = ["a"]\nexclude = ["b"]', "no setting `exclude` in an override", 3),
        ("overrides = 3", "`overrides` takes tables: write `[[overrides]]`", 1),
    ],
)
def test_wrong_settings_name_line_and_remedy(tmp_path: Path, text: str, message: str, line: int) -> None:
    ((said, where),) = problems_of(tmp_path / "vramlint.toml", text)
    assert said.startswith(message)
    assert where == line


def test_all_mistakes_at_once(tmp_path: Path) -> None:
    assert len(problems_of(tmp_path / "vramlint.toml", "a = 1\nnodes = 0\n[[overrides]]\nfiles = 3\n")) == 3


def test_broken_and_missing_files(tmp_path: Path) -> None:
    assert problems_of(tmp_path / "vramlint.toml", "gpu = \n") == [("invalid value", 1)]
    (tmp_path / "vramlint.toml").write_bytes(b"\xff\xfe")
    for path in (tmp_path / "vramlint.toml", tmp_path / "none.toml"):
        (problem,) = load(path)  # type: ignore[misc]  # a tuple of problems, as the unpacking shows
        assert isinstance(problem, Problem)
        assert problem.message.startswith("cannot read settings")


def test_a_tool_table_of_the_wrong_type(tmp_path: Path) -> None:
    (message, line) = problems_of(tmp_path / "pyproject.toml", "[tool]\nvramlint = 3\n")[0]
    assert (message, line) == ("`tool.vramlint` takes a table", 2)


def test_empty_file_means_defaults(tmp_path: Path) -> None:
    assert settings_of(tmp_path / "vramlint.toml", "").gpu is None


def test_the_closest_file_wins_up_to_the_git_root(tmp_path: Path) -> None:
    outer, repository = tmp_path / "vramlint.toml", tmp_path / "repo"
    inner = repository / "a" / "b"
    inner.mkdir(parents=True)
    outer.write_text("")
    assert find(inner) == outer
    (repository / ".git").mkdir()
    assert find(inner) is None
    project = repository / "pyproject.toml"
    project.write_text("[project]\nname = 'vramlint-user'\n")
    assert find(inner) is None
    project.write_text("[tool.vramlint]\n")
    assert find(inner) == project
    (repository / "vramlint.toml").write_text("")
    assert find(inner) == repository / "vramlint.toml"
    (inner / "pyproject.toml").write_text("[tool.vramlint\n")
    assert find(inner) == inner / "pyproject.toml", "a broken file is found, so that its error is shown"
