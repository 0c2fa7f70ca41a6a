"""Applying rules to one run: values in, findings out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType

from msgspec.structs import replace

from vramlint.catalog.frameworks import FRAMEWORKS
from vramlint.catalog.gpus import smallest_gpus
from vramlint.engine.causes import GIB, contributions, decisive, name_in_words, peak_labels
from vramlint.engine.names import Scope
from vramlint.engine.predicates import PREDICATES
from vramlint.engine.rule import OPEN, PEAK, Rule
from vramlint.engine.selection import RuleSet
from vramlint.engine.template import Template
from vramlint.estimate import Estimate, Reach
from vramlint.facts import Fact, FactValue, Remark, Repair
from vramlint.findings import Change, Finding, Fix, Label, Step
from vramlint.job import Gpu, Job
from vramlint.resolve.run import Run
from vramlint.text import Edit, Place, Span
from vramlint.values import Problem

Planner = Callable[[Run, Job, Gpu], Fix | None]
"""`fixes.plan` with the simulator bound."""
Scaler = Callable[[Job, Gpu], int | None]
"""`fixes.scaling.gpus_needed` with the simulator bound."""
Writer = Callable[[Run, Mapping[str, FactValue]], tuple[str, tuple[Edit, ...]] | None]
"""Says changed facts in the vocabulary of the run's files: (description, edits), None where no file can say them."""
Mender = Callable[[Remark], Step | None]
"""The edits that take away what a remark is about; None where there are none."""


def check(
    run: Run,
    estimates: Sequence[Estimate],
    rules: RuleSet,
    planner: Planner | None = None,
    headroom: float = 0.95,
    scaler: Scaler | None = None,
    reach: Reach | None = None,
    writer: Writer | None = None,
    mender: Mender | None = None,
) -> tuple[Finding, ...]:
    """What the rules find in one run.

    Args:
        run: the run, with its remarks.
        estimates: those of `run.jobs`, in the same order; empty when nothing could be simulated.
        rules: the rules that run.
        planner: looks for the cheapest plan that fits; None to offer none.
        headroom: fraction of the usable memory above which a run is close to the limit.
        scaler: counts the GPUs that the run would fit on; None to say nothing of it.
        reach: what shorter rows need; None where the data has no say in it, or the low end fits.
        writer: makes edits of the facts that a rule's fixes change; None for words alone.
        mender: makes edits for remarks; None to offer none.
    """
    scope = Scope.of(run, estimates, headroom, reach)
    found: list[Finding] = []
    silent: set[str] = set()
    for rule in _by_precedence(rules.rules):
        if rule.code in silent:
            continue
        finding = _of_run(rule, scope, estimates, planner, scaler, writer)
        if finding is not None:
            found.append(finding)
            silent.update(rule.supersedes)
    # a rule that has spoken about the run's facts has nothing to add about the keys that say them
    done = silent | {finding.code for finding in found}
    for remark in run.remarks:
        for rule in rules.rules:
            if reports(rule, remark) and rule.code not in done:
                found.append(_of_remark(rule, scope._replace(remark=remark), mender))
    return unique(found)


def check_problems(problems: Iterable[Problem], rules: RuleSet, mender: Mender | None = None) -> tuple[Finding, ...]:
    """Findings for files, or parts of files, that could not be read."""
    return check_remarks(map(as_remark, problems), rules, mender)


_REPAIRS: Mapping[str, Repair] = MappingProxyType(
    {"duplicate-key": Repair(safe=True, once=True), "json-extension": Repair(safe=True, strict=True)}
)
"""What takes a problem of a file away, by its kind: no reader then says anything else than before."""


def as_remark(problem: Problem) -> Remark:
    """The problem in the form that rules report."""
    return Remark(problem.kind, problem.place.path, problem.message, problem.place, repair=_REPAIRS.get(problem.kind))


def check_remarks(remarks: Iterable[Remark], rules: RuleSet, mender: Mender | None = None) -> tuple[Finding, ...]:
    """Findings for remarks that belong to no run."""
    return unique(
        _of_remark(rule, Scope(remark=remark), mender)
        for remark in remarks
        for rule in rules.rules
        if reports(rule, remark)
    )


