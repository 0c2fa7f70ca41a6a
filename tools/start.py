"""Install vramlint into `.venv` and show it at work.

    python3 tools/start.py          install, then lint the example
    python3 tools/start.py test     install what the tests need too, then run them (further arguments go to pytest)

Needs git's checkout and Python 3.10 or newer, nothing else. Debian and Ubuntu ship Python without pip and without
`ensurepip`; there, pip comes from uv if that is installed, else from the package index that pip itself is configured
to use. Standard library only, and readable by older Pythons, so that these get a sentence instead of a traceback.
"""

from __future__ import annotations

import base64
import configparser
import hashlib
import html.parser
import os
import re
import shutil
import ssl
import subprocess
import sys
import tempfile
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
BIN = VENV / ("Scripts" if os.name == "nt" else "bin")
PYTHON = BIN / ("python.exe" if os.name == "nt" else "python")
EXAMPLE = ["examples/full-finetune-7b/train.py", "--gpu", "rtx3090"]
EVERYTHING = ["-n", "auto", "--dist", "loadfile"]
"""A process for each core; the tests of one file stay together, as they share what is slow to make."""
OLDEST = (3, 10)
INDEX = "https://pypi.org/simple"
WHEEL = re.compile(r"^pip-(\d+(?:\.\d+)*)-py3-none-any\.whl$")


class SetupError(Exception):
    """Something that the person at the terminal has to know, in one line."""


def say(text: str) -> None:
    """Progress, on stderr: stdout belongs to vramlint and pytest."""
    print(text, file=sys.stderr, flush=True)


def run(*command: str | Path) -> None:
    """Run a command.

    Raises:
        SetupError: it exits with anything but 0.
    """
    done = subprocess.run([str(part) for part in command], cwd=ROOT, check=False)
    if done.returncode:
        raise SetupError(f"failed ({done.returncode}): {' '.join(str(part) for part in command)}")


def works(*command: str | Path) -> bool:
    """Whether a command exits with 0; its output is dropped."""
    try:
        done = subprocess.run([str(part) for part in command], cwd=ROOT, check=False, capture_output=True)
    except OSError:
        return False
    return done.returncode == 0


