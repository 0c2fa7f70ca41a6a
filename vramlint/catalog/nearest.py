"""Did-you-mean."""

from __future__ import annotations

from collections.abc import Iterable


def nearest(word: str, choices: Iterable[str], count: int = 3, cutoff: float = 0.7) -> tuple[str, ...]:
    """Up to `count` of `choices` that resemble `word` (ignoring case), the most similar first.

    Similarity is that of difflib (0 to 1); below `cutoff` nothing is suggested.
    """
    from difflib import SequenceMatcher

    matcher = SequenceMatcher(autojunk=False)
    matcher.set_seq2(word.lower())
    scored: list[tuple[float, str]] = []
    for choice in choices:
        matcher.set_seq1(choice.lower())
        if matcher.real_quick_ratio() >= cutoff and matcher.quick_ratio() >= cutoff:
            score = matcher.ratio()
            if score >= cutoff:
                scored.append((score, choice))
    scored.sort(key=lambda pair: (-pair[0], pair[1]))
    return tuple(choice for _, choice in scored[:count])
