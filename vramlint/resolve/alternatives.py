"""Facts of a run that may be told by one of several files: which, a condition of its program decides."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from msgspec import Struct
from msgspec.structs import replace

from vramlint.facts import Candidate, Fact, FactValue, Link, Remark

CONTRADICTING = "contradicting-values"


class Alternative(Struct, frozen=True):
    """What holds under a condition."""

    condition: str
    facts: Mapping[str, Fact]
    defaults: Mapping[str, FactValue]
    """What facts are that this file leaves to its library."""
    remarks: tuple[Remark, ...] = ()


def choices_of(named: Fact | None, links: Sequence[Link]) -> Sequence[tuple[str, Link]]:
    """Conditions and the file under each, where a condition decides between all that are named."""
    by_name = {link.target: link for link in links}
    items = named.candidates if named is not None else ()
    decided = [(item.condition, by_name[str(item.value)]) for item in items if str(item.value) in by_name]
    return decided if len(decided) == len(items) and all(condition for condition, _ in decided) else ()


def either(alternatives: Sequence[Alternative]) -> dict[str, Fact]:
    """The facts over all alternatives, each value under the condition of its own."""
    names = dict.fromkeys(name for one in alternatives for name in one.facts)
    return {name: _either(name, alternatives) for name in names}


def _either(name: str, alternatives: Sequence[Alternative]) -> Fact:
    said = [one.facts[name] for one in alternatives if name in one.facts]
    if len(said) == len(alternatives) and all(fact == said[0] for fact in said):
        return said[0]
    unknown = next((fact for fact in said if not fact.candidates), None)
    if unknown is not None:
        return unknown
    found: list[Candidate] = []
    for one in alternatives:
        fact = one.facts.get(name)
        items = fact.candidates if fact is not None else (Candidate(one.defaults.get(name)),)
        found += [replace(item, condition=item.condition or one.condition) for item in items]
    if all(item.value == found[0].value for item in found):
        return said[0]
    return replace(said[0], candidates=tuple(found))


def remarks_of(alternatives: Sequence[Alternative]) -> tuple[Remark, ...]:
    """What is odd in the files; that one contradicts the arguments, only where each does."""
    contradicted = [{remark.subject for remark in one.remarks if remark.kind == CONTRADICTING} for one in alternatives]
    always = set.intersection(*contradicted)
    return tuple(
        remark
        for one in alternatives
        for remark in one.remarks
        if remark.kind != CONTRADICTING or remark.subject in always
    )
