"""The largest value of a setting that fits, and what one change alone would do."""

from __future__ import annotations

from vramlint.api.planning import Planning
from vramlint.cost.pace import pace, slowdown_between
from vramlint.fixes.axes import ALLOWANCES, Option, axes_of, find_option, needs
from vramlint.fixes.largest import MICRO_BATCH, SETTINGS, keeping, largest
from vramlint.fixes.moves import Move
from vramlint.plans import Fitting, Largest, Plan, WhyNot


def maximized(planning: Planning, name: str) -> Largest | None:
    """The largest value of a setting with which the job fits; None where it has no such setting."""
    setting, job = SETTINGS[name], planning.job
    now = setting.now(job)
    if now is None:
        return None
    most, why = setting.most(job)
    step = setting.step
    lost = 0

    def fits(value: int) -> bool:
        found = planning.within(setting.change(job, value), planning.target - lost)
        return found.method == "simulated" and found.device_high <= planning.target - lost

    value = largest(step, now, most, fits)
    while value is not None:
        found = planning.simulate(setting.change(job, value))
        if planning.runs(found):
            break
        lost = max(1, lost + found.device_need - planning.target)
        value = largest(step, value - step, value - step, fits) if value > step else None
    if value is None:
        return Largest(name, now, None)
    kept = keeping(job, value) if name == MICRO_BATCH else value
    plan = _plan_of(planning, name, kept) if kept != now else None
    return Largest(name, now, value, plan, why if value > most - step else "")


def _plan_of(planning: Planning, name: str, value: int) -> Plan:
    """The plan that writes the value."""
    setting, job = SETTINGS[name], planning.job
    changed = setting.change(job, value)
    found = planning.simulate(changed)
    move = Move(
        f"{name}-{value}", 0, True, f"{name.replace('-', ' ')} {value}", "",
        lambda _job, _gpu: True, lambda _: changed, lambda before: setting.facts(before, value),
    )  # fmt: skip
    before, after = pace(job, planning.tensors(job)), pace(changed, planning.tensors(changed))
    result = "" if name == MICRO_BATCH else _RESULTS[name]
    plan = Plan((), found.device_need, slowdown_between(before, after), 0)
    return planning.told(plan, (Option(move, result=result),))


_RESULTS = {"seq-len": "samples are cut later", "lora-rank": "adapters have another rank"}


def explained(planning: Planning, name: str, known: Fitting) -> WhyNot:
    """What one change alone would do, and why the first plan leaves it out."""
    option = find_option(name, axes_of(planning.job, ALLOWANCES.keys(), planning.gpus))
    if option is None:
        return WhyNot(name, name, "this job has no such setting to change")
    move, job = option.move, planning.job
    if not move.applies(job, planning.gpu):
        return WhyNot(name, move.words, f"it does not apply: it takes {needs(move.name)}")
    before, changed = planning.tensors(job), move.change(job)
    after = planning.tensors(changed)
    if after.method != "simulated":
        return WhyNot(name, move.words, f"what it makes is not simulated: {after.why}")
    slowdown = slowdown_between(pace(job, before), pace(changed, after))
    need, alone = planning.simulate(job).device_need, planning.simulate(changed).device_need
    return WhyNot(name, move.words, _reason(option, known, alone, planning), need, alone, slowdown, option.result)


def _reason(option: Option, known: Fitting, alone: int, planning: Planning) -> str:
    """Why it is no part of the first plan."""
    first = known.plans[0] if known.plans else None
    if known.status == "fits":
        return "the job fits without it"
    if first is not None and any(change.name == option.move.name for change in first.changes):
        return "it is part of plan 1"
    if option.allow and option.allow not in planning.allowed:
        return f"plans take it with --allow {option.allow} only"
    if planning.closed & option.move.facts(planning.job).keys():
        return "the run's framework has no setting for it"
    if alone >= known.need:
        return "it takes nothing off the peak here"
    if first is not None and option.alters > first.alters:
        return "plan 1 fits and leaves the training's result as it is" if not first.alters else "plan 1 changes less"
    return "plan 1 fits with less slowdown or fewer edits" if first is not None else "it is not enough"
