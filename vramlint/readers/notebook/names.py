"""What a notebook's names, environment and folder are where a command runs, as far as plain assignments say."""

from __future__ import annotations

import ast
import posixpath
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType

from vramlint.readers.notebook.literals import LONGEST, Text, text_of_literal
from vramlint.text import Document, Place, Span
from vramlint.values import Entry, Scalar, Unknown, Value

_LONGEST = 60
"""Characters of source that a reason quotes."""

_BRANCHES = (ast.If, ast.For, ast.AsyncFor, ast.While, ast.Match)


class Names:
    """Follows the statements of a notebook one by one."""

    def __init__(self, document: Document) -> None:
        self.document = document
        self.shift = 0
        """Lines above the cell that is followed."""
        self.values: dict[str, Value] = {}
        """Each a `Scalar` of text or a number, or an `Unknown`."""
        self.texts: dict[str, Text] = {}
        """Of the names that hold text: where each of its characters is written."""
        self.environment: dict[str, Entry] = {}
        self.folder: Value | None = None

    def run(self, statement: ast.stmt) -> Iterable[ast.Call]:
        """Follow one statement. The calls that stand alone in it, in order."""
        match statement:
            case ast.Assign(targets=targets, value=value):
                for target in targets:
                    self._assign(target, value)
                return [value] if isinstance(value, ast.Call) else []
            case ast.AnnAssign(target=target, value=ast.expr() as value):
                self._assign(target, value)
            case ast.AugAssign(target=ast.Name(id=name) as target):
                self._forget(name, target, "changed in place")
            case ast.Expr(value=ast.Call() as call) | ast.Expr(value=ast.Await(value=ast.Call() as call)):
                self._call(call)
                return [call]
            case ast.With() | ast.AsyncWith() | ast.Try():
                return [call for inner in statement.body for call in self.run(inner)]
            case ast.Import() | ast.ImportFrom():
                for alias in statement.names:
                    name = alias.asname or alias.name.partition(".")[0]
                    self._forget(name, statement, "imported")
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                self._forget(statement.name, statement, "no text")
            case _ if isinstance(statement, _BRANCHES):
                self._branch(statement)
            case _:
                pass
        return []

    def place(self, node: ast.expr | ast.stmt) -> Place | None:
        """Where a node stands."""
        document = self.document
        if node.end_lineno is None or node.end_col_offset is None:
            return None
        first, last = node.lineno + self.shift, node.end_lineno + self.shift
        if last > len(document.line_starts):
            return None
        start, end = _column(document, first, node.col_offset), _column(document, last, node.end_col_offset)
        return Place(document.path, Span(first, start, last, end))

    def set_variable(self, name: str, key_place: Place | None, value: Value) -> None:
        """Set a variable of the environment."""
        self.environment[name] = Entry(name, key_place, as_text(value))

    def enter(self, folder: Value) -> None:
        """Change the folder, which is given from the one so far."""
        if isinstance(folder, Scalar) and isinstance(self.folder, Scalar):
            path = posixpath.normpath(posixpath.join(str(self.folder.value), str(folder.value)))
            folder = Scalar(path, folder.place, folder.via)
        elif isinstance(self.folder, Unknown) and not (isinstance(folder, Scalar) and str(folder.value)[:1] == "/"):
            folder = self.folder
        self.folder = folder

    def evaluate(self, node: ast.expr) -> Value:
        """A value, as far as constants, names and the joining of text go."""
        place = self.place(node)
        match node:
            case ast.Constant(value=str() | int() | float() as value):
                return Scalar(value, place)
            case ast.Name(id=name):
                return self.values.get(name) or Unknown(f"name {name}, which nothing defines", place)
            case ast.JoinedStr(values=parts):
                return self._joined(parts, node)
            case ast.FormattedValue(value=value, conversion=-1, format_spec=None):
                return self.evaluate(value)
            case ast.BinOp(left=left, op=ast.Add(), right=right):
                return self._joined([left, right], node)
            case ast.Call(func=func, args=args, keywords=[]):
                return self._result(dotted(func), args, node)
            case ast.Subscript(value=value, slice=ast.Constant(value=str() as key)) if _is_environment(value):
                entry = self.environment.get(key)
                return entry.value if entry else Unknown(f"environment variable {key}", place)
            case _:
                return self._unknown(node)

    def _result(self, function: str, args: list[ast.expr], node: ast.expr) -> Value:
        values = [self.evaluate(argument) for argument in args]
        texts = [str(value.value) for value in values if isinstance(value, Scalar)]
        join = _FUNCTIONS.get(function)
        if join is None or not texts or len(texts) < len(values):
            return self._unknown(node)
        return Scalar(join(texts), self.place(node), "computed")

    def _joined(self, parts: Iterable[ast.expr], node: ast.expr) -> Value:
        texts: list[str] = []
        for part in parts:
            value = self.evaluate(part)
            if not isinstance(value, Scalar) or (isinstance(node, ast.BinOp) and not isinstance(value.value, str)):
                return value if isinstance(value, Unknown) else self._unknown(node)
            texts.append(str(value.value))
            if sum(map(len, texts)) > LONGEST:
                return Unknown("a text too long to read", self.place(node))
        return Scalar("".join(texts), self.place(node), "computed")

    def _unknown(self, node: ast.expr) -> Unknown:
        place = self.place(node)
        source = " ".join(self.document.slice(place.span).split()) if place else ""
        source = source if len(source) <= _LONGEST else f"{source[:_LONGEST]}…"
        return Unknown(f"`{source}` in Python" if source else "a value of Python", place)

    def _assign(self, target: ast.expr, value: ast.expr) -> None:
        match target:
            case ast.Name(id=name):
                text = text_of_literal(self, value)
                self.values[name] = self.evaluate(value)
                self.texts.pop(name, None)
                if text is not None:
                    self.texts[name] = text
            case ast.Subscript(value=container, slice=key) if _is_environment(container):
                if isinstance(key, ast.Constant) and isinstance(key.value, str):
                    self.set_variable(key.value, self.place(key), self.evaluate(value))
            case ast.Tuple(elts=targets) | ast.List(elts=targets):
                values = value.elts if isinstance(value, ast.Tuple | ast.List) else []
                if len(values) == len(targets):
                    for one, other in zip(targets, values, strict=True):
                        self._assign(one, other)
                else:
                    for one in targets:
                        self._assign(one, value if isinstance(value, ast.Call) else ast.Tuple([], ast.Load()))
            case _:
                pass

    def _call(self, call: ast.Call) -> None:
        function = dotted(call.func)
        match function, call.args:
            case "os.chdir", [folder]:
                self.enter(self.evaluate(folder))
            case "os.environ.update", [ast.Dict(keys=keys, values=values)]:
                for key, value in zip(keys, values, strict=True):
                    if isinstance(key, ast.Constant) and isinstance(key.value, str):
                        self.set_variable(key.value, self.place(key), self.evaluate(value))
            case (("os.environ.setdefault" | "os.putenv"), [ast.Constant(value=str() as name) as key, value]):
                if function == "os.putenv" or name not in self.environment:
                    self.set_variable(name, self.place(key), self.evaluate(value))
            case "os.environ.pop", [ast.Constant(value=str() as name), *_]:
                self.environment.pop(name, None)
            case _:
                pass

    def _branch(self, statement: ast.stmt) -> None:
        """What a branch or loop sets may be set or not."""
        for node in ast.walk(statement):
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                self._forget(node.id, node, "assigned in a branch or loop")
            elif isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Store) and _is_environment(node.value):
                key = node.slice
                if isinstance(key, ast.Constant) and isinstance(key.value, str):
                    reason = f"environment variable {key.value}, set in a branch or loop"
                    self.set_variable(key.value, self.place(key), Unknown(reason, self.place(node)))

    def _forget(self, name: str, node: ast.expr | ast.stmt, why: str) -> None:
        self.values[name] = Unknown(f"name {name}, {why}", self.place(node))
        self.texts.pop(name, None)


