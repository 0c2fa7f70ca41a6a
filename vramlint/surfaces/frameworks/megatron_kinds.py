"""Which of Megatron's models the flags are for."""

from __future__ import annotations

from vramlint.surfaces.frameworks.framework import Config
from vramlint.surfaces.launch.framework_programs import PROGRAM


def is_t5(config: Config) -> bool:
    """Whether it is pretrain_t5.py's encoder and decoder."""
    named = "t5" in config.text(PROGRAM)
    return named or config.given("decoder_seq_length") or (config.given("encoder_seq_length") and not is_bert(config))


def is_bert(config: Config) -> bool:
    """Whether it is pretrain_bert.py's encoder."""
    if config.given("decoder_seq_length") or "gpt" in config.text(PROGRAM):
        return False
    return "bert" in config.text(PROGRAM) or config.given("bert_no_binary_head") or "/bert/" in f"/{config.path}"
