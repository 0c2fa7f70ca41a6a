"""CPython's tree made LibCST's: the same nodes at the same places as LibCST's own parser finds."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from pathlib import Path

import libcst as cst
import pytest

from vramlint.readers.python import blocks
from vramlint.readers.python.blocks import converted
from vramlint.readers.python.positions import Range, positions
from vramlint.readers.python.source import parse
from vramlint.text import Document

_LAID_OUT = re.compile(
    r"whitespace|lines|^(lpar|rpar|comma|semicolon|dot|equal|[lr]brac\w+|header|footer|indent|colon|\w+_colon"
    r"|encoding|default_indent|default_newline|has_trailing_newline|type_parameters)$"
)
"""Fields that only say how a text is laid out."""
_UNPLACED = (cst.Arg, cst.AssignTarget, cst.Param, cst.Annotation, cst.SubscriptElement, cst.Decorator, cst.WithItem)
"""Nodes that hold one that has a place, and need none themselves."""
_NAMES_ALONE = (cst.ImportAlias, cst.NameItem, cst.From, cst.Element, cst.DictElement, cst.StarredDictElement)

EXPRESSIONS = """\
1
-1
0xff + 1_000
1.5e-3 * 2j
...
None or True and False
a.b.c
( a . b )
(a)
((a))
(a).b
(a)(b)
a if b else c
(a) if (b) else (c)
not a and (b or c) and d
(a and (b)) or (c)
(a) and ((b)) and (c) or d
a < b <= c != d
a is not b not in c is d in e
(a)+(b)
-(a) ** ~b
a @ b // c % d << e >> f & g | h ^ i
()
(a,)
a,
a, b
(a, b)
((a, b))
((a), (b))
(a), (b)
((a), b)
( a , b , )
(  # first
    a,
    b  # last
)
[a, *b, (c)]
{a, *b}
{}
{a: b, **c, "d": (e)}
f()
f(a, *b, c=1, **d)
f(*a, b, c=(1), d=2, *e)
f((a))
f((a, b))
f(a)(b)[c](d)
f(a for a in b)
f((a for a in b))
f( a for a in (b) )
f(
    a
    for a in b  # every
    if (a)
)
(a for a in b)
((a) for a in (b))
[a for a in b if c if (d) for e in f]
[(a, b) for a, b in c]
{a for a in b}
{a: b for a, b in c.items()}
[await a async for a in b]
a[1]
a[1, 2]
a[(1, 2)]
a[1:2]
a[:]
a[::2]
a[b:c, ..., None]
a[(b):(c)]
a[-1][b]
(a[b])[c]
lambda: a
lambda a, b=1, *c, d, e=2, **f: (a, b)
lambda *, a: a
lambda a, /, b: a
(a := b)
f(a := 1)
"a"
'a'
r"\\d"
b"a"
"a" "b"
"a" 'b' f"{c}"
("a"
 "b"  # second
 "c")
