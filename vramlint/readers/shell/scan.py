"""Where words, quotes and expansions of bash end, by offset. Nothing here looks at values.

Everything is total: what is not closed reaches up to the end of the text.
"""

from __future__ import annotations

import re
from typing import NamedTuple

_PLAIN = re.compile(r"""[^\s\\'"$`;&|<>()#~{}*?\[]+""")
_IN_DOUBLE = re.compile(r'[^\\"$`]+')
_IN_BRACES = re.compile(r"""[^\\'"$`}]+""")
_IN_PARENTHESES = re.compile(r"""[^\\'"$`()#<]+""")
_BLANKS = re.compile(r"(?:[ \t]|\\\n)*")
_COMMENT = re.compile(r"[^\n]*")
_NAME = re.compile(r"[A-Za-z_]\w*|[0-9@*#?$!_-]", re.ASCII)
_CASE = re.compile(r"(?<![\w$-])(?:case|esac)(?![\w-])")
_ARRAY = re.compile(r"[A-Za-z_]\w*(?:\[[^\]\n]*\])?\+?=\(", re.ASCII)
_REDIRECTION = re.compile(r"(?:\d+|\{\w+\})?(<<<|<<-|<<|<&|<>|<(?!\()|>>|>\||>&|>(?!\()|&>>|&>)")
_HEREDOC = re.compile(r"<<-?[ \t]*(['\"]?)\\?([A-Za-z_][\w.-]*)\1")
PLACEHOLDER = re.compile(r"<[A-Za-z_][^<>|&;()\n\"'$`]{0,80}(?<! )>(?=[\s,/]|\Z)")
"""`<path to the data>`, which somebody is to replace; bash takes it for two redirections."""
_ENDS = frozenset(" \t\n;&|<>()")


class Redirection(NamedTuple):
    """`2> log`: the operator without the descriptor, and the span of its target."""

    operator: str
    descriptor: str
    start: int
    end: int


class Heredoc(NamedTuple):
    """The body of a here-document; a literal one (`<<'EOF'`) expands nothing."""

    start: int
    end: int
    literal: bool
    tabs: bool
    """`<<-`: leading tabs are not part of it."""


class Simple(NamedTuple):
    """A simple command: spans of its words, its redirections, and where it ends."""

    start: int
    end: int
    words: tuple[tuple[int, int], ...]
    redirections: tuple[Redirection, ...]
    heredocs: tuple[Heredoc, ...]


def blanks(text: str, index: int) -> int:
    """Behind the blanks and continued lines at `index`."""
    match = _BLANKS.match(text, index)
    return match.end() if match else index


def single(text: str, index: int) -> int:
    """Behind the single quote that closes the one at `index`."""
    end = text.find("'", index + 1)
    return len(text) if end < 0 else end + 1


def ansi(text: str, index: int) -> int:
    """Behind `$'…'`, whose `$` is at `index`."""
    index += 2
    while index < len(text) and text[index] != "'":
        index += 2 if text[index] == "\\" else 1
    return min(index + 1, len(text))


def double(text: str, index: int) -> int:
    """Behind the double quote that closes the one at `index`."""
    index += 1
    while index < len(text):
        character = text[index]
        if character == '"':
            return index + 1
        if character == "\\":
            index += 2
        elif character == "$":
            index = dollar(text, index, quoted=True)
        elif character == "`":
            index = backquote(text, index)
        else:
            match = _IN_DOUBLE.match(text, index)
            index = match.end() if match else index + 1
    return len(text)


def backquote(text: str, index: int) -> int:
    """Behind the backquote that closes the one at `index`."""
    index += 1
    while index < len(text) and text[index] != "`":
        index += 2 if text[index] == "\\" else 1
    return min(index + 1, len(text))


def dollar(text: str, index: int, *, quoted: bool = False) -> int:
    """Behind the expansion whose `$` is at `index`; behind the `$` itself where none follows."""
    following = text[index + 1 : index + 2]
    if following == "(":
        return parentheses(text, index + 1)
    if following == "{":
        return braces(text, index + 1)
    if following == "[":
        end = text.find("]", index)
        return len(text) if end < 0 else end + 1
    if following == "'" and not quoted:
        return ansi(text, index)
    if following == '"' and not quoted:
        return double(text, index + 1)
    match = _NAME.match(text, index + 1)
    return match.end() if match else index + 1


def braces(text: str, index: int) -> int:
    """Behind the `}` that closes the `${` whose brace is at `index`."""
    index += 1
    while index < len(text):
        character = text[index]
        if character == "}":
            return index + 1
        following = _quoted(text, index, character)
        if following > index:
            index = following
        else:
            match = _IN_BRACES.match(text, index)
            index = match.end() if match else index + 1
    return len(text)


def _quoted(text: str, index: int, character: str) -> int:
    """Behind the quote or expansion that starts at `index`, or `index` where none does."""
    if character == "\\":
        return index + 2
    if character == "'":
        return single(text, index)
    if character == '"':
        return double(text, index)
    if character == "$":
        return dollar(text, index)
    if character == "`":
        return backquote(text, index)
    return index


