"""What becomes of the arguments of an optimizer."""

from __future__ import annotations

import pytest

from tests.resolve.making import LLAMA, run, script, written
from vramlint.job import Optimizer

KNOWN = (written("micro_batch_size", 1), written("sequence_length", 512), written("load_dtype", "float32"))


def optimizer(name: str, arguments: str, key: str = "optim_args", transformers: str = "5.23.0") -> Optimizer:
    facts = (written("optimizer", name), written("optimizer_arguments", arguments, key=key))
    (job,) = run(script(LLAMA, *KNOWN, *facts), transformers=transformers).jobs
    return job.optimizer


def test_low_rank_optimizers_get_theirs() -> None:
    found = optimizer("galore_adamw", "rank=64, proj_type=right")

    assert found.arguments == {"rank": "64", "proj_type": "right"}


def test_target_modules_and_weight_decay_reach_the_job() -> None:
    facts = (written("optimizer_target_modules", ("mlp",)), written("weight_decay", 0.1))
    (job,) = run(script(LLAMA, *KNOWN, written("optimizer", "galore_adamw"), *facts)).jobs

    assert (job.optimizer.target_modules, job.optimizer.weight_decay) == (("mlp",), 0.1)


@pytest.mark.parametrize(
    ("transformers", "read"), [("4.57.6", {}), ("5.2.0", {}), ("5.3.0", {"momentum": "0.9", "nesterov": "True"})]
)
def test_torch_optimizers_get_theirs_since_transformers_5_3(transformers: str, read: dict[str, str]) -> None:
    found = optimizer("sgd", "momentum=0.9,nesterov=True", transformers=transformers)

    assert found.arguments == read


def test_the_trainer_drops_what_it_does_not_read() -> None:
    assert optimizer("adamw_torch", "amsgrad=True").arguments == {}


def test_what_a_call_gives_is_given() -> None:
    assert optimizer("adamw_torch", "amsgrad=True,foreach=False", key="AdamW").arguments == {
        "amsgrad": "True",
        "foreach": "False",
    }
