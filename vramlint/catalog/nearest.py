"""Did-you-mean."""

from __future__ import annotations

from collections.abc import Iterable


def nearest(word: str, choices: Iterable[str], count: int = 3, cutoff: float = 0.7) -> tuple[str, ...]:
    """Up to `count` of `choices` that resemble `word` (ignoring case), the most similar first.

    Similarity is that of difflib (0 to 1); below `cutoff` nothing is suggested. Among equals those with the same
    letters come first: a swap is the likelier slip.
    """
    from difflib import SequenceMatcher

    matcher = SequenceMatcher(autojunk=False)
    matcher.set_seq2(word.lower())
    scored: list[tuple[float, float, str]] = []
    for choice in choices:
        matcher.set_seq1(choice.lower())
        if matcher.real_quick_ratio() >= cutoff and matcher.quick_ratio() >= cutoff:
            score = matcher.ratio()
            if score >= cutoff:
                scored.append((-score, -matcher.quick_ratio(), choice))
    return tuple(choice for _, _, choice in sorted(scored)[:count])
