"""Draws docs/screenshot.svg from what vramlint really prints for the example.

`python -m tools.screenshot` writes it, `--check` only says whether it is up to date.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from collections.abc import Iterator
from html import escape
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TARGET = ROOT / "docs" / "screenshot.svg"
COMMAND = ("vramlint", "examples/full-finetune-7b/train.py", "--gpu", "rtx3090")

CELL, LINE, MARGIN, SIZE = 8.4, 18, 16, 14
"""Width of a character, height of a line, margin and font size, in pixels."""
BACKGROUND, FOREGROUND = "#1e1e2e", "#cdd6f4"
COLORS = {"31": "#f38ba8", "32": "#a6e3a1", "33": "#f9e2af", "34": "#89b4fa", "36": "#94e2d5"}
FONT = "ui-monospace, SFMono-Regular, Menlo, Consolas, 'DejaVu Sans Mono', monospace"

_SGR = re.compile(r"\x1b\[([\d;]*)m")


def output() -> str:
    """What the command prints, in colour, standard error last."""
    command = [sys.executable, "-m", *COMMAND, "--color", "always", "--isolated"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, encoding="utf-8", check=False)
    if done.returncode != 1:
        raise SystemExit(f"{' '.join(COMMAND)} exited with {done.returncode}, not 1:\n{done.stderr}")
    return f"\x1b[32m$\x1b[0m {' '.join(COMMAND)}\n{done.stdout}{done.stderr}"


def runs(line: str) -> Iterator[tuple[int, str, str]]:
    """The stretches of a line as (column, SGR parameters, text), without the blanks around them."""
    column, style = 0, ""
    for index, piece in enumerate(_SGR.split(line)):
        if index % 2:
            style = "" if piece in {"", "0"} else piece
        elif piece:
            text = piece.strip()
            if text:
                yield column + len(piece) - len(piece.lstrip()), style, text
            column += len(piece)


def attributes(style: str) -> str:
    """SVG attributes of SGR parameters."""
    parts = style.split(";")
    color = next((COLORS[part] for part in parts if part in COLORS), "")
    found = [f'fill="{color}"' if color else "", 'font-weight="bold"' if "1" in parts else ""]
    found.append('opacity="0.6"' if "2" in parts else "")
    return "".join(f" {item}" for item in found if item)


def draw(text: str) -> str:
    """The SVG of terminal output. Every stretch has its own x, so that fonts of any width keep the columns."""
    lines = text.rstrip("\n").split("\n")
    columns = max(len(_SGR.sub("", line)) for line in lines)
    width, height = round(columns * CELL + 2 * MARGIN), len(lines) * LINE + 2 * MARGIN
    size = f'width="{width}" height="{height}" viewBox="0 0 {width} {height}"'
    rows = []
    for number, line in enumerate(lines):
        y = MARGIN + (number + 1) * LINE - 4
        rows += [
            f'<text x="{MARGIN + column * CELL:.1f}" y="{y}" textLength="{len(piece) * CELL:.1f}"{attributes(style)}>'
            f"{escape(piece, quote=False)}</text>"
            for column, style, piece in runs(line)
        ]
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" {size}>',
            f"<title>{escape(' '.join(COMMAND))}</title>",
            f'<rect width="100%" height="100%" rx="8" fill="{BACKGROUND}"/>',
            f'<g font-family="{FONT}" font-size="{SIZE}" fill="{FOREGROUND}" xml:space="preserve">',
            *rows,
            "</g>",
            "</svg>",
            "",
        ]
    )


def main() -> int:
    """Write or check the picture."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="exit with 1 when the picture is out of date")
    options = parser.parse_args()
    picture = draw(output())
    if options.check:
        if TARGET.exists() and TARGET.read_text(encoding="utf-8") == picture:
            return 0
        sys.stderr.write("docs/screenshot.svg is out of date: run `python -m tools.screenshot`\n")
        return 1
    TARGET.parent.mkdir(exist_ok=True)
    TARGET.write_text(picture, encoding="utf-8", newline="\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