def parentheses(text: str, index: int) -> int:
    """Behind the `)` that closes the parenthesis at `index`, with commands in between."""
    arithmetic = text.startswith("((", index)
    depth = 0
    branching = not arithmetic and "esac" in text
    cases: list[int] = []
    while index < len(text):
        character = text[index]
        if character == "(":
            depth += 1
            index += 1
        elif character == ")":
            index += 1
            if cases and cases[-1] == depth:
                continue
            depth -= 1
            if not depth:
                return index
        elif character == "#" and not arithmetic and text[index - 1] in " \t\n;(":
            index = _match(_COMMENT, text, index)
        elif character == "<" and not arithmetic and (found := _HEREDOC.match(text, index)) and text[index - 1] != "<":
            body = heredoc(text, text.find("\n", found.end()), found[2], tabs=text.startswith("<<-", index))
            line = text.find("\n", found.end())
            # the rest of the line that starts a here-document still belongs to the command
            rest = text.find(")", found.end())
            index = found.end() if body is None or 0 <= rest < line else body[1]
        else:
            following = _quoted(text, index, character)
            if following == index:
                match = _IN_PARENTHESES.match(text, index)
                following = match.end() if match else index + 1
                if branching:
                    _count_cases(text, index, following, depth, cases)
            index = following
    return len(text)


def _count_cases(text: str, index: int, end: int, depth: int, cases: list[int]) -> None:
    """Note which `case` statements are open: a `)` in them ends a pattern."""
    for keyword in _CASE.finditer(text, index, end):
        if keyword[0] == "case":
            cases.append(depth)
        elif cases:
            cases.pop()


def _match(pattern: re.Pattern[str], text: str, index: int) -> int:
    match = pattern.match(text, index)
    return match.end() if match else index


def heredoc(text: str, newline: int, delimiter: str, *, tabs: bool) -> tuple[int, int] | None:
    """The span of the body that starts behind `newline`, and where its last line ends; None without a newline.

    The span ends where the delimiter's line starts.
    """
    if newline < 0:
        return None
    start = line = newline + 1
    while line < len(text):
        end = text.find("\n", line)
        end = len(text) if end < 0 else end
        content = text[line:end]
        if (content.lstrip("\t") if tabs else content) == delimiter:
            return start, line
        line = end + 1
    return start, len(text)


def word(text: str, index: int, limit: int) -> int:
    """Behind the word that starts at `index`."""
    while index < limit:
        match = _PLAIN.match(text, index, limit)
        if match:
            index = match.end()
            if index >= limit:
                return limit
        character = text[index]
        following = _quoted(text, index, character)
        if following > index:
            index = following
        elif character in "<>" and text.startswith("(", index + 1):
            index = parentheses(text, index + 1)
        elif character == "<" and (placeholder := PLACEHOLDER.match(text, index, limit)):
            index = placeholder.end()
        elif character == "(" and index and text[index - 1] in "@?*+!":
            index = parentheses(text, index)
        elif character in _ENDS:
            return index
        else:
            index += 1
    return min(index, limit)


def simple(text: str, start: int, limit: int | None = None) -> Simple:
    """The simple command at `start`, as bash cuts it."""
    limit = len(text) if limit is None else limit
    words: list[tuple[int, int]] = []
    redirections: list[Redirection] = []
    delimiters: list[Redirection] = []
    index, end = start, start
    while True:
        index = blanks(text, index)
        if index >= limit or text[index] in "\n;|)#":
            break
        found = _REDIRECTION.match(text, index) if text[index] in "<>&{0123456789" else None
        if found and not PLACEHOLDER.match(text, index):
            first = blanks(text, found.end())
            index = end = word(text, first, limit)
            item = Redirection(found[1], found[0][: -len(found[1])], first, end)
            (delimiters if found[1] in ("<<", "<<-") else redirections).append(item)
            continue
        if text[index] == "&":
            break
        array = _ARRAY.match(text, index)
        last = parentheses(text, array.end() - 1) if array else word(text, index, limit)
        if last == index:
            if text[index] != "(":
                break
            last = parentheses(text, index)
        words.append((index, last))
        index = end = last
    return Simple(start, end, tuple(words), tuple(redirections), _heredocs(text, index, delimiters))


def _heredocs(text: str, index: int, delimiters: list[Redirection]) -> tuple[Heredoc, ...]:
    if not delimiters:
        return ()
    newline = _line_end(text, index)
    found: list[Heredoc] = []
    for item in delimiters:
        written = text[item.start : item.end]
        delimiter = re.sub(r"[\\'\"]", "", written)
        tabs = item.operator == "<<-"
        body = heredoc(text, newline, delimiter, tabs=tabs)
        if body is None:
            continue
        found.append(Heredoc(*body, literal=delimiter != written, tabs=tabs))
        newline = text.find("\n", body[1])
    return tuple(found)


def _line_end(text: str, index: int) -> int:
    """The newline that ends the line of commands at `index`, behind quotes that span lines; -1 without one."""
    while index < len(text):
        character = text[index]
        if character == "\n":
            return index
        if character == "#" and text[index - 1] in " \t;":
            index = _match(_COMMENT, text, index)
            continue
        index = max(_quoted(text, index, character), index + 1)
    return -1


def tokens(text: str, index: int, limit: int) -> list[tuple[int, int]]:
    """The words and operators between `index` and `limit` in `[[ … ]]` or an array: newlines and comments separate."""
    found: list[tuple[int, int]] = []
    while True:
        index = blanks(text, index)
        if index >= limit:
            return found
        character = text[index]
        if character == "\n":
            index += 1
            continue
        if character == "#":
            index = _match(_COMMENT, text, index)
            continue
        last = word(text, index, limit)
        if last == index:
            last = index + (2 if text[index : index + 2] in ("&&", "||") else 1)
        found.append((index, last))
        index = last
