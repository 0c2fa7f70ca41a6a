"""Filters of text, as far as scripts count and cut with them: `tr`, `wc`, `cut`, `awk '{print NF}'`, `sed s/a/b/`."""

from __future__ import annotations

import re
from collections.abc import Callable

from vramlint.patterns import lazy

Filter = Callable[[list[str], "str | None"], "str | None"]
LONGEST = 20_000


def _tr(arguments: list[str], read: str | None) -> str | None:
    if read is None or not arguments:
        return None
    flag = arguments[0] if arguments[0].startswith("-") and len(arguments) > 1 else ""
    sets = [_characters(text) for text in arguments[1:] or [""]] if flag else [_characters(text) for text in arguments]
    if flag in ("-d", "-s") and len(sets) == 1:
        if flag == "-d":
            return "".join(character for character in read if character not in sets[0])
        return re.sub(r"(.)\1+", lambda match: match[1] if match[1] in sets[0] else match[0], read, flags=re.S)
    if flag or len(sets) != 2 or not sets[1]:
        return None
    return read.translate({ord(old): sets[1][min(index, len(sets[1]) - 1)] for index, old in enumerate(sets[0])})


_CLASSES = {
    "[:upper:]": "ABCDEFGHIJKLMNOPQRSTUVWXYZ",
    "[:lower:]": "abcdefghijklmnopqrstuvwxyz",
    "[:digit:]": "0123456789",
    "[:space:]": " \t\n\r\v\f",
    "\\n": "\n",
    "\\t": "\t",
}


def _characters(text: str) -> str:
    for name, characters in _CLASSES.items():
        text = text.replace(name, characters)
    return re.sub(
        r"([a-z])-([a-z])|([A-Z])-([A-Z])|([0-9])-([0-9])",
        lambda match: "".join(chr(code) for code in range(ord(match[0][0]), ord(match[0][2]) + 1)),
        text,
    )


def _wc(arguments: list[str], read: str | None) -> str | None:
    if read is None or len(arguments) != 1:
        return None
    match arguments[0]:
        case "-l":
            return f"{read.count(chr(10))}\n"
        case "-w":
            return f"{len(read.split())}\n"
        case "-c" | "-m":
            return f"{len(read)}\n"
        case _:
            return None


def _cut(arguments: list[str], read: str | None) -> str | None:
    options = dict(re.findall(r"-([dfc])\0?([^\0]*)", "\0".join(arguments)))
    if read is None or not {"f", "c"} & options.keys() or not arguments:
        return None
    chosen = re.fullmatch(r"(\d{1,6})?(-)?(\d{1,6})?", options.get("f") or options.get("c") or "")
    if chosen is None or not chosen[0]:
        return None
    first = int(chosen[1] or 1) - 1
    last = int(chosen[3]) if chosen[3] else None if chosen[2] else first + 1
    delimiter = options.get("d", "\t")[:1] or "\t"
    lines: list[str] = []
    for line in read.splitlines():
        if "c" in options:
            lines.append(line[first:last])
        else:
            lines.append(delimiter.join(line.split(delimiter)[first:last]) if delimiter in line else line)
    return "".join(f"{line}\n" for line in lines)


def _awk(arguments: list[str], read: str | None) -> str | None:
    separator: str | None = None
    while arguments and arguments[0].startswith("-F"):
        separator = arguments[0][2:] or (arguments[1] if len(arguments) > 1 else "")
        arguments = arguments[1:] if arguments[0][2:] else arguments[2:]
    if read is None or len(arguments) != 1 or (separator is not None and len(separator) != 1):
        return None
    program = re.fullmatch(r"\s*\{\s*print\s*(?:\(\s*)?(NF|\$NF|\$\d{1,3})(?:\s*\))?;?\s*\}\s*", arguments[0])
    if program is None:
        return None
    lines: list[str] = []
    for line in read.splitlines():
        words = (line.split(separator) if line else []) if separator and separator != " " else line.split()
        if program[1] == "NF":
            lines.append(str(len(words)))
        elif program[1] == "$0":
            lines.append(line)
        else:
            number = len(words) if program[1] == "$NF" else int(program[1][1:])
            lines.append(words[number - 1] if 0 < number <= len(words) else "")
    return "".join(f"{line}\n" for line in lines)