class Links(html.parser.HTMLParser):
    """The anchors of a package index page (PEP 503)."""

    def __init__(self) -> None:
        super().__init__()
        self.anchors: list[dict[str, str]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Keep the attributes of every `<a>`."""
        if tag == "a":
            self.anchors.append({name: value or "" for name, value in attrs})


def pip_settings() -> dict[str, str]:
    """The settings of pip for the index and the certificates: environment over user files over machine files."""
    home = Path.home()
    files: list[str | Path] = [
        "/etc/xdg/pip/pip.conf",
        "/etc/pip.conf",
        home / ".pip/pip.conf",
        home / "Library/Application Support/pip/pip.conf",
        Path(os.environ.get("XDG_CONFIG_HOME") or home / ".config") / "pip/pip.conf",
        os.environ.get("PIP_CONFIG_FILE", os.devnull),
    ]
    parser = configparser.RawConfigParser(strict=False)
    try:
        parser.read(files, encoding="utf-8")
    except (configparser.Error, UnicodeDecodeError) as error:
        say(f"pip's settings could not be read: {error}")
    found: dict[str, str] = {}
    for name in ("index-url", "cert"):
        for section in ("global", "download", "install"):
            found[name] = parser.get(section, name, fallback=found.get(name, ""))
        found[name] = os.environ.get("PIP_" + name.upper().replace("-", "_")) or found[name]
    return found


def fetch(url: str, certificates: str) -> bytes:
    """The bytes behind a URL, whose user and password, if it has any, go into the request's header."""
    parts = urllib.parse.urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    request = urllib.request.Request(  # noqa: S310 - the index is the one that the user set for pip
        parts._replace(netloc=host, fragment="").geturl(), headers={"Accept": "text/html, */*;q=0.1"}
    )
    if parts.username is not None:
        secret = f"{urllib.parse.unquote(parts.username)}:{urllib.parse.unquote(parts.password or '')}"
        request.add_header("Authorization", "Basic " + base64.b64encode(secret.encode()).decode())
    context = ssl.create_default_context(cafile=certificates or None)
    with urllib.request.urlopen(request, timeout=60, context=context) as answer:  # noqa: S310 - as above
        return bytes(answer.read())


def newest_pip(page: str, base: str) -> tuple[str, str, str, str]:
    """URL, file name, hash name and digest of the newest final pip wheel for this Python on an index page.

    Raises:
        SetupError: the page lists none that carries a hash.
    """
    links = Links()
    links.feed(page)
    best: tuple[tuple[int, ...], tuple[str, str, str, str]] | None = None
    for anchor in links.anchors:
        url = urllib.parse.urljoin(base, anchor.get("href", ""))
        parts = urllib.parse.urlsplit(url)
        name = urllib.parse.unquote(parts.path.rpartition("/")[2])
        match = WHEEL.match(name)
        digest = re.match(r"(sha256|sha384|sha512)=([0-9a-f]+)$", parts.fragment)
        if not match or not digest or "data-yanked" in anchor:
            continue
        floors = re.findall(r">=\s*(\d+)\.(\d+)", anchor.get("data-requires-python", ""))
        if any((int(major), int(minor)) > sys.version_info[:2] for major, minor in floors):
            continue
        version = tuple(int(part) for part in match[1].split("."))
        if best is None or version > best[0]:
            best = version, (url, name, digest[1], digest[2])
    if best is None:
        raise SetupError(f"no pip wheel with a hash on {base}")
    return best[1]


def download_pip(folder: Path) -> Path:
    """Put the newest pip wheel of the configured index into `folder`, checked against the index's hash.

    Raises:
        SetupError: the index cannot be reached or the hash differs.
    """
    settings = pip_settings()
    base = (settings["index-url"] or INDEX).rstrip("/") + "/pip/"
    try:
        page = fetch(base, settings["cert"]).decode("utf-8", "replace")
        url, name, algorithm, digest = newest_pip(page, base)
        data = fetch(url, settings["cert"])
    except (OSError, ValueError) as error:
        raise SetupError(f"pip cannot be fetched from {base.rpartition('@')[2]}: {error}") from error
    if hashlib.new(algorithm, data).hexdigest() != digest:
        raise SetupError(f"{name} does not have the {algorithm} hash that the index states")
    wheel = folder / name
    wheel.write_bytes(data)
    return wheel


def bring_pip() -> None:
    """Put pip into a `.venv` that was made without it.

    Raises:
        SetupError: no way worked.
    """
    uv = shutil.which("uv")
    if uv and works(uv, "pip", "install", "--quiet", "--python", PYTHON, "pip"):
        return
    say("this Python has no ensurepip: fetching pip from the package index")
    with tempfile.TemporaryDirectory() as folder:
        wheel = download_pip(Path(folder))
        # A wheel is a zip file, and Python runs a package inside a zip file.
        run(PYTHON, wheel / "pip", "install", "--quiet", "--no-index", "--no-deps", wheel)


def make_venv() -> None:
    """Make `.venv` with pip in it; keep one that is there and new enough.

    Raises:
        SetupError: this Python cannot make one.
    """
    if not works(PYTHON, "-c", f"import sys; sys.exit(sys.version_info < {OLDEST})"):
        say(f"making {VENV.relative_to(ROOT)} with Python {sys.version.split()[0]}")
        run(sys.executable, "-m", "venv", "--clear", "--without-pip", VENV)
    if not works(PYTHON, "-m", "pip", "--version") and not works(PYTHON, "-m", "ensurepip", "--default-pip"):
        bring_pip()


def install(*, tests: bool) -> None:
    """Install the checkout, editable, and the development tools if the tests are to run."""
    make_venv()
    pip: list[str | Path] = [PYTHON, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    if not tests:
        say("installing vramlint")
        run(*pip, "--editable", ".")
        return
    say("installing vramlint and what its tests need")
    # Dependency groups (PEP 735) came with pip 25.1; the pip inside `ensurepip` may be years older.
    run(*pip, "--upgrade", "pip>=25.1")
    run(*pip, "--editable", ".", "--group", "dev")


def show_example() -> int:
    """Lint the example; 0 when vramlint finds it too large, which it is."""
    command = [".venv/bin/vramlint" if os.name != "nt" else str(BIN / "vramlint"), *EXAMPLE]
    say("\n$ " + " ".join(command) + "\n")
    code = subprocess.run([BIN / "vramlint", *EXAMPLE], cwd=ROOT, check=False).returncode
    if code != 1:
        say(f"\nvramlint exited with {code}; 1 was expected, because this run does not fit its GPU.")
        return 1
    say(
        f"\nvramlint is installed and works: the finding above is what the example is for, and exit status {code}"
        f"\nis what CI would see. Next: {command[0]} YOUR_TRAIN.py --gpu rtx4090   (or --help)"
    )
    return 0


def newer_python() -> str | None:
    """Another interpreter on the PATH that is new enough."""
    names = [f"python3.{minor}" for minor in range(20, OLDEST[1] - 1, -1)]
    return next((path for path in map(shutil.which, names) if path), None)


def main(arguments: list[str]) -> int:
    """Run the script with the words after its name; returns the exit status."""
    if sys.version_info < OLDEST:
        other = newer_python()
        if other is None:
            say("vramlint needs Python 3.10 or newer; this is {}.{}".format(*sys.version_info[:2]))
            return 2
        return subprocess.run([other, __file__, *arguments], check=False).returncode
    if arguments[:1] not in ([], ["test"]):
        say("usage: python3 tools/start.py [test [PYTEST ARGUMENTS]]")
        return 2
    try:
        install(tests=bool(arguments))
    except SetupError as error:
        say(f"start.py: {error}")
        return 2
    if not arguments:
        return show_example()
    chosen = arguments[1:] or EVERYTHING
    return subprocess.run([PYTHON, "-m", "pytest", *chosen], cwd=ROOT, check=False).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
