"""Functions that are run once and recorded again: the log of a step is what it is without that, event for event."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from msgspec.structs import replace

from vramlint.job import (
    Adapter,
    Attention,
    Batch,
    Checkpointing,
    Evaluation,
    Job,
    Libraries,
    Model,
    Objective,
    Optimizer,
    Parallelism,
    Precision,
    Zero,
)
from vramlint.memory import rehearsal, trace
from vramlint.memory.autograd import Engine
from vramlint.memory.checkpoint import nonreentrant, reentrant
from vramlint.memory.leaves import capture
from vramlint.memory.ops import delta_net
from vramlint.memory.ops import elementwise as e
from vramlint.memory.recorder import Recorder
from vramlint.memory.rehearsal import Function
from vramlint.memory.remembered import forget, remembered
from vramlint.memory.tape import Tape
from vramlint.memory.tensor import Gradients, Tensor
from vramlint.memory.timeline import Timeline

CONFIG: dict[str, Any] = {
    "hidden_size": 128,
    "intermediate_size": 256,
    "num_hidden_layers": 8,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 32,
    "vocab_size": 1000,
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "linear_key_head_dim": 16,
    "linear_value_head_dim": 32,
    "num_experts": 4,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 64,
    "shared_expert_intermediate_size": 64,
}
UNCACHED = Attention("sdpa", use_cache=False)
SHAPE = (64, 1024)
PLAIN = Job(Model("small", "qwen3_5_text", CONFIG), batch=Batch(2, 300, 3), attention=UNCACHED)
OLD, MIDDLE = Libraries(transformers=(4, 57, 0)), Libraries(transformers=(5, 16, 0))
NON, REENTRANT = Checkpointing("nonreentrant"), Checkpointing("reentrant")
LORA = Adapter(8, 0.1, "all-linear")


def of(model_type: str, **overrides: Any) -> Job:
    return replace(PLAIN, model=Model("small", model_type, CONFIG), **overrides)


JOBS = {
    "plain": PLAIN,
    "by two products": of("qwen3_next"),
    "experts": of("qwen3_5_moe_text", checkpointing=NON),
    "one row": replace(PLAIN, batch=Batch(1, 64)),
    "padded": replace(PLAIN, batch=Batch(3, 200, padding=True)),
    "many chunks": replace(PLAIN, batch=Batch(1, 64 * 70), adapter=LORA),
    "cached": replace(PLAIN, attention=Attention("sdpa")),
    "checkpointed": replace(PLAIN, checkpointing=NON),
    "checkpointed to the end": replace(PLAIN, checkpointing=replace(NON, stops_early=False)),
    "every other layer": replace(PLAIN, checkpointing=replace(NON, every_n_layers=2)),
    "selective": replace(PLAIN, checkpointing=replace(NON, selective=True)),
    "on the host": replace(PLAIN, checkpointing=replace(NON, offload=True)),
    "reentrant": replace(PLAIN, checkpointing=REENTRANT),
    "bfloat16": of("qwen3_next", checkpointing=NON, precision=Precision("bfloat16")),
    "mixed": of("qwen3_next", checkpointing=NON, precision=Precision("float32", "bfloat16")),
    "scaled": replace(PLAIN, precision=Precision("float32", "float16", True)),
    "adapted": replace(PLAIN, adapter=LORA, precision=Precision("bfloat16"), optimizer=Optimizer("adamw_bnb_8bit")),
    "adapted, checkpointed": replace(
        PLAIN, adapter=LORA, precision=Precision("bfloat16", "bfloat16"), checkpointing=NON
    ),
    "adapted, reentrant": replace(PLAIN, adapter=LORA, precision=Precision("bfloat16"), checkpointing=REENTRANT),
    "row by row": replace(PLAIN, libraries=OLD),
    "row by row, interleaved": of("qwen3_next", libraries=OLD, precision=Precision("float32", "bfloat16")),
    "row by row, checkpointed": of("qwen3_next", libraries=OLD, checkpointing=NON),
    "row by row, reentrant": of("qwen3_next", libraries=MIDDLE, checkpointing=REENTRANT),
    "by hand": replace(PLAIN, objective=Objective(loop="script")),
    "cached, by hand": replace(PLAIN, attention=Attention("sdpa"), objective=Objective(loop="script")),
    "cached, row by row": of("qwen3_next", attention=Attention("sdpa"), libraries=OLD),
    "cached, adapted": replace(PLAIN, attention=Attention("sdpa"), adapter=LORA, precision=Precision("bfloat16")),
    "cached, checkpointed": replace(PLAIN, attention=Attention("sdpa"), checkpointing=NON),
    "evaluated": replace(PLAIN, evaluation=Evaluation(4, True)),
    "evaluated, cached": of("qwen3_next", evaluation=Evaluation(4, False), attention=Attention("sdpa")),
    "DDP": replace(PLAIN, parallelism=Parallelism(2, "ddp"), checkpointing=NON),
    "ZeRO 2": replace(PLAIN, parallelism=Parallelism(2, "deepspeed", Zero(2)), precision=Precision("bfloat16")),
    "ZeRO 3": replace(PLAIN, parallelism=Parallelism(2, "deepspeed", Zero(3)), checkpointing=NON),
    "FSDP": replace(PLAIN, parallelism=Parallelism(2, "fsdp"), checkpointing=REENTRANT),
    "optimizer in backward": replace(PLAIN, optimizer=Optimizer("lomo"), batch=Batch(2, 300)),
}


def directly(tape: Tape, function: Function, inputs: Sequence[Tensor], **options: object) -> Sequence[Tensor | None]:
    return function(tape, *inputs, **options)


@pytest.fixture(autouse=True)
def nothing_remembered() -> Iterator[None]:
    forget()
    yield
    forget()


@pytest.mark.parametrize("job", JOBS.values(), ids=JOBS)
def test_a_step_is_logged_as_if_every_layer_ran(job: Job, monkeypatch: pytest.MonkeyPatch):
    """Whether it is run for the first time or comes back, and where a dispatch mode looks on."""
    monkeypatch.setattr(rehearsal, "thinned", lambda events, *_: events)
    recorded, again, observed = trace(job), trace(job), trace(job, observed=True)
    monkeypatch.setattr(delta_net, "remembered", directly)
    direct = trace(job)

    assert_same_log(recorded, direct)
    assert_same_log(again, direct)
    assert_same_log(observed, trace(job, observed=True))
    assert again.estimate(reserved=False) == direct.estimate(reserved=False)


@pytest.mark.parametrize("job", JOBS.values(), ids=JOBS)
def test_what_long_loops_leave_out_changes_no_peak(job: Job, monkeypatch: pytest.MonkeyPatch):
    thin = trace(job)
    monkeypatch.setattr(delta_net, "remembered", directly)
    direct = trace(job)

    assert thin.events <= direct.events
    assert thin.estimate(reserved=False) == direct.estimate(reserved=False)


def test_long_loops_leave_out_most_and_reserve_as_much(monkeypatch: pytest.MonkeyPatch):
    config = CONFIG | {"linear_num_value_heads": 16, "linear_key_head_dim": 128, "linear_value_head_dim": 128}
    job = replace(JOBS["many chunks"], model=Model("wide", "qwen3_5_text", config), checkpointing=NON)
    thin = trace(job)
    monkeypatch.setattr(delta_net, "remembered", directly)
    direct = trace(job)

    assert thin.events < direct.events / 2
    assert thin.estimate().reserved == pytest.approx(direct.estimate().reserved, rel=0.002)


def assert_same_log(found: Any, expected: Any) -> None:
    log, wanted = found.recorder, expected.recorder
    assert log.sizes == wanted.sizes
    assert log.labels == wanted.labels
    assert [block.events for block in log.blocks] == [block.events for block in wanted.blocks]


def gated(tape: Tape, x: Tensor, gate: Tensor, *, times: int) -> tuple[Tensor, Tensor | None]:
    """Saves what it is given, what it makes in between and what it gives; the last of it all is dropped."""
    for _ in range(times):
        x = e.mul(tape, x, e.unary_of_result(tape, "sigmoid", gate))
    e.unary(tape, "silu", x)
    return e.unary_of_result(tape, "tanh", x), None


def handing_on(tape: Tape, x: Tensor, gate: Tensor, *, times: int) -> tuple[Tensor, Tensor | None]:
    """Both get the gradient as it comes, and one of them is added to it."""
    for _ in range(times):
        x = e.add(tape, x, gate)
    return e.add(tape, x, gate), None


def keeping(tape: Tape, x: Tensor, gate: Tensor, *, times: int) -> tuple[Tensor, Tensor | None]:
    """Leaves something behind."""
    tape.lifetimes.keep(e.mul(tape, x, gate))
    return e.add(tape, x, gate), None


class Run:
    """One forward and backward of a layer that calls a function twice; `ends` with it, or with another operator."""

    def __init__(self, function: Function, mode: str, call: Any, *, ends: bool, shared: bool) -> None:
        self.recorder = Recorder()
        self.recorder.begin("step")
        tape = self.tape = Tape(self.recorder)
        self.function, self.call, self.ends = function, call, ends
        self.arrived: list[Gradients] = [[], []]
        inputs = [tape.empty(SHAPE, "float32", "input") for _ in range(2)]
        for x, arrived in zip(inputs, self.arrived, strict=True):
            capture(tape, x, arrived)
        checkpoints = {
            "plain": lambda: self.layer(*inputs),
            "nonreentrant": lambda: nonreentrant(tape, self.layer, tuple(inputs), Checkpointing("nonreentrant")),
            "to the end": lambda: nonreentrant(
                tape, self.layer, tuple(inputs), Checkpointing("nonreentrant", stops_early=False)
            ),
            "reentrant": lambda: reentrant(tape, self.layer, tuple(inputs), offload=False),
        }
        (out,) = checkpoints[mode]()
        del x
        inputs.clear()
        gradient = tape.empty(out.shape, out.dtype, "ones")
        held = gradient if shared else None
        holder: Gradients = [gradient]
        del gradient
        Engine(tape).run(out, holder)
        del held, out

    def layer(self, x: Tensor, gate: Tensor) -> tuple[Tensor, ...]:
        """Residual connections around both calls."""
        tape = self.tape
        for times in (2, 3):
            inputs = [e.linear_unary(tape, "neg", given) for given in (x, gate)]
            made, _ = self.call(tape, self.function, inputs, times=times)
            inputs.clear()
            x = made if times == 3 and self.ends else e.add(tape, x, made)
        return (x,)

    @property
    def peak(self) -> int:
        return Timeline(self.recorder.blocks, self.recorder.sizes, 0).peaks()["step"].bytes


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("ends", [False, True])
@pytest.mark.parametrize("mode", ["plain", "nonreentrant", "to the end", "reentrant"])
@pytest.mark.parametrize("function", [gated, handing_on])
def test_whatever_is_around_it(function: Function, mode: str, ends: bool, shared: bool):
    direct = Run(function, mode, directly, ends=ends, shared=shared)
    recorded = Run(function, mode, remembered, ends=ends, shared=shared)

    assert recorded.recorder.sizes == direct.recorder.sizes
    assert recorded.peak == direct.peak
    events, expected = recorded.recorder.blocks[0].events, direct.recorder.blocks[0].events
    assert sorted(events) == sorted(expected)
    if not (mode == "nonreentrant" and ends):  # what a stopped recomputation unwinds goes in another order
        assert events == expected
    assert [len(arrived) for arrived in recorded.arrived] == [1, 1]


def test_what_leaves_something_behind_is_refused():
    with pytest.raises(RuntimeError, match="leaves more behind"):
        Run(keeping, "plain", remembered, ends=False, shared=False)


def with_carry(tape: Tape, x: Tensor, gate: Tensor) -> tuple[Tensor, Tensor | None]:
    """Hands on a second result, for which it saves something that the first one does not need."""
    for _ in range(3):
        x = e.mul(tape, x, e.unary_of_result(tape, "sigmoid", gate))
    return e.unary_of_result(tape, "tanh", x), e.unary(tape, "silu", e.unary_of_result(tape, "exp", x))


@pytest.mark.parametrize("dropped", ["first", "last", "with it", "never differentiated"])
def test_what_a_further_result_keeps_goes_with_it(dropped: str):
    """Before or after the backward of the first; nobody differentiates it."""
    logs = []
    for call in (directly, remembered):
        recorder = Recorder()
        recorder.begin("step")
        tape = Tape(recorder)
        inputs = [tape.empty(SHAPE, "float32", "input") for _ in range(2)]
        gathered: list[Gradients] = [[], []]
        for x, arrived in zip(inputs, gathered, strict=True):
            capture(tape, x, arrived)
        del x, arrived
        out, carry = call(tape, with_carry, inputs)
        inputs.clear()
        if dropped in {"first", "never differentiated"}:
            carry = None
        assert out is not None
        if dropped != "never differentiated":
            Engine(tape).run(out, [tape.empty(SHAPE, "float32", "ones")])
        levels = [recorder.alive()]
        if dropped == "last":
            carry = None
            levels.append(recorder.alive())
        del out
        levels.append(recorder.alive())
        del carry
        gathered.clear()
        levels.append(recorder.alive())
        logs.append((levels, recorder.sizes, sorted(recorder.blocks[0].events)))

    assert logs[0] == logs[1]
    assert logs[0][0][-1] == 0


def test_a_further_result_is_not_differentiated():
    recorder = Recorder()
    recorder.begin("step")
    tape = Tape(recorder)
    x, gate = (tape.empty(SHAPE, "float32", "input") for _ in range(2))
    capture(tape, x, [])
    _, carry = remembered(tape, with_carry, (x, gate))

    with pytest.raises(RuntimeError, match="another result"):
        Engine(tape).run(carry, [tape.empty(SHAPE, "float32", "ones")])


def test_a_graph_that_nobody_differentiates_frees_what_it_saved():
    recorder = Recorder()
    recorder.begin("step")
    tape = Tape(recorder)
    x, gate = (tape.empty(SHAPE, "float32", "input") for _ in range(2))
    gathered: Gradients = []
    capture(tape, x, gathered)
    before = recorder.alive()
    out, _ = remembered(tape, gated, (x, gate), times=4)
    assert recorder.alive() > before
    del out

    assert recorder.alive() == before
