"""No list of words makes reading raise, whatever parses it."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.readers.python.commandline import test_argparse, test_configs, test_dataclass_parsers, test_functions
from tests.readers.python.commandline.starting import started
from vramlint.values import Alternatives, Option, Scalar, Unknown, Value

FILES = {**test_configs.FILES, "configurator.py": test_configs.CONFIGURATOR, "x": "a", "c.yaml": "lora_r: 1\nbf16: [1"}

_SAMPLES = """
    -- - -b -vv4 --model --model= --lora_r --lora_r=x --no_bf16 --bf16 --config --config=c.yaml c.yaml train -c
    model=llama +a.b=1 ++a= ~model ~a.b a.[0]=3 optim.lr=${a} x=${x} optim=[1 'a {"a": --targets 'a,b' [q,v] {a:1}
    --optim.lr --nofast --kwargs {} 1e999 -1e5 --pair 1 2 @x --size None --batch_size=1e-3 ${a} --help -h
    config/small.py --optim optim.betas=(1 model/x=1 hydra.run.dir=.
"""
TEXTS = st.one_of(st.text(max_size=6), st.sampled_from(_SAMPLES.split()))
PLAIN = TEXTS.map(Scalar)
WORDS = st.lists(
    st.one_of(
        PLAIN,
        st.sampled_from(["", "--model=", "--", "optim.lr="]).map(lambda prefix: Unknown("environment X", None, prefix)),
        st.lists(PLAIN, min_size=2, max_size=3).map(
            lambda items: Alternatives(tuple(Option(item, f"case {index}") for index, item in enumerate(items)))
        ),
    ),
    max_size=8,
)

SCRIPTS = {
    "argparse": test_argparse.SCRIPT,
    "hf": test_dataclass_parsers.HF,
    "trl": test_dataclass_parsers.TRL,
    "fire": test_functions.FIRE.format(run="fire.Fire()"),
    "tyro": test_functions.NESTED + "\n    use(tyro.cli(Config))\n",
    "simple": test_functions.NESTED + "\n    use(simple_parsing.parse(Config))\n",
    "hydra": test_configs.HYDRA,
    "globals": test_configs.OVERRIDDEN,
}


@pytest.mark.parametrize("name", SCRIPTS)
@settings(max_examples=40, deadline=None)
@given(words=WORDS)
def test_any_words(name: str, words: list[Value]) -> None:
    started(SCRIPTS[name], tuple(words), FILES)