f"{a}"
f"{a.b!r:>{c}} {d[0]} {e()}"
f"{a + (b)}" % c
f"a {b}, {{c}} {d.e!r} {f:.2f} {g!s:>{h}}"
rf'{a}'
F""
f'''{a}
"{{{b}}}" {c.d}'''
f"{ a }{b=}{c!r:>10}"
f"\\N{EM DASH}{a}"
"%s" % (a, b)
f(f"a{b}", "c" f"{d}", e)
\"\"\"a "b" 'c'
d\"\"\"
'''a'b'''
"a\\"b"
(a and b  # ()
 and c  # ))
)
((a)  # ))
, b)
f(a for a in b  # ()
)
"é" + a.b["ü"].c
f("日本語", a)[b]
"""

STATEMENTS = '''\
a = b
a = b = (c)
a: int = 1
a: "List[int]"
a.b[c]: int
a += 1; b -= 2; c *= 3; d @= 4
a /= 1; b //= 2; c %= 3; d **= 4; e <<= 5; f >>= 6; g &= 7; h |= 8; i ^= 9
(a, b), c = d
a, *b = c
*a, = b
pass
assert a
assert (a), "b"
del a
del a, b.c
import a
import a.b.c, d as e
from a import b
from .a.b import (c, d as e,)
from . import a
from ... import a as b
from a import *
raise
raise A
raise A(b) from c
if a: pass
if a: b; c
if (a):
    b
elif(c):
    d
elif e: f
else:
    # a comment
    g

    # another

    h  # a third
if a:
    b
else:
    if c:
        d
if a:
    if b:
        c
        # of the inner block
    # of the outer one
# not of the block
else:
    d
for a in b:
    break
for a, (b, c) in d, e:
    continue
else:
    f
while a:
    b
else: c
with a:
    b
with a as b, (c) as (d, e):
    f
with (a as b, c):
    d
with (a):
    b
try:
    a
except:
    b
try:
    a
except (A, B) as b:
    c
except C: d
except (D) as e:
    f
else:
    g
finally:
    h
try: a
finally: b
def f(): pass
def f(a, b: int, c=1, *d: int, e, f: str = "g", **h) -> List[int]:
    """Text."""
    global a, b
    return
def f(a, /, b, *, c): ...
def f(
    a,  # first
    # second
    b=1,
):  # here

    # there
    return a
@a
@b.c(d)
def f():
    def g():
        nonlocal a
        return lambda: a
    yield
    yield a
    b = yield from c
    return (yield a, b)
async def f():
    async with a as b:
        await c
    async for d in e:
        await f
    return [g async for g in h]
class A: pass
class A(): pass
@a
class A(B, *C, metaclass=D, **E):
    a: int = 1

    @property
    def b(self):
        return self.a
    # behind

    # further
# outside
class A(
    B
):
    class C:
        def d(self): return 1; 2
a = 1 \\
    + 2
if a and \\
        b:
    c
d = {  # of
    "a": 1,  # one

    **b,
}
x = ("é", "ü"); y = z.ä_b
\ta = 1
'''


def differences(
    old: object, new: object, ranges: tuple[Mapping[int, Range], Mapping[int, Range]], text: str, path: str
) -> Iterator[str]:
    if isinstance(new, Sequence) and not isinstance(new, str):
        new = list(new)  # statements that are made when they are looked at
    if isinstance(old, tuple):
        old = list(old)
    if type(old) is not type(new):
        yield f"{path}: {type(old).__name__}, {type(new).__name__}"
    elif isinstance(old, list) and isinstance(new, list):
        if len(old) != len(new):
            yield f"{path}: {len(old)}, {len(new)}"
        for index, (one, other) in enumerate(zip(old, new, strict=False)):
            yield from differences(one, other, ranges, text, f"{path}[{index}]")
    elif isinstance(old, cst.CSTNode) and isinstance(new, cst.CSTNode):
        where = f"{path}.{type(old).__name__}"
        here, there = ranges[0].get(id(old)), ranges[1].get(id(new))
        placed = not isinstance(old, (*_UNPLACED, *_NAMES_ALONE, cst.BaseAugOp, cst.BaseBinaryOp, cst.BaseBooleanOp))
        placed = placed and not isinstance(old, (cst.BaseCompOp, cst.BaseUnaryOp, cst.Asynchronous, cst.Dot))
        placed = placed and not (path.endswith(("Global.names", "NameItem.name", "Nonlocal.names")))
        if here is not None and placed and here != there:
            yield f"{where}: {text[slice(*here)]!r}, {text[slice(*(there or here))]!r} {there}"
        for item in fields(old):
            if not _LAID_OUT.search(item.name):
                yield from differences(
                    getattr(old, item.name), getattr(new, item.name), ranges, text, f"{where}.{item.name}"
                )
    elif old != new:
        yield f"{path}: {old!r}, {new!r}"


def compare(text: str) -> None:
    """LibCST's own tree and the one that is made are the same but for the layout."""
    made = converted(text, ast.parse(text))
    assert made is not None, text
    own = cst.parse_module(text)
    found = positions(own, 0, own.default_indent, own.default_newline)
    assert list(differences(own.body, made.module.body, (found.ranges, made.ranges), text, "")) == [], text
    functions = [node.name.value for node in found.nodes if isinstance(node, cst.FunctionDef)]
    assert [node.name.value for node in made.functions] == functions


