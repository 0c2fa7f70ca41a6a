"""Rounds of fixes: what is made together, what is taken back, and that there is an end."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec.structs import replace

from tests.report import samples
from vramlint.api.fixing import Disk, fix
from vramlint.discovery.forms import form_of
from vramlint.findings import Change, Finding, Label, Report, Severity, Step
from vramlint.text import Document, Edit, Place

FILES = {"a.yaml": b"x: 1\ny: 1\nz: 1\n", "b.yaml": b"x: 1\n"}
DISK = Disk(FILES.get, lambda path: path.removeprefix("./"), form_of)


def finding(document: Document, old: str, new: str, code: str = "VRAM801") -> Finding:
    """One whose fix replaces the only `old`."""
    start = document.text.index(old)
    place = Place(document.path, document.span(start, start + len(old)))
    step = Step(new, 0, "", safe=True, edits=(Edit(place, new),))
    return Finding(code, "any", Severity.ERROR, old, (Label(place, primary=True),), fix=Change((step,)))


class Linter:
    """Finds texts, and has others to put in their place; `reaction` is what else follows from the files."""

    def __init__(self, *fixes: tuple[str, str, str], names: Mapping[str, str] | None = None) -> None:
        self.fixes = fixes
        self.calls = 0
        self.names = names or {}

    def __call__(self, changed: Mapping[str, bytes]) -> Report:
        self.calls += 1
        documents = {
            name: Document.of(name, changed.get(self.names.get(name, name), FILES[self.names.get(name, name)]).decode())
            for name in (*FILES, *self.names)
        }
        found = tuple(
            finding(documents[path], old, new) for path, old, new in self.fixes if old in documents[path].text
        )
        return Report(found, (), documents=documents)


def test_edits_of_several_files_are_made_in_one_round() -> None:
    check = Linter(("a.yaml", "x: 1", "x: 2"), ("a.yaml", "z: 1", "z: 2"), ("b.yaml", "x: 1", "x: 3"))
    fixed = fix(check, DISK, unsafe=False)
    assert fixed.changed == {"a.yaml": b"x: 2\ny: 1\nz: 2\n", "b.yaml": b"x: 3\n"}
    assert (check.calls, len(fixed.made), fixed.report.fixed, fixed.settled) == (2, 3, 3, True)


def test_of_fixes_that_disagree_the_first_wins_and_the_other_is_seen_again() -> None:
    check = Linter(("a.yaml", "x: 1", "x: 2"), ("a.yaml", "1\ny: 1", "5\ny: 5"), ("a.yaml", "y: 1", "y: 3"))
    fixed = fix(check, DISK, unsafe=False)
    assert fixed.changed == {"a.yaml": b"x: 2\ny: 3\nz: 1\n"}
    assert fixed.settled


def test_one_file_under_two_names_is_changed_once() -> None:
    check = Linter(("a.yaml", "x: 1", "x: 2"), ("./a.yaml", "x: 1", "x: 2"), names={"./a.yaml": "a.yaml"})
    assert fix(check, DISK, unsafe=False).changed == {"a.yaml": b"x: 2\ny: 1\nz: 1\n"}


def test_fixes_that_undo_each_other_come_to_an_end() -> None:
    check = Linter(("a.yaml", "x: 1", "x: 2"), ("a.yaml", "x: 2", "x: 1"))
    fixed = fix(check, DISK, unsafe=False)
    assert not fixed.settled
    assert check.calls < 5


def test_what_makes_something_worse_is_taken_back_and_the_rest_is_made() -> None:
    class Strict(Linter):
        def __call__(self, changed: Mapping[str, bytes]) -> Report:
            report = super().__call__(changed)
            bad = b"y: 2" in changed.get("a.yaml", b"")
            high = replace(samples.high, allocated=samples.high.allocated + bad)
            job = replace(JOB, high=high)
            return replace(report, jobs=(job,))

    check = Strict(("a.yaml", "x: 1", "x: 2"), ("a.yaml", "y: 1", "y: 2"), ("a.yaml", "z: 1", "z: 2"))
    fixed = fix(check, DISK, unsafe=False)
    assert fixed.changed == {"a.yaml": b"x: 2\ny: 1\nz: 2\n"}
    assert fixed.settled


JOB = next(job for job in samples.report.jobs if job.high is not None)


def test_unsafe_fixes_are_made_when_they_are_asked_for() -> None:
    class Unsafe(Linter):
        def __call__(self, changed: Mapping[str, bytes]) -> Report:
            report = super().__call__(changed)
            found = tuple(
                replace(item, fix=Change((replace(item.fix.steps[0], safe=False),)))
                for item in report.findings
                if item.fix
            )
            return replace(report, findings=found)

    assert fix(Unsafe(("a.yaml", "x: 1", "x: 2")), DISK, unsafe=False).changed == {}
    assert fix(Unsafe(("a.yaml", "x: 1", "x: 2")), DISK, unsafe=True).changed == {"a.yaml": b"x: 2\ny: 1\nz: 1\n"}


def test_an_edit_that_cannot_be_made_is_told() -> None:
    disk = replace(DISK, load=lambda path: None)
    fixed = fix(Linter(("b.yaml", "x: 1", "x: 2")), disk, unsafe=False)
    assert [item.message for item in fixed.failed] == ["there is no such file"]
    assert (fixed.changed, fixed.made) == ({}, ())
