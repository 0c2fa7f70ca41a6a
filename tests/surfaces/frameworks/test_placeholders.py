"""Files that are templates: what is filled in later is unknown, and no error."""

from __future__ import annotations

import pytest

from vramlint.facts import Origin
from vramlint.surfaces.frameworks import framework_of
from vramlint.surfaces.frameworks.reading import read_config
from vramlint.surfaces.frameworks.writing import read_data
from vramlint.text import Document

TEXT = """\
base_model: {model}
sequence_len: {value}
micro_batch_size: 2
trust_remote_code: {value}
"""


def _read(model, value):
    root = read_data(Document.of("config.yml", TEXT.format(model=model, value=value))).root
    return read_config(framework_of("axolotl"), "config.yml", root)


@pytest.mark.parametrize(
    "value", ["${SEQUENCE_LEN}", "$SEQUENCE_LEN", "'{{ length }}'", "'???'", "<length>", "'%(length)s'"]
)
def test_what_is_filled_in_is_unknown_and_no_wrong_type(value):
    sheet = _read("gpt2", value)

    assert sheet.remarks == ()
    fact = sheet.get("sequence_length")
    assert (fact.origin, fact.candidates) == (Origin.UNKNOWN, ())
    assert "filled in before the file is read" in fact.reason
    assert sheet.get("micro_batch_size").value == 2


def test_a_name_with_a_variable_inside_stays_text():
    assert _read("org/$MODEL-7b", 512).get("model").value == "org/$MODEL-7b"
