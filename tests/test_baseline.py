"""Known findings: what makes two the same, and what is stale."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from vramlint.baseline import Baseline, BaselineError, Entry, baseline_of, read, without, write
from vramlint.findings import Finding, Label, Report, Severity
from vramlint.text import Document, Place, Span

HOME = ROOT = "/project"


def report(text: str, *lines: int, path: str = "a.py", code: str = "VRAM101") -> Report:
    """One finding on each of these lines, counted from 1."""
    return Report(
        tuple(
            Finding(
                code,
                "name",
                Severity.ERROR,
                f"needs {line} GiB",
                (Label(Place(path, Span(line, 1, line, 2)), primary=True),),
            )
            for line in lines
        ),
        (),
        documents={path: Document.of(path, text)},
    )


def fresh(found: Report, known: Baseline) -> int:
    return len(without(found, known, HOME, ROOT, ["VRAM101"]).report.findings)


KNOWN = baseline_of(report("x\n  batch=8\n", 2), HOME, ROOT)


def test_a_finding_that_moves_stays_known() -> None:
    assert fresh(report("x\ny\nz\nbatch=8\n", 4), KNOWN) == 0


def test_another_value_makes_it_new() -> None:
    assert fresh(report("x\n  batch=16\n", 2), KNOWN) == 1


def test_another_rule_or_file_makes_it_new() -> None:
    assert fresh(report("x\n  batch=8\n", 2, code="VRAM102"), KNOWN) == 1
    assert fresh(report("x\n  batch=8\n", 2, path="b.py"), KNOWN) == 1


def test_as_many_are_known_as_were_written_down() -> None:
    twice = report("batch=8\nbatch=8\n", 1, 2)
    assert fresh(twice, KNOWN) == 1
    assert fresh(twice, baseline_of(twice, HOME, ROOT)) == 0


def test_all_labels_are_evidence() -> None:
    found = report("model=a\nbatch=8\n", 2)
    both = replace(found.findings[0], labels=(*found.findings[0].labels, Label(Place("a.py", Span(1, 1, 1, 2)))))
    known = baseline_of(replace(found, findings=(both,)), HOME, ROOT)
    assert list(known.counts) == [Entry("VRAM101", "a.py", ("batch=8", "model=a"))]
    assert fresh(found, known) == 1


def test_what_is_gone_is_stale_where_somebody_looked() -> None:
    looked = without(report("x\n"), KNOWN, HOME, ROOT, ["VRAM101"])
    assert looked.stale == (Entry("VRAM101", "a.py", ("batch=8",)),)
    assert without(report("x\n", path="b.py"), KNOWN, HOME, ROOT, ["VRAM101"]).stale == ()
    assert without(report("x\n"), KNOWN, HOME, ROOT, ["VRAM102"]).stale == ()


def test_paths_count_from_the_baseline() -> None:
    deep = baseline_of(report("batch=8\n", 1, path="/project/sub/a.py"), "/project", "/elsewhere")
    assert [entry.path for entry in deep.counts] == ["sub/a.py"]
    beside = report("batch=8\n", 1, path="a.py")
    assert len(without(beside, deep, "/project", "/project/sub", []).report.findings) == 0


@given(
    st.dictionaries(
        st.builds(Entry, st.text(), st.text(), st.lists(st.text(), max_size=3).map(tuple)), st.integers(1, 9)
    )
)
def test_what_is_written_is_read(counts: dict[Entry, int]) -> None:
    assert read(write(Baseline(counts))).counts == counts


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{", '{"version": 2, "findings": []}', '{"version": 1}', '{"version": 1, "findings": [{}]}',
     '{"version": 1, "findings": [{"rule": "a", "path": "b", "count": 0, "evidence": []}]}',
     '{"version": 1, "findings": [{"rule": "a", "path": "b", "count": 1, "evidence": [1]}]}', "[" * 100_000],
)  # fmt: skip
def test_what_is_no_baseline(text: str) -> None:
    with pytest.raises(BaselineError):
        read(text)
