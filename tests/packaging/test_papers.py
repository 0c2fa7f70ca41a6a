"""The papers do not lie: links lead somewhere, tables are complete, CONTRIBUTING works as written."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from tests.packaging.conftest import ROOT
from vramlint.settings.keys import KEYS

PAPERS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("bench/*.md")])


def block(name: str) -> str:
    """The code block of CONTRIBUTING behind the mark `<!-- name -->`."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    found = re.search(rf"^ *<!-- {name} -->\n( *)```\w+\n(.*?)^ *```$", text, re.MULTILINE | re.DOTALL)
    assert found, name
    return textwrap.dedent(found[2])


@pytest.fixture
def copy(checkout: Path, tmp_path: Path) -> Path:
    """A checkout that the test may change."""
    return Path(shutil.copytree(checkout, tmp_path / "vramlint", ignore=shutil.ignore_patterns(".git")))


def python(copy: Path, *arguments: str, code: int = 0) -> str:
    """Run the changed checkout's own code, whose folder comes before any installed one."""
    done = subprocess.run(
        [sys.executable, *arguments], cwd=copy, stdin=subprocess.DEVNULL, check=False, capture_output=True, text=True
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("paper", PAPERS, ids=[str(paper.relative_to(ROOT)) for paper in PAPERS])
def test_links_lead_somewhere(paper: Path) -> None:
    targets = re.findall(r"\]\((?!https?:)([^)#]+)", paper.read_text(encoding="utf-8"))
    assert [target for target in targets if not (paper.parent / target).exists()] == []


def test_settings_page_has_every_key() -> None:
    text = (ROOT / "docs/settings.md").read_text(encoding="utf-8")
    table = "\n".join(line.partition(" | ")[0] for line in text.splitlines() if line.startswith("| `"))
    assert set(re.findall(r"`([a-z-]+)`", table)) == {*KEYS, "overrides"}


def test_adding_a_rule(copy: Path) -> None:
    path = copy / "rules/5xx-adapters/weight-decomposed-adapter.toml"
    path.parent.mkdir(exist_ok=True)
    path.write_text(block("rule"), encoding="utf-8")
    python(copy, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/rules", "-k", "weight-decomposed or VRAM509")
    python(copy, "-m", "tools.docs")
    assert (copy / "docs/rules/weight-decomposed-adapter.md").exists()


def test_adding_a_gpu(copy: Path) -> None:
    with (copy / "vramlint/catalog/data/gpus.tsv").open("a", encoding="utf-8") as file:
        file.write(block("gpu"))
    python(copy, "-m", "tools.catalog", "sort")
    assert "RTX 9999" in python(copy, "-m", "vramlint", "gpus", "rtx-9999")


def test_adding_a_model(copy: Path) -> None:
    with (copy / "vramlint/catalog/data/models.tsv").open("a", encoding="utf-8") as file:
        file.write(block("model"))
    python(copy, "-m", "tools.catalog", "sort")
    assert "example-org/example-1b" in python(copy, "-m", "vramlint", "models", "example-1b")


def test_adding_an_architecture(copy: Path) -> None:
    folder = copy / "vramlint/memory/architectures"
    (folder / "arcee.py").write_text(block("architecture"), encoding="utf-8")
    registry = (folder / "__init__.py").read_text(encoding="utf-8")
    line = '            "llama": "llama:Llama",\n'
    registry = registry.replace(line, f'{line}            "arcee": "arcee:Arcee",\n', 1)
    (folder / "__init__.py").write_text(registry, encoding="utf-8")
    traced = (ROOT / "bench/data/traced_llamas.jsonl").read_text(encoding="utf-8").splitlines()
    rows = copy / "arcee.jsonl"
    rows.write_text("\n".join(line for line in traced if '"model_type":"arcee"' in line), encoding="utf-8")
    figures = json.loads(python(copy, "bench/accuracy.py", "--cases", str(rows), "--json"))
    assert (figures["n"], figures["states_exact"], figures["phase_right"]) == (4, 1, 1)
    assert figures["max_error"] < 1e-5
    (copy / "model").mkdir()
    config = {
        "model_type": "arcee", "architectures": ["ArceeForCausalLM"], "hidden_size": 2560, "num_hidden_layers": 32,
        "num_attention_heads": 32, "intermediate_size": 18432, "vocab_size": 32000, "hidden_act": "relu2",
        "max_position_embeddings": 4096, "tie_word_embeddings": False, "torch_dtype": "float32",
    }  # fmt: skip
    (copy / "model/config.json").write_text(json.dumps(config), encoding="utf-8")
    script = (ROOT / "examples/full-finetune-7b/train.py").read_text(encoding="utf-8")
    script = script.replace('deepspeed="ds_config.json",', "").replace("meta-llama/Llama-2-7b-hf", "model")
    (copy / "train.py").write_text(script, encoding="utf-8")
    (job,) = json.loads(python(copy, "-m", "vramlint", "explain", "--format", "json", "train.py"))["jobs"]
    assert job["estimate"]["high"]["method"] == "simulated"
    # ArceeForCausalLM with the defaults of its configuration class, built on the meta device (transformers 5.23).
    assert job["estimate"]["high"]["total_parameters"] == 4_022_766_080
