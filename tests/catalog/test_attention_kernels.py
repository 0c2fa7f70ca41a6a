from __future__ import annotations

import pytest

from vramlint.catalog.attention_kernels import supports


@pytest.mark.parametrize(
    ("model_type", "implementation", "transformers", "taken"),
    [
        ("llama", "sdpa", (4, 35, 2), False),
        ("llama", "sdpa", (4, 36, 0), True),
        ("bert", "sdpa", (4, 40, 2), False),
        ("bert", "sdpa", (5, 23, 0), True),
        ("bert", "flash_attention_2", (4, 57, 1), False),
        ("gpt_neox", "flash_attention_2", (4, 36, 2), True),
        ("bloom", "sdpa", (5, 23, 0), False),
        ("bloom", "eager", (4, 30, 0), True),
        ("chatglm", "sdpa", (5, 23, 0), None),
    ],
)
def test_what_classes_take(
    model_type: str, implementation: str, transformers: tuple[int, ...], taken: bool | None
) -> None:
    assert supports(model_type, implementation, transformers) is taken
