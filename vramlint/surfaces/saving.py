"""Where a program brings the whole state dict of a model together that FSDP shards: on every GPU, or on the host.

torch 2.13 distributed/fsdp/api.py, FullStateDictConfig: parameters stay on the device, of every rank, unless
`offload_to_cpu` says otherwise; distributed/checkpoint/state_dict.py, StateDictOptions: likewise by `cpu_offload`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType

from msgspec import Struct

from vramlint.facts import Candidate, Fact, Origin
from vramlint.surfaces.convert import CONVERTERS
from vramlint.surfaces.draft import Arguments, Drawn, draw, options
from vramlint.surfaces.lineage import last
from vramlint.values import Call, Name, Scalar, Value

_FACT = "state_dict_on_host"
_WRAPPER = "FullyShardedDataParallel"
_WRAPPERS = (_WRAPPER, "fully_shard")


class _Form(Struct, frozen=True):
    """A call that says how a state dict is made."""

    position: int
    """Of the argument that holds its options."""
    keyword: str
    switch: str
    """Of these options: the one that moves what is gathered to the host."""


_FORMS: Mapping[str, _Form] = MappingProxyType(
    {
        "state_dict_type": _Form(2, "state_dict_config", "offload_to_cpu"),
        "set_state_dict_type": _Form(2, "state_dict_config", "offload_to_cpu"),
        "get_model_state_dict": _Form(9, "options", "cpu_offload"),
        "get_state_dict": _Form(9, "options", "cpu_offload"),
    }
)
"""By the last part of the callee; 9: it is no positional argument."""


def saving_facts(calls: Sequence[Call]) -> Iterable[Drawn]:
    """`state_dict_on_host`, where the program gathers a whole state dict.

    Args:
        calls: of the program, in the order in which it makes them.
    """
    wrapped = {call.place: last(call.callee) for call in calls if _is_of_torch(call) and last(call.callee) in _WRAPPERS}
    if not wrapped:
        return
    said = [call for call in calls if last(call.callee) in _FORMS and (call.receiver is None or _is_of_torch(call))]
    for call in said:
        fact = _whole(call, _FORMS[last(call.callee)])
        if fact is not None:
            yield fact
            return
    for call in calls if not said else ():
        made = call.receiver
        if call.callee == ".state_dict" and isinstance(made, Call) and wrapped.get(made.place) == _WRAPPER:
            yield _default(call, "state_dict")
            return


def _is_of_torch(call: Call) -> bool:
    return call.callee.startswith("torch.")


def _whole(call: Call, form: _Form) -> Drawn:
    """What a call says that makes a whole state dict; None of other calls, and of one with unknown options."""
    given = call.argument(form.keyword, form.position)
    if given is not None and len(options(given)) > 1:
        return None
    config = given if isinstance(given, Call) else None
    if given is not None and config is None:
        return None
    if not _is_whole(call, config):
        return None
    if config is None:
        return _default(call, form.switch)
    switch = Arguments.of(config).find(form.switch)
    value = config.argument(form.switch, 0 if form.switch == "offload_to_cpu" else 1)
    if value is None:
        return None if config.open_keywords else _default(config, form.switch)
    place = switch.name_place if switch is not None else config.place
    return draw(_FACT, value, CONVERTERS["flag"], form.switch, place)


def _is_whole(call: Call, config: Call | None) -> bool:
    if last(call.callee) in ("get_model_state_dict", "get_state_dict"):
        return config is not None and _is_true(config.argument("full_state_dict", 0))
    kind = call.argument("state_dict_type", 1)
    return isinstance(kind, Name) and last(kind.qualified) == "FULL_STATE_DICT"


def _is_true(value: Value | None) -> bool:
    return isinstance(value, Scalar) and value.value is True


def _default(call: Call, key: str) -> Fact:
    return Fact(_FACT, (Candidate(False, call.place),), Origin.DEFAULT, key, "library", "torch")
