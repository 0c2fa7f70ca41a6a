"""tools/surfaces/coverage.py: no table is without somebody who knows where it comes from."""

from __future__ import annotations

from fnmatch import fnmatchcase

from tools.surfaces.coverage import BY_HAND, files_of, source_of, uncovered
from tools.surfaces.registry import SOURCES
from vramlint.catalog.lines import DATA

FILES = sorted(path.relative_to(DATA).as_posix() for path in DATA.rglob("*.tsv"))


def test_every_table_has_a_source_or_a_reason_to_be_kept_by_hand():
    assert [*uncovered(FILES)] == []
    assert all(len(reason) > 20 for reason in BY_HAND.values())


def test_every_source_and_every_reason_is_of_a_table_that_is_there():
    patterns = [pattern for name in SOURCES for pattern in files_of(name)]

    assert [pattern for pattern in patterns if not any(fnmatchcase(file, pattern) for file in FILES)] == []
    assert sorted(BY_HAND.keys() - set(FILES)) == []


def test_a_table_that_nobody_knows_is_told():
    assert [*uncovered(["frameworks/verl.tsv", "frameworks/nobody.tsv", "gpus.tsv"])] == ["frameworks/nobody.tsv"]
    assert source_of("frameworks/openrlhf-dpo.tsv") == "openrlhf"
    assert source_of("gpus.tsv") == ""
