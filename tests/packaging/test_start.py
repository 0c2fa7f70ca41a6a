from __future__ import annotations

import hashlib
import http.server
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.packaging.conftest import ROOT
from tools import start

PAGE = """<!DOCTYPE html><html><body>
<a href="../../f/pip-9.0-py2.py3-none-any.whl#sha256=00">pip-9.0-py2.py3-none-any.whl</a>
<a href="../../f/pip-25.3-py3-none-any.whl#sha256={digest}" data-requires-python="&gt;=3.9">pip-25.3</a>
<a href="../../f/pip-25.4-py3-none-any.whl">no hash</a>
<a href="../../f/pip-25.5-py3-none-any.whl#sha256={digest}" data-yanked="broken">yanked</a>
<a href="../../f/pip-26.0b1-py3-none-any.whl#sha256={digest}">a beta</a>
<a href="../../f/pip-99.0-py3-none-any.whl#sha256={digest}" data-requires-python="&gt;=3.99">later Pythons</a>
<a href="../../f/pip-25.3.tar.gz#sha256={digest}">a source distribution</a>
</body></html>"""
WHEEL = b"not really a wheel"


@pytest.fixture
def no_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """No settings of pip but those that the test makes."""
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    for name in ("PIP_INDEX_URL", "PIP_CERT", "PIP_CONFIG_FILE"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, bytes]]:
    """Answers of an index on this machine, by path, which `PIP_INDEX_URL` names with a user and a password."""
    answers: dict[str, bytes] = {}

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            known = self.path in answers and self.headers["Authorization"] == "Basic dTpwQDE="
            self.send_response(200 if known else 404)
            self.end_headers()
            self.wfile.write(answers.get(self.path, b""))

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name is the base class's
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        monkeypatch.setenv("PIP_INDEX_URL", f"http://u:p%401@127.0.0.1:{server.server_port}/simple/")
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        yield answers
        server.shutdown()
        thread.join()


def test_newest_pip_takes_the_newest_that_this_python_may_use() -> None:
    url, name, algorithm, digest = start.newest_pip(PAGE.format(digest="ab"), "https://example.org/simple/pip/")
    assert (name, algorithm, digest) == ("pip-25.3-py3-none-any.whl", "sha256", "ab")
    assert url == "https://example.org/f/pip-25.3-py3-none-any.whl#sha256=ab"


def test_newest_pip_says_when_there_is_none() -> None:
    with pytest.raises(start.SetupError, match="no pip wheel with a hash"):
        start.newest_pip("<a href='pip-25.3-py3-none-any.whl'>no hash</a>", "https://example.org/simple/pip/")


def test_pip_settings_environment_wins_over_files(no_settings: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, url in ((".pip", "https://legacy"), ("config/pip", "https://user")):
        folder = no_settings / name
        folder.mkdir(parents=True)
        (folder / "pip.conf").write_text(f"[global]\nindex-url = {url}\ncert = /c.pem\n", encoding="utf-8")
    assert start.pip_settings() == {"index-url": "https://user", "cert": "/c.pem"}
    monkeypatch.setenv("PIP_INDEX_URL", "https://environment")
    assert start.pip_settings()["index-url"] == "https://environment"


def test_download_pip_with_credentials_and_hash(no_settings: Path, served: dict[str, bytes], tmp_path: Path) -> None:
    served["/simple/pip/"] = PAGE.format(digest=hashlib.sha256(WHEEL).hexdigest()).encode()
    served["/f/pip-25.3-py3-none-any.whl"] = WHEEL
    assert start.download_pip(tmp_path).read_bytes() == WHEEL


def test_download_pip_refuses_a_wrong_hash(no_settings: Path, served: dict[str, bytes], tmp_path: Path) -> None:
    served["/simple/pip/"] = PAGE.format(digest="0" * 64).encode()
    served["/f/pip-25.3-py3-none-any.whl"] = WHEEL
    with pytest.raises(start.SetupError, match="does not have the sha256 hash"):
        start.download_pip(tmp_path)
    assert not list(tmp_path.glob("*.whl"))


def test_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert start.main(["tests"]) == 2
    assert "usage:" in capsys.readouterr().err


def test_readme_line_without_ensurepip(index: None, checkout: Path, tmp_path: Path) -> None:
    """The README's line, as Debian and Ubuntu would run it: a clone, no ensurepip, no pip, an old `sh`."""
    lines = re.findall(r"^.*python3 tools/start\.py$", (ROOT / "README.md").read_text(encoding="utf-8"), re.MULTILINE)
    address = re.findall(r"git clone (\S+)", lines[0])
    for name in ("shim", "bin", "home"):
        (tmp_path / name).mkdir()
    (tmp_path / "shim" / "ensurepip.py").write_text("raise ImportError('as on Debian')\n", encoding="utf-8")
    (tmp_path / "bin" / "python3").symlink_to(getattr(sys, "_base_executable", sys.executable))
    done = subprocess.run(
        ["sh", "-c", lines[0]],
        cwd=tmp_path / "home",
        env={
            **os.environ,
            "PYTHONPATH": str(tmp_path / "shim"),
            "PATH": f"{tmp_path / 'bin'}:/usr/bin:/bin",
            "GIT_CONFIG_COUNT": "1",
            "GIT_CONFIG_KEY_0": f"url.{checkout.as_uri()}.insteadOf",
            "GIT_CONFIG_VALUE_0": address[0],
        },
        stdin=subprocess.DEVNULL,
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "VRAM101" in done.stdout
    assert "exit status 1" in done.stderr
