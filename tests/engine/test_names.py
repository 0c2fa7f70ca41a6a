import pytest
from msgspec.structs import replace

from tests.engine.builders import GPU, estimate, fact, place, run
from vramlint.engine.expression import UNKNOWN
from vramlint.engine.names import NAMES, Scope
from vramlint.estimate import Reach
from vramlint.facts import Remark
from vramlint.job import Adapter, Job, Model, Parallelism, Quantization, Zero


def test_every_name_can_be_read() -> None:
    job = Job(
        Model("m", "llama"),
        adapter=Adapter(),
        quantization=Quantization(),
        parallelism=Parallelism(2, "deepspeed", Zero()),
        gpu=GPU,
    )
    subject = replace(run(fact("bf16", True, line=1), jobs=(job,)), ram=1, nvme=1)
    scope = Scope(subject, estimate(1), estimate(2), Remark("unknown-key", "a", "b", place(1)), 0.95)
    scope = scope._replace(reach=Reach(estimate(0.5), 128))
    always = {"true", "false", "null", "settings.headroom", "predicate.detail"}
    for name in NAMES:
        assert name.startswith("origin.") or name in always or Scope().lookup(name) is UNKNOWN
        if not name.startswith(("facts.", "reason.", "versions.")):
            assert scope.lookup(name) is not UNKNOWN, name
    assert scope.lookup("facts.bf16") is True
    assert scope.lookup("origin.bf16") == "written"
    assert scope.lookup("reason.bf16") is UNKNOWN
    assert scope.lookup("run.get") is UNKNOWN


def test_a_job_value_on_which_the_jobs_differ_is_unknown() -> None:
    jobs = (Job(Model("m", "llama")), Job(Model("m", "llama"), adapter=Adapter()))
    scope = Scope(run(jobs=jobs))
    assert scope.lookup("job.adapter.r") is UNKNOWN
    assert scope.lookup("job.model.name") == "m"
    assert scope.lookup("job.parallelism.zero.stage") is None


def test_the_shortest_rows_count_where_the_data_decides() -> None:
    scope = Scope(run(), estimate(3), estimate(4))
    assert scope.lookup("estimate.shortest") == scope.lookup("estimate.low.device_low")
    assert scope.lookup("estimate.fitting_length") is UNKNOWN
    scope = scope._replace(reach=Reach(estimate(1), 128))
    assert scope.lookup("estimate.shortest") == estimate(1).device_low
    assert scope.lookup("estimate.fitting_length") == 128


@pytest.mark.parametrize(
    "name", ["tuning", "parallelism", "deepspeed_config", "accelerate_config", "attention_implementation"]
)
def test_a_run_is_settled_once_nothing_open_makes_it_much_smaller(name: str) -> None:
    assert Scope(run(unresolved=("sequence_length",))).lookup("run.settled") is True
    assert Scope(run(unresolved=(name,))).lookup("run.settled") is False
