"""What stands for values that only run time knows."""

from __future__ import annotations

import pytest

from vramlint.resolve.assume import in_words


@pytest.mark.parametrize(
    ("reason", "said"),
    [
        (
            "attribute model_name_or_path of trl.ModelConfig (line 9)",
            "command line: --model_name_or_path, an option of ModelConfig (line 9)",
        ),
        ("attribute model of own.Settings (line 9)", "attribute model of own.Settings (line 9)"),
        ("positional argument 1 of run.sh", "positional argument 1 of run.sh"),
    ],
)
def test_an_attribute_of_a_librarys_arguments_is_an_option(reason: str, said: str) -> None:
    assert in_words(reason) == said
