from __future__ import annotations

from pathlib import Path

import pytest

from tests.surfaces.frameworks.explained import Explained


@pytest.fixture
def explained(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Explained:
    return Explained(tmp_path, capsys, monkeypatch)