_SUBSTITUTION = lazy(r"s([/|#,:@])((?:(?!\1)[^\\.*\[\]^$+?(){}])+)\1((?:(?!\1)[^\\&])*)\1(g?)")


def _sed(arguments: list[str], read: str | None) -> str | None:
    """`s/a/b/` and `s/a/b/g` with plain texts; a regular expression is not followed."""
    arguments = arguments[1:] if arguments[:1] in (["-e"], ["-E"], ["-r"]) else arguments
    match = _SUBSTITUTION.fullmatch(arguments[0]) if len(arguments) == 1 else None
    if match is None or read is None or len(read) > LONGEST:
        return None
    count = -1 if match[4] else 1
    return "".join(line.replace(match[2], match[3], count) for line in read.splitlines(keepends=True))


def _grep(arguments: list[str], read: str | None) -> str | None:
    """`grep -o ,`: one line for each time that a plain text occurs."""
    if read is None or len(arguments) != 2 or arguments[0] not in ("-o", "-c"):
        return None
    wanted = arguments[1]
    if not wanted or re.search(r"[\\.*\[\]^$]", wanted):
        return None
    if arguments[0] == "-c":
        return f"{sum(wanted in line for line in read.splitlines())}\n"
    return f"{wanted}\n" * min(read.count(wanted), LONGEST)


def _head(arguments: list[str], read: str | None) -> str | None:
    return _ends(arguments, read, slice_end=False)


def _tail(arguments: list[str], read: str | None) -> str | None:
    return _ends(arguments, read, slice_end=True)


def _ends(arguments: list[str], read: str | None, *, slice_end: bool) -> str | None:
    match = re.fullmatch(r"-n?\0?(\d{1,6})", "\0".join(arguments)) if arguments else None
    if read is None or (arguments and match is None):
        return None
    count = int(match[1]) if match else 10
    lines = read.splitlines(keepends=True)
    return "".join((lines[-count:] if count else []) if slice_end else lines[:count])


def _bc(arguments: list[str], read: str | None) -> str | None:
    """Whole numbers only: divisions of `bc -l` have a scale."""
    if read is None or arguments or len(read) > 200:
        return None
    text = read.strip()
    if not re.fullmatch(r"[\d\s+*()-]{1,100}", text):
        return None
    return _calculated(text)


def _expr(arguments: list[str], read: str | None) -> str | None:
    text = " ".join(arguments)
    return _calculated(text) if re.fullmatch(r"[\d\s+*()/%-]{1,100}", text) else None


class _NoNames:
    def value(self, name: str, index: str | None) -> str:
        from vramlint.readers.shell.arithmetic import Undecided

        raise Undecided(name)

    def assign(self, name: str, index: str | None, value: int) -> None:
        self.value(name, index)


def _calculated(text: str) -> str | None:
    from vramlint.readers.shell.arithmetic import Undecided, evaluate

    try:
        return f"{evaluate(text, _NoNames())}\n"
    except Undecided:
        return None


def _xargs(arguments: list[str], read: str | None) -> str | None:
    if read is None or arguments not in ([], ["echo"]) or "'" in read or '"' in read or "\\" in read:
        return None
    return " ".join(read.split()) + "\n"


def _rev(arguments: list[str], read: str | None) -> str | None:
    return None if read is None or arguments else "".join(f"{line[::-1]}\n" for line in read.splitlines())


FILTERS: dict[str, Filter] = {
    "tr": _tr,
    "wc": _wc,
    "cut": _cut,
    "awk": _awk,
    "sed": _sed,
    "grep": _grep,
    "head": _head,
    "tail": _tail,
    "bc": _bc,
    "expr": _expr,
    "xargs": _xargs,
    "rev": _rev,
}
