"""Megatron-Core's T5Model on one rank (NVIDIA/Megatron-LM@d98e8a6 megatron/core/models/T5, examples/t5/pretrain_t5.py).

Encoder and decoder have equally many layers: both are built from `num_layers`, which `encoder_num_layers` sets
(megatron/training/arguments.py, validate_args).
"""

from __future__ import annotations

from collections.abc import Mapping

from vramlint.job import Batch
from vramlint.memory.architectures.family import Config, Outputs
from vramlint.memory.architectures.megatron import GPTModel
from vramlint.memory.architectures.megatron_layers import Layers
from vramlint.memory.ops import megatron
from vramlint.memory.refusal import NotFollowedError
from vramlint.memory.regime import Regime
from vramlint.memory.tape import Tape
from vramlint.memory.tensor import Shape, Tensor
from vramlint.memory.weights import Builder


class T5Model(GPTModel):
    """One tensor-parallel rank's part of both stacks below a shared head."""

    def build_layers(self, build: Builder, config: Config) -> None:
        """Both stacks and the norms behind them.

        Raises:
            NotFollowedError: stages are to share them (pretrain_t5.py refuses it, too).
        """
        if not (self.first and self.last):
            raise NotFollowedError("an encoder and decoder on several stages")
        self.encoder = Layers(config, self.group, name="encoder")
        self.encoder.build(build)
        self.encoder_norm = self.encoder.norm(build, "encoder.final_layernorm")
        self.layers = Layers(config, self.group, stack=1)
        self.layers.build(build, crosses=True)
        self.final_norm = self.layers.norm(build, "decoder.final_layernorm")

    @property
    def has_head_bias(self) -> bool:
        """A bias comes with the shared weight (T5LMHead)."""
        return self.tied

    def inputs(self, batch: Batch) -> Mapping[str, tuple[Shape, str]]:
        """What get_batch makes of a sample: Megatron's own attention has masks over all pairs of tokens."""
        rows, source = batch.micro_batch_size, batch.sequence_length
        target = batch.target_length or source
        shapes: dict[str, tuple[Shape, str]] = {
            "input_ids": ((rows, source), "int64"),
            "encoder_mask": ((rows, source), "int64"),
            "loss_mask": ((rows, target), "float32"),
        }
        shapes |= dict.fromkeys(("decoder_input_ids", "labels", "decoder_mask"), ((rows, target), "int64"))
        if self.layers.local:
            pairs = {"encoder": (source, source), "decoder": (target, target), "encoder_decoder": (target, source)}
            shapes |= {f"{name}_pairs": ((rows, 1, *shape), "bool") for name, shape in pairs.items()}
        return shapes

    def outputs(self, tape: Tape, regime: Regime, batch: Mapping[str, Tensor]) -> Outputs:
        """T5Model.forward: the loss of every target token."""
        encoded = self.encoder(tape, regime, [self.embed(tape, batch["input_ids"])])
        encoded = megatron.norm(tape, encoded, self.encoder_norm)
        hidden = self.layers(tape, regime, [self.embed(tape, batch["decoder_input_ids"])], encoded)
        hidden = megatron.norm(tape, hidden, self.final_norm)
        return Outputs(self.loss(tape, hidden), [], tape.lifetimes.taken_cache())
