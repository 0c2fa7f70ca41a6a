"""`vramlint diff BASE..HEAD` and `vramlint diff OLD NEW`."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from argparse import Namespace
from collections.abc import Iterator, Sequence
from importlib import import_module

from vramlint import __version__
from vramlint.api.comparing import compare
from vramlint.cli.errors import CLEAN, FINDINGS, UsageError
from vramlint.cli.output import write
from vramlint.cli.revisions import extract, parse_range, top
from vramlint.cli.terminal import use_color
from vramlint.cli.work import check_paths, settings_here
from vramlint.comparison import Changed, Comparison
from vramlint.findings import Report
from vramlint.report.view import View
from vramlint.sizes import Limit, parse_limit

_FORMS = {"text": "diff", "json": "diff_json", "markdown": "diff_markdown"}


def run(options: Namespace) -> int:
    """Print what changed; exits with 1 where a peak rises by more than is allowed."""
    if options.config:
        options.config = os.path.abspath(options.config)  # each side is looked at from inside
    limit = parse_limit(options.max_increase or settings_here(options).max_increase or "")
    comparison = _compared(options)
    stream = None if options.output_file else sys.stdout
    view = View(color=use_color(options.color, stream, os.environ), version=__version__)
    form = import_module(f"vramlint.report.{_FORMS[options.format]}")
    write(form.render(comparison, view), options.output_file)
    if limit is None:
        return CLEAN
    above = [one.name for one in comparison.changed if _exceeds(one, limit)]
    for name in above:
        sys.stderr.write(f"vramlint: {name}: the peak rises by more than {limit.written}\n")
    return FINDINGS if above else CLEAN


def _exceeds(one: Changed, limit: Limit) -> bool:
    before = one.before.need if one.before is not None else None
    return one.rise is not None and before is not None and one.rise > limit.of(before)


def _compared(options: Namespace) -> Comparison:
    first, *rest = options.paths
    if len(rest) == 1 and os.path.exists(first) and os.path.exists(rest[0]):
        before, after = (_at(options, path) for path in (first, rest[0]))
        return compare(before, after, (first, rest[0]))
    spread = parse_range(first)
    home = top()
    inside = [os.path.relpath(os.path.abspath(path), home) for path in rest] or [os.curdir]
    if any(path.startswith(os.pardir) for path in inside):
        raise UsageError(f"{rest[0]} lies outside of the repository {home}")
    before = _of_revision(options, spread.before, inside)
    after = _of_revision(options, spread.after, inside) if spread.after else _in_folder(options, home, inside)
    named = first.partition("..")
    return compare(before, after, (named[0] or "HEAD", named[2].lstrip(".") or "the files as they are"))


def _of_revision(options: Namespace, revision: str, paths: Sequence[str]) -> Report:
    with tempfile.TemporaryDirectory(prefix="vramlint-") as folder:
        extract(revision, folder)
        return _in_folder(options, folder, [path for path in paths if os.path.exists(os.path.join(folder, path))])


def _at(options: Namespace, path: str) -> Report:
    """A folder from inside, a file from its own: so that the runs of both sides have the same names."""
    if os.path.isdir(path):
        return _in_folder(options, path, [os.curdir])
    return _in_folder(options, os.path.dirname(path) or os.curdir, [os.path.basename(path)])


def _in_folder(options: Namespace, folder: str, paths: Sequence[str]) -> Report:
    if not paths:
        return Report((), ())
    with _inside(folder):
        return check_paths(options, paths, thorough=True, alone=False).report


@contextlib.contextmanager
def _inside(folder: str) -> Iterator[None]:
    before = os.getcwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)
