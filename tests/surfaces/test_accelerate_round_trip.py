"""Write a fact of Accelerate's configuration, read it back: equal, and all else as it was."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from vramlint.readers.yaml import read_yaml
from vramlint.surfaces.accelerate_config import accelerate_sheet
from vramlint.surfaces.writing import write
from vramlint.text import Document, apply_edits
from vramlint.values import Table

ZERO = """\
compute_environment: LOCAL_MACHINE   # mine
deepspeed_config:
  gradient_accumulation_steps: 4
  gradient_clipping: 1.0
  offload_optimizer_device: none
  offload_param_device: none    # not yet
  zero3_save_16bit_model: false
  zero_stage: 2
distributed_type: DEEPSPEED
mixed_precision: 'bf16'
num_machines: 1
num_processes: 8
"""
SHARDED = """\
distributed_type: FSDP
fsdp_config:
  fsdp_version: 2
  fsdp_activation_checkpointing: true  # slow
mixed_precision: bf16
num_machines: 1
num_processes: 8
"""
CASES = st.one_of(
    st.tuples(st.just(ZERO), st.just("zero_stage"), st.integers(0, 3)),
    st.tuples(st.just(ZERO), st.just("gradient_accumulation_steps"), st.integers(1, 512)),
    st.tuples(
        st.just(ZERO), st.sampled_from(["offload_optimizer", "offload_parameters"]), st.sampled_from(["cpu", "nvme"])
    ),
    st.tuples(st.just(ZERO), st.just("gather_16bit_on_save"), st.booleans()),
    st.tuples(st.sampled_from([ZERO, SHARDED]), st.just("world_size"), st.integers(1, 4096)),
    st.tuples(st.just(SHARDED), st.just("activation_checkpointing"), st.booleans()),
)


def _facts(document: Document):
    root = read_yaml(document).root
    assert isinstance(root, Table)
    return accelerate_sheet(document.path, root).facts


@given(CASES, st.sampled_from(["\n", "\r\n"]))
def test_a_written_fact_reads_back(case, end):
    text, name, value = case
    document = Document.of("accelerate.yaml", text.replace("\n", end))

    said = write({name: value}, _facts(document), None, {document.path: document})

    assert said is not None
    written = apply_edits(document, said.edits)
    assert next(fact for fact in _facts(Document.of(document.path, written)) if fact.name == name).value == value
    before, after = document.text.split(end), written.split(end)
    assert len(before) == len(after)
    assert sum(old != new for old, new in zip(before, after, strict=True)) <= 1
