"""Where words, quotes and expansions of bash end, by offset. Nothing here looks at values.

Everything is total: what is not closed reaches up to the end of the text.
"""

from __future__ import annotations

import re

from vramlint.patterns import lazy

_PLAIN = lazy(r"""[^\s\\'"$`;&|<>()#~{}*?\[]+""")
_IN_DOUBLE = lazy(r'[^\\"$`]+')
_IN_BRACES = lazy(r"""[^\\'"$`}]+""")
_IN_PARENTHESES = lazy(r"""[^\\'"$`()#<]+""")
_BLANKS = lazy(r"(?:[ \t]|\\(?:\n|\Z))*")
_NAME = lazy(r"[A-Za-z_]\w*|[0-9@*#?$!_-]", re.ASCII)
_CASE = lazy(r"(?<![\w$-])(?:case|esac)(?![\w-])")
_HEREDOC = lazy(r"<<-?[ \t]*(['\"]?)\\?([A-Za-z_][\w.-]*)\1")
PLACEHOLDER = lazy(r"<[A-Za-z_][^<>|&;()\n\"'$`]{0,80}(?<! )>(?=[\s,/]|\Z)")
"""`<path to the data>`, which somebody is to replace; bash takes it for two redirections."""
_ENDS = frozenset(" \t\n;&|<>()")


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
        following = quoted(text, index, character)
        if following > index:
            index = following
        else:
            match = _IN_BRACES.match(text, index)
            index = match.end() if match else index + 1
    return len(text)


def quoted(text: str, index: int, character: str) -> int:
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
            index = comment(text, index)
        elif character == "<" and not arithmetic and (found := _HEREDOC.match(text, index)) and text[index - 1] != "<":
            body = heredoc(text, text.find("\n", found.end()), found[2], tabs=text.startswith("<<-", index))
            line = text.find("\n", found.end())
            # the rest of the line that starts a here-document still belongs to the command
            rest = text.find(")", found.end())
            index = found.end() if body is None or 0 <= rest < line else body[1]
        else:
            following = quoted(text, index, character)
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


def comment(text: str, index: int) -> int:
    """Where the line of the comment at `index` ends."""
    end = text.find("\n", index)
    return len(text) if end < 0 else end


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
        following = quoted(text, index, character)
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
