"""What the configurations of XTuner 0.x say that come with it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from types import MappingProxyType

from vramlint.catalog.frameworks import FOLDER
from vramlint.catalog.lines import DATA

_FILE = "xtuner_configs.tsv"


@cache
def packaged() -> Mapping[str, Mapping[str, object]]:
    """The keys that decide memory, nested, by the names that `xtuner train` takes: `llama3_8b_full_alpaca_e3`."""
    forms: dict[str, str] = {}
    found: dict[str, Mapping[str, object]] = {}
    for line in (DATA / FOLDER / _FILE).read_text(encoding="utf-8").splitlines():
        name, _, rest = line.partition("\t")
        if line.startswith("#") or not rest:
            continue
        if name.isdecimal():
            forms[name] = rest
        else:
            form, _, model = rest.partition("\t")
            found[name] = json.loads(forms[form].replace('"@"', json.dumps(model)))
    return MappingProxyType(found)
