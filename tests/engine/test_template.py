import pytest

from vramlint.engine.expression import UNKNOWN
from vramlint.engine.template import TemplateError, parse

VALUES = {
    "gpu.name": "RTX 3090",
    "gpu.usable_bytes": 25_430_000_000,
    "gpu.compute_capability": (8, 6),
    "estimate.low.total_parameters": 6_738_415_616,
    "run.unresolved": ("model", "sequence_length"),
    "gpu.bf16": True,
    "remark.suggestion": "",
    "gpu.id": UNKNOWN,
    "estimate.low.ram": UNKNOWN,
}


@pytest.mark.parametrize(
    ("text", "rendered"),
    [
        ("{gpu.name} has {gpu.usable_bytes:gib}", "RTX 3090 has 23.68 GiB"),
        ("{estimate.low.total_parameters:count} parameters", "6,738,415,616 parameters"),
        ("sm {gpu.compute_capability:version}", "sm 8.6"),
        ("open: {run.unresolved}", "open: model, sequence_length"),
        ("open: {run.unresolved:words}", "open: model, sequence length"),
        ("{estimate.low.ram:gib}", "unknown"),
        ("{gpu.bf16} {{literal}}", "true {literal}"),
    ],
)
def test_rendering(text: str, rendered: str) -> None:
    assert parse(text).render(VALUES.__getitem__) == rendered


@pytest.mark.parametrize("text", ["did you mean {remark.suggestion}?", "{gpu.id}"])
def test_a_line_that_would_say_nothing_is_left_out(text: str) -> None:
    assert parse(text).render_known(VALUES.__getitem__) is None


@pytest.mark.parametrize(
    "text", ["{", "}", "{gpu.nam}", "{gpu.name!r}", "{gpu.name.__class__}", "{gpu.name:>99999999}", "{}"]
)
def test_refused(text: str) -> None:
    with pytest.raises(TemplateError):
        parse(text)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("{gpu.name:gib}", "the form 'gib' is for a number, gpu.name is text"),
        ("{gpu.bf16:count}", "the form 'count' is for a number, gpu.bf16 is true or false"),
        ("{estimate.low.ram:version}", "the form 'version' is for a list of numbers"),
        ("{estimate.low.ram:gb}", "unknown form 'gb' of estimate.low.ram, did you mean 'gib'?"),
        ("{estimate.low.ram:x}", "unknown form 'x' of estimate.low.ram; there are text, words"),
        ("{estimate.low.rom}", "did you mean 'estimate.low.ram'?"),
    ],
)
def test_why_it_is_refused(text: str, complaint: str) -> None:
    with pytest.raises(TemplateError) as caught:
        parse(text)
    assert complaint in str(caught.value)
