"""Regular expressions that are compiled when they are first used: a run uses a tenth of the 350 that modules name."""

from __future__ import annotations

import re
from typing import AnyStr, cast

_METHODS = ("match", "search", "fullmatch", "finditer", "findall", "split", "sub", "subn")


class _Lazy:
    """Stands for a pattern; from the first use on its methods are those of the compiled one and cost no more."""

    def __init__(self, source: str | bytes, flags: int) -> None:
        self._source = source
        self._flags = flags

    def __getattr__(self, name: str) -> object:
        if name.startswith("__"):
            raise AttributeError(name)
        compiled: re.Pattern[str] | re.Pattern[bytes] = re.compile(self._source, self._flags)
        vars(self).update({method: getattr(compiled, method) for method in _METHODS})
        return getattr(compiled, name)


def lazy(source: AnyStr, flags: int = 0) -> re.Pattern[AnyStr]:
    """What `re.compile` gives, to be called by its methods; functions of `re` do not take it.

    Raises:
        re.error: at the first use, when `source` is no regular expression.
    """
    return cast("re.Pattern[AnyStr]", _Lazy(source, flags))