def unique(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """The findings without repetitions: several runs may say the same, and one finding then names them all."""
    seen: dict[tuple[object, ...], Finding] = {}
    for finding in findings:
        key = (finding.code, finding.message, finding.labels)
        first = seen.setdefault(key, finding)
        if finding.jobs != first.jobs:
            seen[key] = replace(first, jobs=tuple(dict.fromkeys((*first.jobs, *finding.jobs))))
    return tuple(seen.values())


def _by_precedence(rules: Iterable[Rule]) -> list[Rule]:
    """A rule goes before those that it silences, and so after those that silence it; else by code."""
    rules = tuple(rules)
    silenced = {rule.code: frozenset(rule.supersedes) for rule in rules}
    grown = True
    while grown:
        wider = {code: found.union(*(silenced.get(other, ()) for other in found)) for code, found in silenced.items()}
        grown, silenced = wider != silenced, wider
    return sorted(rules, key=lambda rule: (-len(silenced[rule.code]), rule.code))


def reports(rule: Rule, remark: Remark) -> bool:
    """Whether the rule reports the remark."""
    vocabulary = _FRAMEWORKS if remark.vocabulary in FRAMEWORKS else remark.vocabulary
    return remark.kind in rule.on and _among(vocabulary, rule.vocabularies)


_FRAMEWORKS = "frameworks"
"""How a rule's `vocabularies` call all frameworks with a vocabulary of their own."""


def _among(word: str, words: tuple[str, ...]) -> bool:
    """Whether a rule's list takes the word: an empty list takes all, `!word` all but that word."""
    if f"!{word}" in words:
        return False
    return word in words or all(other.startswith("!") for other in words)


def applies(rule: Rule, scope: Scope) -> str | None:
    """What the rule's predicate says of the run, empty for a rule that has none; None where the rule is silent."""
    if scope.run is None or scope.run.kind not in rule.runs or (rule.when is None and not rule.predicate):
        return None
    if rule.when is not None and rule.when.evaluate(scope.lookup) is not True:
        return None
    return PREDICATES[rule.predicate](scope) if rule.predicate else ""


def _of_run(
    rule: Rule,
    scope: Scope,
    estimates: Sequence[Estimate],
    planner: Planner | None,
    scaler: Scaler | None,
    writer: Writer | None,
) -> Finding | None:
    run, detail = scope.run, applies(rule, scope)
    if run is None or detail is None:
        return None
    scope = scope._replace(detail=detail)
    about_memory = PEAK in rule.point
    plan = _plan(run, estimates, planner) if rule.plan else None
    larger = _larger_gpus(scope) if rule.plan and (plan is None or not plan.fits) else ()
    more = _more_gpus(run, estimates, scaler) if rule.plan and not (plan and plan.fits and _keeps(plan)) else ()
    notes = (*_lines(rule.notes, scope), *(_open_notes(run, estimates) if OPEN in rule.point else ()))
    return Finding(
        rule.code,
        rule.name,
        rule.severity,
        rule.message.render(scope.lookup),
        _labels(rule, scope, run),
        notes,
        (*_lines(rule.help, scope), *_remedies(rule), *larger, *more),
        plan or _rewritten(rule, run, writer),
        scope.high if about_memory else None,
        scope.low if about_memory and scope.low is not scope.high else None,
        jobs=(run.name,) if run.launched else (),
    )


def _rewritten(rule: Rule, run: Run, writer: Writer | None) -> Change | None:
    """The first of the rule's own fixes that the run's files can say."""
    for fix in rule.fixes:
        written = writer(run, dict(fix.changes)) if writer is not None else None
        if written is not None and written[1]:
            description, edits = written
            return Change((Step(description, 0, fix.cost, fix.safe, edits),))
    return None


def _of_remark(rule: Rule, scope: Scope, mender: Mender | None) -> Finding:
    remark = scope.remark
    if remark is None:
        raise ValueError("a remark rule was applied without a remark")
    step = mender(remark) if mender is not None else None
    # "did you mean" says it already
    said = (f"{step.description}{f' ({step.cost})' if step.cost else ''}",) if step and not remark.suggestion else ()
    # a rule that looks at facts too words its message for them; the remark then speaks for itself
    both = rule.when is not None or rule.predicate
    return Finding(
        rule.code,
        rule.name,
        rule.severity,
        remark.message if both else rule.message.render(scope.lookup),
        (Label(remark.place, f"did you mean `{remark.suggestion}`?" if remark.suggestion else "", primary=True),),
        _lines(rule.notes, scope),
        (*_lines(rule.help, scope), *_remedies(rule), *said),
        Change((step,)) if step else None,
    )


def _lines(templates: Iterable[Template], scope: Scope) -> tuple[str, ...]:
    """The lines whose fields are all known: one that would say `unknown` says nothing."""
    rendered = (template.render_known(scope.lookup) for template in templates)
    return tuple(line for line in rendered if line)


def _remedies(rule: Rule) -> tuple[str, ...]:
    return tuple(f"{fix.description}{f' ({fix.cost})' if fix.cost else ''}" for fix in rule.fixes)


def _labels(rule: Rule, scope: Scope, run: Run) -> tuple[Label, ...]:
    labels: list[Label] = []
    for name in rule.point:
        if name == PEAK:
            labels += peak_labels(run, scope.high) if scope.high else ()
        elif name == OPEN:
            labels += (
                _label(rule, scope, fact)
                for fact in map(run.get, decisive(run, scope.estimates))
                if fact and fact.place
            )
        else:
            fact = run.get(name)
            labels += [_label(rule, scope, fact)] if fact and fact.place else []
    distinct: dict[Place, Label] = {}
    for label in labels:
        distinct.setdefault(label.place, label)
    if not distinct:
        return (Label(run.anchor or top_of(run.path), primary=True),)
    return tuple(replace(label, primary=index == 0) for index, label in enumerate(distinct.values()))


def _label(rule: Rule, scope: Scope, fact: Fact) -> Label:
    template = rule.labels.get(fact.name)
    place = fact.place
    if place is None:
        raise ValueError(f"fact {fact.name} has no place to label")
    if template is not None:
        return Label(place, template.render(scope.lookup))
    several = " or ".join(dict.fromkeys(str(candidate.value) for candidate in fact.candidates))
    return Label(place, f"{name_in_words(fact.name)} may be {several}" if len(fact.candidates) > 1 else "")


_WORTH_SAYING = GIB // 200
"""Less of a range than this prints as 0.00 GiB."""


def _open_notes(run: Run, estimates: Sequence[Estimate]) -> tuple[str, ...]:
    """What every open fact adds to the range, those that matter."""
    return tuple(
        f"{name_in_words(name)} is open{_reason(run.get(name))} and accounts for {size / GIB:.2f} GiB of the range"
        for name, size in contributions(run, estimates)
        if size >= _WORTH_SAYING
    )


def _reason(fact: Fact | None) -> str:
    return f" ({fact.reason})" if fact is not None and fact.reason else ""


def _plan(run: Run, estimates: Sequence[Estimate], planner: Planner | None) -> Fix | None:
    """A plan for the job that needs the most: what fits it fits all.

    The high end of a run with an unresolved value (a sequence as long as the model takes) is no run that anybody
    means: a plan that doesn't even fit it is no advice.
    """
    if planner is None or run.gpu is None or not estimates:
        return None
    fix = planner(run, run.jobs[_worst(estimates)], run.gpu)
    unsettled = run.unresolved or _SHARED.intersection(run.open_facts)
    return None if fix is not None and unsettled and not fix.fits else fix


_SHARED_SIZE = "world_size"
_SHARED = frozenset({_SHARED_SIZE, "parallelism"})
"""Facts that only the launch settles."""


def _worst(estimates: Sequence[Estimate]) -> int:
    return max(range(len(estimates)), key=lambda index: estimates[index].device_high)


def _keeps(fix: Fix) -> bool:
    """Whether a plan leaves the training's result as it is."""
    return all(step.safe for step in fix.steps)


def _more_gpus(run: Run, estimates: Sequence[Estimate], scaler: Scaler | None) -> tuple[str, ...]:
    """Where a plan would change the result, or there is none: how many GPUs of the kind it takes."""
    if scaler is None or run.gpu is None or not estimates or _SHARED_SIZE in run.open_facts:
        return ()
    count = scaler(run.jobs[_worst(estimates)], run.gpu)
    return (f"on {count} {run.gpu.name} it fits unchanged, as they share its states",) if count else ()


def _larger_gpus(scope: Scope) -> tuple[str, ...]:
    """Where no change is enough: the smallest devices on which the run fits as it is."""
    if scope.high is None or scope.high.method != "simulated":
        return ()
    jobs = scope.run.jobs if scope.run else ()
    bf16 = any(job.precision.bf16 for job in jobs)
    names = ", ".join(gpu.name for gpu in smallest_gpus(scope.high.device_high, bf16=bf16))
    return (f"the smallest common GPUs on which it fits unchanged: {names}",) if names else ()


def top_of(path: str) -> Place:
    """The first character of a file, for findings that have no better place."""
    return Place(path, Span(1, 1, 1, 1))