def dotted(node: ast.expr) -> str:
    """`os.path.join` of a name or attribute, empty for what is no such thing."""
    match node:
        case ast.Name(id=name):
            return name
        case ast.Attribute(value=value, attr=attr):
            owner = dotted(value)
            return f"{owner}.{attr}" if owner else ""
        case ast.Call(func=ast.Name(id="get_ipython"), args=[], keywords=[]):
            return "get_ipython()"
        case _:
            return ""


def as_text(value: Value) -> Value:
    """A value as Python's `str` writes it."""
    return Scalar(str(value.value), value.place, value.via) if isinstance(value, Scalar) else value


_FUNCTIONS: Mapping[str, Callable[[list[str]], str]] = MappingProxyType(
    {
        "str": "".join,
        "Path": lambda texts: posixpath.join(*texts),
        "pathlib.Path": lambda texts: posixpath.join(*texts),
        "os.path.join": lambda texts: posixpath.join(*texts),
        "os.path.expanduser": "".join,
    }
)


def _is_environment(node: ast.expr) -> bool:
    return isinstance(node, ast.Attribute) and node.attr == "environ"


def _column(document: Document, line: int, offset: int) -> int:
    """The column of an offset in UTF-8."""
    text = document.line(line)
    return offset + 1 if text.isascii() else len(text.encode("utf-8", "replace")[:offset].decode("utf-8", "ignore")) + 1
