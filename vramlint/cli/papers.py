"""What is written about a rule, for SARIF and `vramlint rule`."""

from __future__ import annotations

from vramlint.engine.rule import Rule
from vramlint.report.view import RuleInfo

_HEADINGS = (
    ("What it checks", "checks"),
    ("Why it matters", "why"),
    ("What to do", "remedy"),
    ("Options", "options"),
)


def rule_info(rule: Rule) -> RuleInfo:
    """The rule's papers for a renderer."""
    return RuleInfo(rule.code, rule.name, rule.severity.value, rule.summary, page(rule))


def level(rule: Rule) -> str:
    """The severity, and whether somebody has to ask for the rule."""
    return f"{rule.severity.value}, optional" if rule.optional else rule.severity.value


def page(rule: Rule) -> str:
    """The rule's page as Markdown: prose, an example that fails, one that passes, references."""
    parts = [f"# {rule.code} {rule.name}", f"{rule.summary} ({level(rule)})"]
    for heading, name in _HEADINGS:
        text: str = getattr(rule.explanation, name).strip()
        parts += [f"## {heading}", text] if text else []
    for heading, examples in (("Example that fails", rule.failing), ("Example that passes", rule.passing)):
        for example in examples[:1]:
            parts += [f"## {heading}", example.title] if example.title else [f"## {heading}"]
            parts += [f"`{path}`\n\n```{_language(path)}\n{text.rstrip()}\n```" for path, text in example.files]
    if rule.references:
        parts += ["## References", "\n".join(f"- {reference}" for reference in rule.references)]
    return "\n\n".join(parts) + "\n"


def _language(path: str) -> str:
    suffix = path.rsplit(".", 1)[-1]
    return {"py": "python", "yml": "yaml"}.get(suffix, suffix)