def statements(text: str) -> Iterator[str]:
    """The top-level statements of a text, each with the comments before it."""
    lines = text.splitlines(keepends=True)
    start = 0
    for node in ast.parse(text).body:
        end = node.end_lineno or node.lineno
        if end > start:
            yield "".join(lines[start:end])
            start = end


def test_expressions() -> None:
    found = list(statements(EXPRESSIONS))
    assert len(found) > 80
    for text in found:
        compare(text)
        compare(f"def f():\n    return [{text.strip()}\n]\n" if "\n" not in text.strip() and ":=" not in text else text)


def test_statements() -> None:
    text = STATEMENTS.replace("\ta = 1\n", "")
    for piece in statements(text):
        compare(piece)
    compare(text)
    compare(text.replace("\n", "\r\n"))
    compare("if a:\n\tb\n\tif c:\n\t\td\n")
    compare("def f():\n    if a:\n        b\n\n    \n\n    # behind\n    \n  \n  # outside\nc\n")
    compare("def f():\n    b\n\n    # behind")
    compare("")
    compare("# nothing\n")
    compare("a")


def test_places_in_text_of_other_letters() -> None:
    compare('x = "é" + f(a, "日本", b=c)  # ü\ny = d\n')
    source, _ = parse(Document.of("a.py", '\ufeffx = "é", y\n'))
    assert source is not None
    line = source.module.body[0]
    assert isinstance(line, cst.SimpleStatementLine)
    assign = line.body[0]
    assert isinstance(assign, cst.Assign)
    assert isinstance(assign.value, cst.Tuple)
    assert [source.place(item.value).span.column for item in assign.value.elements] == [6, 11]


@pytest.mark.parametrize(
    "text",
    [
        "match a:\n    case 1:\n        pass\n",
        "ﬁ = 1\n",  # Python's name for it is `fi`
        "a . b . c = 1\nimport a . b\n",
        pytest.param("def f[T](a: T): pass\n", marks=pytest.mark.skipif(sys.version_info < (3, 12), reason="new")),
        pytest.param("type A = int\n", marks=pytest.mark.skipif(sys.version_info < (3, 12), reason="new")),
        pytest.param(
            "try:\n    a\nexcept* A:\n    b\n", marks=pytest.mark.skipif(sys.version_info < (3, 11), reason="new")
        ),
    ],
)
def test_what_is_not_made_libcst_reads_itself(text: str) -> None:
    assert converted(text, ast.parse(text)) is None
    source, problem = parse(Document.of("a.py", text))
    assert source is not None
    assert problem is None
    assert source.module.deep_equals(cst.parse_module(text))
    assert source.holds(source.module.body[0])


def test_lone_line_ends_and_newer_syntax_are_libcsts() -> None:
    for text in ("a = 1\rb = 2\n", "a = 1\n\rb = 2\n"):
        source, _ = parse(Document.of("a.py", text))
        assert source is None or source.module.deep_equals(cst.parse_module(text))


def test_every_node_can_be_asked_for_its_children() -> None:
    """What is left out holds what its constructor would give it, and nothing that LibCST refuses."""
    text = STATEMENTS.replace("\ta = 1\n", "") + EXPRESSIONS
    made = converted(text, ast.parse(text))
    assert made is not None
    waiting: list[cst.CSTNode] = [made.module]
    names: list[str] = []
    while waiting:
        node = waiting.pop()
        waiting += node.children
        names += [node.value] if isinstance(node, cst.Name) else []
    assert {"a", "metaclass", "property", "List"} <= set(names)


def test_the_house_itself() -> None:
    for path in sorted(Path(blocks.__file__).parent.glob("[a-m]*.py")):
        text = path.read_text(encoding="utf-8")
        if "    match " not in text:
            compare(text)
